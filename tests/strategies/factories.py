"""Pools small enough to reason about, and one that is not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from detal.features import expected_boxes
from detal.reward import MeasuredTables
from detal.strategies import Candidates, Choice, Chunk, Labeled, Order, Pass
from detal.structures import Annotations, Detections
from tests.features.factories import Box, detections_of
from tests.reward.factories import group_gains

VIEWS = ("flip", "cutout", "downscale", "rotate")
PASSES = (*VIEWS, "member:0", "member:1")


def pool_of(
    images: Sequence[Sequence[Box]],
    *,
    ids: Sequence[str] | None = None,
    features: np.ndarray | None = None,
    groups: Sequence[str | None] | None = None,
    labeled: np.ndarray | None = None,
    num_classes: int = 3,
) -> Candidates:
    """Candidates from lists of (label, score), with ids ``000``, ``001``, …

    They have everything a strategy may ask for: features and spreads of the boxes, further passes,
    a reference set, and, if there are labelled images, their detections and annotations.
    """
    detections = with_details(detections_of(images, num_classes=num_classes, features=features))
    candidates = Candidates.from_detections(
        [f"{i:03d}" for i in range(len(images))] if ids is None else ids,
        detections,
        class_names=tuple(f"class{c}" for c in range(num_classes)),
        groups=groups,
        labeled=labeled_of(labeled, num_classes=num_classes),
    )
    _, ordered = next(iter(candidates.chunks()))
    return replace(
        candidates,
        passes={name: jittered(ordered, name) for name in PASSES},
        reference=reference_of(num_classes=num_classes),
        tables=tables_of(candidates),
    )


def tables_of(candidates: Candidates) -> MeasuredTables:
    """Three groups, around the first numbers of the features, of which the last gains most."""
    features = candidates.image_features
    width = 1 if features is None else features.shape[1]
    number = len(candidates.class_names)
    return MeasuredTables(
        groups=group_gains(
            [[0.4 + 0.1 * g] * number for g in range(3)],
            [[0.3] * number, [0.31] * number],
            class_names=candidates.class_names,
            centres=np.eye(3, width, dtype=np.float32),
        )
    )


def with_details(detections: Detections) -> Detections:
    """The same detections with object features and spreads that follow from label and score."""
    labels, scores = detections.labels.float(), detections.scores
    angles = labels[:, None] + scores[:, None] * torch.arange(1.0, 6.0)
    return replace(
        detections,
        object_features=torch.cat([angles.sin(), angles.cos()], dim=1),
        box_spread=(1 - scores)[:, None] * torch.tensor([1.0, 2.0, 1.5, 0.5]),
        cluster_spread=(1 - scores)[:, None] * torch.tensor([0.5, 0.0, 1.0, 1.0]),
        mutual_information=scores * (1 - scores),
        tightness=1 - scores / 2,
    )


def labeled_of(features: np.ndarray | None, *, num_classes: int) -> Labeled:
    """Labelled images with one object of class ``i % C`` each, found with a score of 0.7."""
    if features is None:
        return Labeled(class_counts=np.zeros(num_classes, dtype=np.int64))
    labels = [i % num_classes for i in range(len(features))]
    seen = with_details(
        detections_of([[(c, 0.7)] for c in labels], num_classes=num_classes, features=features)
    )
    return Labeled(
        class_counts=np.bincount(labels, minlength=num_classes),
        image_features=features.astype(np.float32),
        detections=lambda: seen,
        annotations=Annotations.from_lists(
            [np.array([[1.0, 5.0, 11.0, 15.0]])] * len(labels), [np.array([c]) for c in labels]
        ),
    )


def reference_of(*, num_classes: int) -> Labeled:
    """Twelve images with two detections of two classes each.

    The first is right but for every fourth image, where there is nothing; the second is wrong, or
    lies on a crowd.
    """
    labels = [[i % num_classes, (i + 1) % num_classes] for i in range(12)]
    seen = with_details(
        detections_of(
            [[(a, 0.3 + 0.05 * i), (b, 0.25)] for i, (a, b) in enumerate(labels)],
            num_classes=num_classes,
        )
    )
    boxes = np.array([[0.0, 0, 100, 100], [0.0, 5, 10, 15]])
    number = [1 if i % 4 == 3 else 2 for i in range(12)]
    truth = Annotations.from_lists(
        [boxes[:n] for n in number],
        [np.array([b, a][:n]) for (a, b), n in zip(labels, number, strict=True)],
        is_crowd=[np.array([i % 2 == 0, False][:n]) for i, n in enumerate(number)],
    )
    return Labeled(
        class_counts=truth.class_counts(num_classes),
        detections=lambda: seen,
        annotations=truth,
    )


def jittered(detections: Detections, name: str) -> Pass:
    """Another pass: the same boxes, a little moved and with other logits, by ``name``."""
    seed = sum(name.encode())
    rng = torch.Generator().manual_seed(seed)
    logits = detections.logits + 0.3 * torch.randn(detections.logits.shape, generator=rng)
    probs = logits.sigmoid()
    boxes = detections.boxes + torch.randn(len(detections.boxes), 1, generator=rng)
    other = replace(detections, logits=logits, boxes=boxes, scores=probs.amax(dim=1))
    return lambda index: other.take(torch.from_numpy(index))


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
        passes=candidates.passes,
        reference=candidates.reference,
        tables=candidates.tables,
    )


def in_order(index: Sequence[int]) -> Order:
    """Choices in a given order."""
    for candidate in index:
        yield Choice(candidate, 1.0, "given")
