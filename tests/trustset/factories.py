"""Detections and labels of which every number is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from detal.structures import Annotations, Detections, ScoreKind

Row = tuple[tuple[float, float, float, float], Sequence[float]]
"""A box and its class probabilities (without background)."""


def seen_of(images: Sequence[Sequence[Row]], *, kind: ScoreKind = "sigmoid") -> Detections:
    """Detections of images, each a list of (box, probabilities); sorted by score."""
    ordered = [sorted(rows, key=lambda row: -max(row[1])) for rows in images]
    flat = [row for rows in ordered for row in rows]
    classes = len(flat[0][1]) if flat else 2
    probs = torch.tensor([row[1] for row in flat], dtype=torch.float64).reshape(-1, classes)
    logits = probs.logit()
    if kind == "softmax":
        logits = torch.cat([probs, 1 - probs.sum(dim=1, keepdim=True)], dim=1).log()
    scores, labels = (
        probs.max(dim=1) if len(flat) else (torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    )
    counts = torch.tensor([len(rows) for rows in images], dtype=torch.int64)
    return Detections(
        offsets=torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)]),
        boxes=torch.tensor([row[0] for row in flat], dtype=torch.float32).reshape(-1, 4),
        scores=scores.float(),
        labels=labels,
        logits=logits,
        score_kind=kind,
    )


def labels_of(
    images: Sequence[Sequence[tuple[tuple[float, float, float, float], int]]],
    *,
    crowd: Sequence[Sequence[bool]] | None = None,
) -> Annotations:
    """Annotations of images, each a list of (box, label)."""
    return Annotations.from_lists(
        [np.array([box for box, _ in rows]).reshape(-1, 4) for rows in images],
        [np.array([label for _, label in rows], dtype=np.int64) for rows in images],
        is_crowd=None if crowd is None else [np.array(flags) for flags in crowd],
    )
