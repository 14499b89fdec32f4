"""Detections from a few numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from detal.structures import Detections

Box = tuple[int, float]  # label, score


def detections_of(
    images: Sequence[Sequence[Box]],
    *,
    num_classes: int = 3,
    features: np.ndarray | None = None,
    size: float = 100.0,
) -> Detections:
    """Sigmoid detections: each image a list of (label, score); other classes have probability 0.01.

    Boxes are 10 px squares in a row, sorted by descending score.
    """
    flat = [
        (label, score, place)
        for image in images
        for place, (label, score) in enumerate(sorted(image, key=lambda box: -box[1]))
    ]
    labels = torch.tensor([box[0] for box in flat], dtype=torch.int64)
    scores = torch.tensor([box[1] for box in flat], dtype=torch.float32)
    probs = torch.full((len(flat), num_classes), 0.01)
    probs[torch.arange(len(flat)), labels] = scores
    left = torch.tensor([(box[2] * 12.0) % (size - 10) for box in flat])
    boxes = torch.stack([left, left * 0 + 5, left + 10, left * 0 + 15], dim=1).reshape(-1, 4)
    counts = torch.tensor([len(image) for image in images], dtype=torch.int64)
    return Detections(
        offsets=torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)]),
        boxes=boxes,
        scores=scores,
        labels=labels,
        logits=torch.logit(probs),
        score_kind="sigmoid",
        image_features=None if features is None else torch.tensor(features, dtype=torch.float32),
    )


def softmax_of(probs: Sequence[Sequence[float]]) -> Detections:
    """One image with a box per row of class probabilities, background last."""
    table = torch.tensor(probs, dtype=torch.float64)
    scores, labels = table[:, :-1].max(dim=1)
    return Detections(
        offsets=torch.tensor([0, len(table)]),
        boxes=torch.zeros(len(table), 4),
        scores=scores.float(),
        labels=labels,
        logits=table.log(),
        score_kind="softmax",
    )
