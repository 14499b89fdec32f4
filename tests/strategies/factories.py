"""Pools small enough to reason about, and one that is not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from detal.features import expected_boxes
from detal.strategies import Candidates, Choice, Chunk, Labeled, Order
from detal.structures import Detections
from tests.features.factories import Box, detections_of


def pool_of(
    images: Sequence[Sequence[Box]],
    *,
    ids: Sequence[str] | None = None,
    features: np.ndarray | None = None,
    groups: Sequence[str | None] | None = None,
    labeled: np.ndarray | None = None,
    num_classes: int = 3,
) -> Candidates:
    """Candidates from lists of (label, score), with ids ``000``, ``001``, …"""
    return Candidates.from_detections(
        [f"{i:03d}" for i in range(len(images))] if ids is None else ids,
        detections_of(images, num_classes=num_classes, features=features),
        class_names=tuple(f"class{c}" for c in range(num_classes)),
        groups=groups,
        labeled=Labeled(
            class_counts=np.zeros(num_classes, dtype=np.int64),
            image_features=None if labeled is None else labeled.astype(np.float32),
        ),
    )


def random_pool(
    size: int, *, seed: int = 0, num_classes: int = 3, dimensions: int = 8, labeled: int = 4
) -> Candidates:
    """Images with 0 to 6 boxes, every seventh without any."""
    rng = np.random.default_rng(seed)
    images = [
        [] if i % 7 == 3 else _random_boxes(rng, num_classes=num_classes) for i in range(size)
    ]
    return pool_of(
        images,
        features=rng.normal(size=(size, dimensions)),
        groups=[f"video{i // 5}" if i % 2 else None for i in range(size)],
        labeled=rng.normal(size=(labeled, dimensions)),
        num_classes=num_classes,
    )


def _random_boxes(rng: np.random.Generator, *, num_classes: int) -> list[Box]:
    count = int(rng.integers(1, 7))
    labels, scores = rng.integers(num_classes, size=count), rng.uniform(0.05, 0.95, size=count)
    return [(int(label), float(score)) for label, score in zip(labels, scores, strict=True)]


def rechunked(candidates: Candidates, *, seed: int) -> Candidates:
    """The same candidates, streamed in another order and in chunks of other sizes."""
    whole = Detections.concat([detections for _, detections in candidates.chunks()])
    order = np.random.default_rng(seed).permutation(len(candidates))

    def chunks() -> Iterator[Chunk]:
        start = 0
        for size in (1, 3, 0, len(order)):
            index = order[start : start + size]
            yield index, whole.take(torch.from_numpy(index))
            start += size

    return Candidates(
        image_ids=candidates.image_ids,
        chunks=chunks,
        class_names=candidates.class_names,
        expected_boxes=expected_boxes(whole).numpy(),
        labeled=candidates.labeled,
        image_features=candidates.image_features,
        groups=candidates.groups,
    )


def in_order(index: Sequence[int]) -> Order:
    """Choices in a given order."""
    for candidate in index:
        yield Choice(candidate, 1.0, "given")
