"""Ground truth and predictions for the evaluation tests: random worlds and files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from detal.evaluation.metrics import CocoMetrics
from detal.evaluation.predictions import Predictions
from detal.structures import Annotations


def make_truth(
    boxes: Sequence[ArrayLike], labels: Sequence[ArrayLike], **columns: Any
) -> Annotations:
    """`Annotations.from_lists` of plain lists."""
    arrays = {name: [np.asarray(part) for part in value] for name, value in columns.items()}
    return Annotations.from_lists(
        [np.asarray(part) for part in boxes], [np.asarray(part) for part in labels], **arrays
    )


def random_world(
    seed: int,
    *,
    num_images: int,
    num_classes: int,
    max_truth: int = 6,
    max_found: int = 20,
    tied_scores: bool = True,
) -> tuple[Annotations, Predictions]:
    """Integer boxes of all COCO area ranges, crowds, areas below the box's, exact and tied hits."""
    rng = np.random.default_rng(seed)
    truth: dict[str, list[Any]] = {"boxes": [], "labels": [], "is_crowd": [], "areas": []}
    found: dict[str, list[Any]] = {"boxes": [], "scores": [], "labels": []}
    for _ in range(num_images):
        n, m = rng.integers(0, max_truth + 1), rng.integers(0, max_found + 1)
        corner, size = rng.uniform(0, 200, (n, 2)), np.exp(rng.uniform(1, 5.2, (n, 2)))
        boxes = np.round(np.concatenate([corner, corner + size], axis=1))
        labels = rng.integers(0, num_classes, n)
        truth["boxes"].append(boxes)
        truth["labels"].append(labels)
        truth["is_crowd"].append(rng.random(n) < 0.15)
        truth["areas"].append(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) * rng.uniform(0.5, 1, n))
        near = np.tile([[10.0, 10.0, 40.0, 40.0]], (int(m), 1))
        guess = rng.integers(0, num_classes, m)
        if n:
            source = rng.integers(0, n, m)
            near = boxes[source]
            guess = np.where(rng.random(m) < 0.8, labels[source], guess)
        near = np.round(near + rng.normal(0, 1, (m, 4)) * rng.choice([0, 1, 4, 20], (m, 1)))
        found["boxes"].append(
            np.concatenate([near[:, :2], np.maximum(near[:, :2], near[:, 2:])], 1)
        )
        found["scores"].append(np.round(rng.random(m), 1) if tied_scores else rng.random(m))
        found["labels"].append(guess)
    return Annotations.from_lists(**truth), Predictions.from_lists(**found)


def jittered(annotations: Annotations, *, num_classes: int, seed: int) -> Predictions:
    """Plausible predictions: most objects found a little off, some twice, some of another class."""
    rng = np.random.default_rng(seed)
    boxes, scores, labels = [], [], []
    for i in range(len(annotations)):
        rows = slice(annotations.offsets[i], annotations.offsets[i + 1])
        truth, label = annotations.boxes[rows].astype(float), annotations.labels[rows]
        pick = rng.integers(0, len(truth), 2 * len(truth)) if len(truth) else np.zeros(0, int)
        extent = np.tile(truth[pick, 2:] - truth[pick, :2], (1, 2))
        shift = rng.normal(0, 0.08, (len(pick), 4)) * extent
        boxes.append(truth[pick] + shift)
        scores.append(
            np.round(np.exp(-8 * np.abs(shift / extent).mean(1)) * rng.random(len(pick)), 3)
        )
        other = rng.integers(0, num_classes, len(pick))
        labels.append(np.where(rng.random(len(pick)) < 0.8, label[pick], other))
    return Predictions.from_lists(boxes, scores, labels)


def read_coco(
    truth_file: Path, found_file: Path | None
) -> tuple[Annotations, Predictions, list[str]]:
    """A COCO file and a list of results, images and categories in order of their ids."""
    source = json.loads(truth_file.read_text())
    results = json.loads(found_file.read_text()) if found_file else []
    images = sorted(image["id"] for image in source["images"])
    categories = sorted(source["categories"], key=lambda c: c["id"])
    place = {c["id"]: k for k, c in enumerate(categories)}

    def packed(rows: list[dict[str, Any]], key: str) -> list[np.ndarray]:
        values: dict[Any, list[Any]] = {image: [] for image in images}
        for row in rows:
            value = row.get(key, 0)
            values[row["image_id"]].append(place[value] if key == "category_id" else value)
        return [np.asarray(values[image], dtype=float) for image in images]

    def xyxy(rows: list[dict[str, Any]]) -> list[np.ndarray]:
        boxes = [b.reshape(-1, 4) for b in packed(rows, "bbox")]
        return [np.concatenate([b[:, :2], b[:, :2] + b[:, 2:]], axis=1) for b in boxes]

    annotations = Annotations.from_lists(
        xyxy(source["annotations"]),
        packed(source["annotations"], "category_id"),
        is_crowd=packed(source["annotations"], "iscrowd"),
        areas=packed(source["annotations"], "area"),
    )
    predictions = Predictions.from_lists(
        xyxy(results), packed(results, "score"), packed(results, "category_id")
    )
    return annotations, predictions, [c["name"] for c in categories]


def largest_difference(a: CocoMetrics, b: CocoMetrics) -> float:
    """Over all figures; infinite where only one of the two is NaN."""
    largest = 0.0
    for name, value in vars(a).items():
        left, right = np.atleast_1d(value), np.atleast_1d(getattr(b, name))
        if (np.isnan(left) != np.isnan(right)).any():
            return float("inf")
        largest = max(largest, float(np.nan_to_num(np.abs(left - right)).max(initial=0.0)))
    return largest
