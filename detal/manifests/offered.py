"""The boxes of a batch, image by image, as every format states them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from detal.manifests.batch import PIXEL_DIGITS, SCORE_DIGITS, Batch

__all__ = ["Offered", "offered_boxes", "stated_fields"]


@dataclass(frozen=True)
class Offered:
    """One pre-annotation.

    Attributes:
        name: Its class.
        box: xyxy in pixels.
        score: In [0, 1].
    """

    name: str
    box: tuple[float, float, float, float]
    score: float


def offered_boxes(batch: Batch) -> Iterator[list[Offered]]:
    """The pre-annotations of each image of a batch, in order."""
    seen = batch.detections
    boxes = seen.boxes.numpy().astype(np.float64).round(PIXEL_DIGITS).tolist()
    scores = [round(score, SCORE_DIGITS) for score in seen.scores.tolist()]
    names = [batch.class_names[label] for label in seen.labels.tolist()]
    offered = [
        Offered(name, (x1, y1, x2, y2), score)
        for name, (x1, y1, x2, y2), score in zip(names, boxes, scores, strict=True)
    ]
    for start, stop in itertools.pairwise(seen.offsets.tolist()):
        yield offered[start:stop]


def stated_fields(batch: Batch, row: int) -> dict[str, Any]:
    """What identifies an image and says why it is there.

    A score that the strategy does not have is None.
    """
    score = float(batch.selection.scores[row])
    return {
        "detal_image_id": batch.images[row].image_id,
        "detal_rank": row + 1,
        "detal_score": None if math.isnan(score) else float(f"{score:.6g}"),
        "detal_reason": batch.selection.reasons[row],
    }
