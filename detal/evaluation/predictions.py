"""Detections as evaluation reads them: packed NumPy arrays, no logits and no features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detal.errors import DataError
from detal.structures import Annotations, Detections

__all__ = ["Predictions", "check_pair"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Predictions:
    """Scored boxes of P images, packed; rows follow the images of the ground truth.

    Attributes:
        offsets: (P + 1,) int64, from 0 to N, not decreasing.
        boxes: (N, 4) xyxy in pixels, float32 as the ground truth is: a box rounded on one side only
            can fall just below an IoU threshold that it meets exactly.
        scores: (N,) float32 or float64; any order within an image.
        labels: (N,) int64 in 0..C-1.
    """

    offsets: Array
    boxes: Array
    scores: Array
    labels: Array

    def __post_init__(self) -> None:
        n = len(self.boxes)
        if len(self.offsets) == 0 or self.offsets[0] != 0 or self.offsets[-1] != n:
            raise DataError(f"offsets must run from 0 to {n} (rows of boxes)")
        if (np.diff(self.offsets) < 0).any():
            raise DataError("offsets must not decrease")
        for name in ("scores", "labels"):
            if len(getattr(self, name)) != n:
                raise DataError(f"{name} must have {n} rows, got {len(getattr(self, name))}")
        bad = ~(np.isfinite(self.boxes).all(axis=1) & np.isfinite(self.scores))
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise DataError(
                f"predicted boxes and scores must be finite, got {self.boxes[row].tolist()} with "
                f"score {self.scores[row]} in row {row}"
            )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def image_index(self) -> NDArray[np.int64]:
        """(N,) the image (0..P-1) of each box."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def take(self, index: Sequence[int] | Array) -> Predictions:
        """The predictions of the images ``index`` (K,), in that order; repeats are allowed."""
        index = np.asarray(index, dtype=np.int64)
        counts = np.diff(self.offsets)[index]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][index] - offsets[:-1], counts)
        return Predictions(offsets, self.boxes[rows], self.scores[rows], self.labels[rows])

    @staticmethod
    def from_detections(detections: Detections) -> Predictions:
        """What evaluation needs of a detector's output."""
        return Predictions(
            offsets=detections.offsets.cpu().numpy(),
            boxes=detections.boxes.float().cpu().numpy(),
            scores=detections.scores.float().cpu().numpy(),
            labels=detections.labels.cpu().numpy(),
        )

    @staticmethod
    def from_lists(
        boxes: Sequence[ArrayLike], scores: Sequence[ArrayLike], labels: Sequence[ArrayLike]
    ) -> Predictions:
        """Pack one (n, 4) xyxy array, one (n,) score array and one (n,) label array per image."""
        flat = [np.asarray(b, dtype=np.float32).reshape(-1, 4) for b in boxes]
        counts = np.array([len(b) for b in flat], dtype=np.int64)
        return Predictions(
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            boxes=np.concatenate([np.zeros((0, 4), np.float32), *flat]),
            scores=np.concatenate([np.zeros(0), *map(np.asarray, scores)]),
            labels=np.concatenate([np.zeros(0, np.int64), *map(np.asarray, labels)]).astype(
                np.int64
            ),
        )


def check_pair(annotations: Annotations, predictions: Predictions, *, num_classes: int) -> None:
    """Check that ground truth and predictions speak of the same images and classes.

    Raises:
        DataError: If they do not.
    """
    if len(annotations) != len(predictions):
        raise DataError(
            f"predictions must cover the {len(annotations)} annotated images, got "
            f"{len(predictions)} images"
        )
    for name, labels in (("annotated", annotations.labels), ("predicted", predictions.labels)):
        if len(labels) and not (labels.min() >= 0 and labels.max() < num_classes):
            wrong = labels[(labels < 0) | (labels >= num_classes)][0]
            raise DataError(f"{name} labels must lie in 0..{num_classes - 1}, got {wrong}")
