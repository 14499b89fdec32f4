"""Faults inside the process: each changes what runs there for good, so call it in a fork only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

import detal.loop.study
import detal.runs.select
from detal.detectors import Prepared
from detal.detectors.predictions import _PredictionsDetector as Detector
from detal.structures import Detections

_predict = Detector.predict


def _answers(change: Callable[[Detections], Detections]) -> None:
    """Change what the detector says about the sixth batch and all later ones."""
    batches = 0

    def predict(self: Detector, batch: Sequence[Prepared]) -> Detections:
        nonlocal batches
        batches += len(batch) > 0
        found = _predict(self, batch)
        return change(found) if batches > 5 else found

    Detector.predict = predict  # type: ignore[method-assign]


def _no_memory_for(most: int) -> None:
    def predict(self: Detector, batch: Sequence[Prepared]) -> Detections:
        if len(batch) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return _predict(self, batch)

    Detector.predict = predict  # type: ignore[method-assign]


def _fails(error: BaseException) -> Callable[..., Any]:
    def fail(*_args: object, **_options: object) -> Any:
        raise error

    return fail


def _train_without_memory() -> None:
    fail = _fails(torch.OutOfMemoryError("CUDA out of memory."))
    setattr(detal.loop.study, "train_detector", fail)  # noqa: B010


def _select_without_memory() -> None:
    setattr(detal.runs.select, "describe", _fails(MemoryError()))  # noqa: B010


INJECTIONS: dict[str, Callable[[], None]] = {
    "a detector that gives NaN": lambda: _answers(
        lambda found: replace(found, logits=found.logits * float("nan"))
    ),
    "a detector that gives no answer": lambda: _answers(lambda found: found.take([])),
    "no memory for a batch": lambda: _no_memory_for(2),
    "no memory for an image": lambda: _no_memory_for(0),
    "no memory for a training": _train_without_memory,
    "no memory for the report": _select_without_memory,
}
