"""The annotations of a COCO document as columns."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from detal.boxes import xywh_to_xyxy
from detal.datasets.classes import UNKNOWN, ClassTable, excluded_classes
from detal.datasets.dataset import Problem
from detal.datasets.json_values import id_text, integers, number, numbers, short
from detal.datasets.objects import RawObjects

__all__ = ["read_objects"]


def read_objects(
    entries: list[Any],
    file: str,
    images: pl.DataFrame,
    *,
    known_ids: Collection[str],
    classes: ClassTable,
) -> tuple[RawObjects, list[Problem]]:
    """The annotations of the images and classes of the dataset.

    Args:
        entries: The list ``annotations``.
        file: The JSON file, for messages.
        images: The dataset's images.
        known_ids: All image ids of the file, also of images outside the split.
        classes: Labels of the categories.

    Returns:
        The objects, and a problem for each with an unknown image or category.
    """
    objects: list[dict[str, Any]] = [e if isinstance(e, dict) else {} for e in entries]
    image_ids = [entry.get("image_id") for entry in objects]
    image_rows = _rows(image_ids, images["image_id"].to_list())
    category_ids = integers([entry.get("category_id") for entry in objects])
    labels = classes.labels(category_ids)

    def place(row: int) -> tuple[str, str]:
        stated = objects[row].get("id")
        return file, f"annotations[{row}]" if stated is None else f"annotation {short(stated)}"

    problems = []
    for row in np.flatnonzero(image_rows < 0).tolist():
        if id_text(image_ids[row]) not in known_ids:
            message = f"image_id must name an image of the file, got {short(image_ids[row])}"
            problems.append(Problem("unknown_image", *place(row), message))
    for row in np.flatnonzero((labels == UNKNOWN) & (image_rows >= 0)).tolist():
        stated = short(objects[row].get("category_id"))
        message = f"category_id must name a category of the file, got {stated}"
        problems.append(Problem("unknown_category", *place(row), message))
    problems += excluded_classes(classes, category_ids, file)
    keep = np.flatnonzero((image_rows >= 0) & (labels >= 0))
    kept = [objects[row] for row in keep.tolist()]
    raw = RawObjects(
        image_rows=image_rows[keep],
        boxes=xywh_to_xyxy(_boxes_xywh([entry.get("bbox") for entry in kept])),
        labels=labels[keep],
        is_crowd=np.array([entry.get("iscrowd") == 1 for entry in kept], dtype=np.bool_),
        areas=numbers([entry.get("area", np.nan) for entry in kept]),
        ids=integers([entry.get("id") for entry in kept]),
        place=lambda row: place(int(keep[row])),
    )
    return raw, problems


def _rows(stated: list[Any], image_ids: list[str]) -> NDArray[np.int64]:
    """(M,) row of the image that each annotation states, -1 for none."""
    row_of = {image_id: row for row, image_id in enumerate(image_ids)}
    if all(type(value) is int for value in stated):  # the usual case, without a million texts
        row_of_number = {value: row_of.get(str(value), -1) for value in set(stated)}
        return np.array([row_of_number[value] for value in stated], dtype=np.int64)
    texts = (id_text(value) for value in stated)
    return np.array([-1 if t is None else row_of.get(t, -1) for t in texts], dtype=np.int64)


def _boxes_xywh(stated: list[Any]) -> NDArray[np.float64]:
    """(M, 4) boxes, NaN where they are not four numbers."""
    try:
        boxes = np.array(stated)
    except (TypeError, ValueError, OverflowError):
        boxes = np.zeros(0)
    if boxes.shape == (len(stated), 4) and boxes.dtype.kind in "iuf":
        return boxes.astype(np.float64)
    boxes = np.full((len(stated), 4), np.nan)
    for row, box in enumerate(stated):
        if isinstance(box, list) and len(box) == 4:
            boxes[row] = [number(value) for value in box]
    return boxes
