"""Batches of tiny images on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import polars as pl

from detal.datasets.dataset import IMAGE_COLUMNS, Dataset
from detal.manifests import Batch
from detal.structures import Budget, Selection
from tests.features.factories import Box, detections_of


def write_image(path: Path, *, width: int = 64, height: int = 48, seed: int = 0) -> Path:
    """A small image of noise; its format follows the name, JPEG if that tells none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, size=(height, width, 3), dtype=np.uint8)
    suffix = path.suffix if path.suffix in {".png", ".bmp"} else ".jpg"
    path.write_bytes(cv2.imencode(suffix, pixels)[1].tobytes())
    return path


def dataset_of(
    paths: Sequence[Path], *, ids: Sequence[str] | None = None, integer_ids: bool = False
) -> Dataset:
    """A pool of existing images whose sizes are not known yet."""
    rows = {
        "image_id": list(ids) if ids is not None else [f"img{i}" for i in range(len(paths))],
        "path": [str(path) for path in paths],
        "width": [None] * len(paths),
        "height": [None] * len(paths),
        "group": [None] * len(paths),
    }
    return Dataset(
        name="pool",
        images=pl.DataFrame(rows, schema=IMAGE_COLUMNS),
        class_names=("cat", "dog", "owl"),
        category_ids=(3, 7, 90),
        integer_ids=integer_ids,
    )


def selection_of(ids: Sequence[str], *, reasons: Sequence[str] | None = None) -> Selection:
    """A batch with descending scores, the last of them not a number."""
    scores = np.linspace(2, 1, len(ids)) if ids else np.zeros(0)
    if len(ids):
        scores[-1] = np.nan
    return Selection(
        image_ids=tuple(ids),
        scores=scores,
        costs=np.ones(len(ids)),
        reasons=tuple(reasons or (f"reason {i}" for i in range(len(ids)))),
        budget=Budget(10),
        passed_over={"near_duplicate": 0, "group": 0, "cost": 0},
    )


def batch_of(
    dataset: Dataset,
    boxes: Sequence[Sequence[Box]],
    *,
    ids: Sequence[str] | None = None,
    class_names: Sequence[str] = ("cat", "dog", "owl"),
    category_ids: Sequence[int] | None = None,
    reasons: Sequence[str] | None = None,
) -> Batch:
    """The images ``ids`` (all by default) with predicted (label, score) boxes."""
    chosen = list(dataset.images["image_id"]) if ids is None else list(ids)
    return Batch.of(
        selection_of(chosen, reasons=reasons),
        dataset=dataset,
        detections=detections_of(boxes, num_classes=len(class_names), size=64),
        class_names=class_names,
        category_ids=range(len(class_names)) if category_ids is None else category_ids,
    )
