"""Read a finished run back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detal.boxes import xywh_to_xyxy
from detal.datasets.json_values import parse_json
from detal.errors import DataError
from detal.files import read_json
from detal.manifests.batch import PIXEL_DIGITS, Batch
from detal.manifests.table import read_selection
from detal.structures import Detections

__all__ = ["batch_from_files", "model_version", "read_batch", "read_record"]

_FINGERPRINT_LENGTH = 12


def read_batch(run: Path) -> Batch:
    """The batch of a run of `detal select`, as `write_manifest_files` was given it.

    The detections have boxes, labels and scores; their logits are zeros, nobody kept them.

    Raises:
        DataError: If it is no such run, or its files do not fit together.
    """
    read_record(run)
    return batch_from_files(run / "selection.csv", run / "coco.json")


def batch_from_files(table: Path, file: Path) -> Batch:
    """The batch that `write_csv` wrote as ``table`` and `write_coco` as ``file``; see `read_batch`.

    Raises:
        DataError: If they are no such files, or do not fit together.
    """
    images, selection, expected = read_selection(table)
    document = parse_json(file)
    try:
        ids = [image["id"] for image in document["images"]]
        own_ids = [image["detal_image_id"] for image in document["images"]]
        categories = {category["id"]: category["name"] for category in document["categories"]}
        detections = _detections(document["annotations"], ids, list(categories))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file} must be written by detal select: {error!r}") from None
    if own_ids != list(selection.image_ids):
        raise DataError(f"{file} must have the images of {table}, in that order")
    return Batch(
        selection=selection,
        images=images,
        detections=detections,
        expected_boxes=expected,
        class_names=tuple(categories.values()),
        category_ids=tuple(categories),
        integer_ids=[str(image_id) for image_id in ids] == own_ids,
    )


def _detections(
    annotations: Sequence[Mapping[str, Any]], image_ids: Sequence[int], category_ids: Sequence[int]
) -> Detections:
    row_of = {image_id: row for row, image_id in enumerate(image_ids)}
    label_of = {category_id: label for label, category_id in enumerate(category_ids)}
    rows = [row_of[annotation["image_id"]] for annotation in annotations]
    if rows != sorted(rows):
        raise ValueError("annotations must follow the images")
    boxes = xywh_to_xyxy(np.array([a["bbox"] for a in annotations], dtype=np.float64))
    counts = torch.bincount(torch.tensor(rows, dtype=torch.int64), minlength=len(image_ids))
    return Detections(
        offsets=torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)]),
        boxes=torch.from_numpy(boxes.round(PIXEL_DIGITS).astype(np.float32)),
        scores=torch.tensor([a["score"] for a in annotations], dtype=torch.float32),
        labels=torch.tensor([label_of[a["category_id"]] for a in annotations], dtype=torch.int64),
        logits=torch.zeros(len(annotations), len(category_ids)),
        score_kind="sigmoid",
    )


def read_record(run: Path) -> dict[str, Any]:
    """The contents of ``run.json``.

    Raises:
        DataError: If the folder is no run of `detal select`.
    """
    try:
        record = read_json(run / "run.json")
    except FileNotFoundError:
        raise DataError(f"a run must be a folder written by detal select, got {run}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {run / 'run.json'}: {error}") from None
    if not isinstance(record, dict):
        raise DataError(f"{run / 'run.json'} must be written by detal select, got no object")
    return record


def model_version(run: Mapping[str, Any]) -> str:
    """Which detector made the predictions of a run: name of its weights and hash of their content.

    Args:
        run: The contents of ``run.json``.
    """
    weights = ((run.get("config") or {}).get("detector") or {}).get("weights") or "detal"
    fingerprint = str((run.get("detector") or {}).get("fingerprint", ""))
    return f"{Path(str(weights)).name} {fingerprint[:_FINGERPRINT_LENGTH]}".strip()
