"""From objects as a file states them to `Annotations` that everything else can rely on.

Only boxes with finite corners and a positive area inside the image pass. What hangs over the edge
by at most ``OVERHANG_PX`` is rounding and clipped in silence, more is clipped with a warning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from detal.boxes import invalid_boxes
from detal.datasets.dataset import Problem
from detal.datasets.images import image_sizes
from detal.errors import DataError
from detal.files import exists
from detal.structures import Annotations

__all__ = ["OVERHANG_PX", "RawObjects", "clean_objects", "fill_sizes"]

OVERHANG_PX = 1.0
"""How far a box may reach over the image's edge without a word."""

_UNKNOWN_SIZE = np.iinfo(np.int32).max
_MAX_COORDINATE = 1e9  # beyond it is no pixel coordinate, and float32 arithmetic stays finite below


@dataclass(frozen=True, eq=False)
class RawObjects:
    """M objects in file order, unchecked.

    Attributes:
        image_rows: (M,) int64 row of the image in the dataset.
        boxes: (M, 4) float64 xyxy in pixels; NaN where the file states no readable box.
        labels: (M,) int64 in 0..C-1.
        is_crowd: (M,) bool.
        areas: (M,) float64 as stated, NaN where not.
        ids: (M,) int64 as stated, negative where not.
        place: Gives file and place inside it of one object, for messages.
    """

    image_rows: NDArray[np.int64]
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    is_crowd: NDArray[np.bool_]
    areas: NDArray[np.float64]
    ids: NDArray[np.int64]
    place: Callable[[int], tuple[str, str]]


def fill_sizes(
    images: pl.DataFrame, image_rows: NDArray[np.int64]
) -> tuple[pl.DataFrame, list[Problem]]:
    """Read the size of images that have objects but no stated size from the files' headers.

    Args:
        images: The dataset's images, (P) rows.
        image_rows: (M,) row of the image of each object.

    Returns:
        The images with sizes, and a problem for each file that does not tell its size.
    """
    unknown = (images["width"].is_null() | images["height"].is_null()).to_numpy()
    rows = np.unique(image_rows)
    rows = rows[unknown[rows]]
    if not len(rows):
        return images, []
    widths, heights = (images[name].to_list() for name in ("width", "height"))
    problems = []
    paths = images["path"][rows].to_list()
    for row, path, size in zip(rows.tolist(), paths, image_sizes(paths), strict=True):
        if isinstance(size, DataError):
            message = f"the objects need the size of their image: {size}"
            kind = "undecodable" if exists(path) else "missing_file"
            problems.append(Problem(kind, path, images["image_id"][row], message))
        else:
            widths[row], heights[row] = size
    sizes = {"width": widths, "height": heights}
    columns = [pl.Series(name, values, dtype=pl.Int32) for name, values in sizes.items()]
    return images.with_columns(columns), problems


def clean_objects(
    raw: RawObjects, images: pl.DataFrame, *, known_size_only: bool = False
) -> tuple[Annotations, list[Problem]]:
    """Check, clip and pack objects in image order (file order within an image).

    Args:
        raw: Objects of known images and classes.
        images: The dataset's images, (P) rows.
        known_size_only: Leave out objects of images without a size, for boxes that mean nothing
            without it; `fill_sizes` has reported those images.

    Returns:
        The annotations, and one problem for each object that was left out or clipped by more than
        ``OVERHANG_PX``.
    """
    limits = _limits(images)[raw.image_rows]  # (M, 2)
    boxes = np.where(np.abs(raw.boxes) <= _MAX_COORDINATE, raw.boxes, np.nan)
    clipped = np.clip(boxes, 0, np.tile(limits, 2)).astype(np.float32)
    overhang = np.maximum(-boxes[:, :2], boxes[:, 2:] - limits).max(axis=1, initial=0)
    negative = np.isnan(boxes).any(axis=1) | (boxes[:, 2:] < boxes[:, :2]).any(axis=1)
    flat = invalid_boxes(boxes.astype(np.float32)) & ~negative
    outside = invalid_boxes(clipped) & ~negative & ~flat
    over = (overhang > OVERHANG_PX) & ~negative & ~flat & ~outside
    unusable = limits[:, 0] == _UNKNOWN_SIZE if known_size_only else np.zeros(len(boxes), bool)

    verdicts = (
        (negative, "invalid_box", "error", "a box must be finite with x1 < x2 and y1 < y2"),
        (flat, "zero_area_box", "error", "a box must have a positive width and height"),
        (outside, "box_outside", "error", "a box must lie inside the image"),
        (over, "box_outside", "warning", "a box must lie inside the image and was clipped"),
    )
    problems = []
    for mask, kind, severity, rule in verdicts:
        for row in np.flatnonzero(mask & ~unusable).tolist():
            file, where = raw.place(row)
            found = _found(raw.boxes[row], limits[row])
            problems.append(Problem(kind, file, where, f"{rule}, got {found}", severity))
    keep = np.flatnonzero(~(negative | flat | outside | unusable))
    ids, id_problems = _unique_ids(raw, keep)
    order = keep[np.argsort(raw.image_rows[keep], kind="stable")]
    return _pack(raw, clipped, ids, order, len(images)), problems + id_problems


def _limits(images: pl.DataFrame) -> NDArray[np.int64]:
    """(P, 2) width and height, a huge number where unknown."""
    return images.select(
        pl.col("width", "height").cast(pl.Int64).fill_null(_UNKNOWN_SIZE)
    ).to_numpy()


def _found(box: NDArray[np.float64], limit: NDArray[np.int64]) -> str:
    corners = ", ".join(f"{value:.6g}" for value in box)
    if limit[0] == _UNKNOWN_SIZE:
        return f"xyxy [{corners}]"
    return f"xyxy [{corners}] in an image of {limit[0]} x {limit[1]}"


def _unique_ids(
    raw: RawObjects, keep: NDArray[np.int64]
) -> tuple[NDArray[np.int64], list[Problem]]:
    """(M,) ids: as stated where that is possible; repeated and missing ones get new numbers."""
    ids = raw.ids.copy()
    first = np.zeros(len(ids), dtype=bool)
    first[keep[np.unique(ids[keep], return_index=True)[1]]] = True
    renumber = keep[~first[keep] | (ids[keep] < 0)]
    problems = []
    for row in renumber[ids[renumber] >= 0].tolist():
        file, where = raw.place(row)
        message = f"annotation ids must be unique, got {ids[row]} again; it gets a new one"
        problems.append(Problem("duplicate_id", file, where, message, "warning"))
    start = max(int(ids.max(initial=0)), 0)
    ids[renumber] = np.arange(start + 1, start + 1 + len(renumber))
    return ids, problems


def _pack(
    raw: RawObjects,
    boxes: NDArray[np.float32],
    ids: NDArray[np.int64],
    order: NDArray[np.int64],
    num_images: int,
) -> Annotations:
    counts = np.bincount(raw.image_rows[order], minlength=num_images)
    sizes = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64)
    stated = np.isfinite(raw.areas) & (raw.areas > 0)
    areas = np.where(stated, raw.areas, sizes.prod(axis=1))
    return Annotations(
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes=boxes[order],
        labels=raw.labels[order],
        is_crowd=raw.is_crowd[order],
        areas=areas[order],
        ids=ids[order],
    )
