"""Measures that read further forward passes beside the detector's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from detal.errors import ConfigError
from detal.strategies.candidates import Candidates, Chunk
from detal.structures import Detections

__all__ = ["PassMeasure", "map_passes"]

PassMeasure = Callable[[Detections, Sequence[Detections]], Tensor]
"""(B,) numbers from the detections of B images and what each further pass says about them."""


def map_passes(
    candidates: Candidates, names: Sequence[str], measure: PassMeasure
) -> NDArray[np.float64]:
    """(P,) float64 ``measure`` of every image, chunk by chunk, as `Candidates.map`.

    Args:
        candidates: The pool.
        names: Further passes, in the order in which ``measure`` gets them.
        measure: What to compute.

    Raises:
        ConfigError: If a pass is not there.
        DataError: As `Candidates.map`.
    """
    missing = [name for name in names if name not in candidates.passes]
    if missing:
        raise ConfigError(
            f"the strategy needs the further passes {', '.join(names)}, there is no "
            f"{', '.join(missing)}: use a strategy that needs one pass only (entropy, margin)"
        )
    others: list[Detections] = []

    def chunks() -> Iterator[Chunk]:
        for index, detections in candidates.chunks():
            others[:] = [candidates.passes[name](index) for name in names]
            yield index, detections

    return replace(candidates, chunks=chunks).map(lambda detections: measure(detections, others))
