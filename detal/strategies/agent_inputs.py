"""What the agent sees of the candidates, and the table that rewards it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray
from torch import Tensor

from detal.agents import Seen
from detal.errors import ConfigError, unknown_name
from detal.features import aggregate
from detal.features.expected_objects import expected_objects
from detal.strategies.candidates import Candidates
from detal.structures import Detections

__all__ = ["acquisition_scores", "seen_of", "trust_column"]


def seen_of(
    candidates: Candidates, *, costs: NDArray[np.float64], trust: NDArray[np.float64] | None
) -> Seen:
    """The candidates as a policy sees them.

    Args:
        candidates: P images.
        costs: (P,) > 0, in the unit of the budget.
        trust: (P,) 0..1, or None.
    """
    with_features = candidates.image_features is not None
    return Seen(
        costs=costs,
        objects=expected_objects(candidates.chunks(), num_images=len(candidates)),
        num_classes=len(candidates.class_names),
        image_features=candidates.require_features("mgral") if with_features else None,
        acquisition=np.column_stack([candidates.map(score) for score in _ACQUISITION]),
        trust=trust,
    )


def acquisition_scores(detections: Detections) -> NDArray[np.float64]:
    """(B, 3) summed and mean doubt ``4 p (1 - p)`` of the boxes, and their highest score."""
    return np.column_stack([score(detections).numpy() for score in _ACQUISITION])


def _doubt(seen: Detections) -> Tensor:
    # In float64: what is summed must not depend on the chunk.
    return 4 * seen.scores.double() * (1 - seen.scores.double())


_ACQUISITION: tuple[Callable[[Detections], Tensor], ...] = (
    lambda seen: aggregate(_doubt(seen), seen, how="sum"),
    lambda seen: aggregate(_doubt(seen), seen, how="mean"),
    lambda seen: aggregate(seen.scores, seen, how="max", empty_score=0.0),
)


def trust_column(candidates: Candidates, column: str) -> NDArray[np.float64]:
    """(P,) the trust that a column of the metadata holds, in 0..1.

    Raises:
        ConfigError: If there is no such column, or it does not hold numbers.
        DataError: If one is out of range, naming the image.
    """
    known = candidates.metadata
    if known is None or column not in known.columns:
        columns = [] if known is None else known.columns
        raise ConfigError(unknown_name("metadata column", column, columns))
    if not known[column].dtype.is_numeric():
        raise ConfigError(f"trust must be a column of numbers, {column} is {known[column].dtype}")
    values = np.asarray(known[column].cast(pl.Float64).fill_null(np.nan), dtype=np.float64)
    candidates.refuse(~((values >= 0) & (values <= 1)), "trust must be a number in [0, 1]")
    return values
