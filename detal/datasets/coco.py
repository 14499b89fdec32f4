"""Read COCO JSON.

Read with the standard library's ``json`` into columns. pycocotools is not used here: it builds a
dictionary of lists per image, keeps every annotation alive as Python objects, stops with a bare
KeyError at the first fault, refuses string image ids and prints; this reader has to name all
faults of a file at once. (It is the oracle in the tests.)
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from detal.boxes import xywh_to_xyxy
from detal.datasets.classes import UNKNOWN, ClassTable, class_table, excluded_classes
from detal.datasets.coco_files import choose_file, find_images_root
from detal.datasets.dataset import IMAGE_COLUMNS, Dataset, Problem
from detal.datasets.listing import (
    absolute,
    absolute_below,
    image_frame,
    native,
    read_text,
    storable,
)
from detal.datasets.objects import RawObjects, clean_objects, fill_sizes
from detal.errors import DataError, unknown_name

__all__ = ["GROUP_FIELDS", "read_coco"]

GROUP_FIELDS = ("group", "sequence_id", "video_id")
"""Fields of an image that say which sequence it belongs to, best first."""

_CORE_FIELDS = {"id", "file_name", "width", "height", *GROUP_FIELDS}
_MAX_ID = 2**62  # larger annotation ids are renumbered: they must fit int64 with room above
_MAX_SIDE = 2**31 - 1
_SCALARS = (str, int, float, bool, type(None))

Row = dict[str, Any]


def read_coco(
    path: str | Path,
    *,
    images_root: str | Path | None = None,
    split: str | None = None,
    class_names: Sequence[str] | None = None,
) -> Dataset:
    """Read a COCO detection file.

    Labels follow the categories sorted by id. Further scalar fields of the images become metadata
    columns. Whether the image files exist is not looked at here, but for a sample.

    Args:
        path: The JSON file, or a folder that holds it (also in its ``annotations``).
        images_root: Folder that ``file_name`` is relative to. By default the first of these that
            holds the images: the file's folder, ``images`` in it, the folder above, ``images``
            there, and in both a folder named like the split (``instances_train2017.json`` looks
            for ``train2017``).
        split: In a folder of several files: the one whose name contains it. In a file whose images
            have a field ``split``: only those images.
        class_names: Classes and their order; objects of other classes are left out.

    Raises:
        DataError: If the file cannot be read, is not COCO, or has no such split.
    """
    file = absolute(path)
    if file.is_dir():
        file, split = choose_file(file, split)
    document = _load(file)
    problems: list[Problem] = []
    known, rows = _usable_images(document["images"], file, problems)
    if split is not None:
        rows = _of_split(rows, split, file)
    names = [native(row["file_name"]) for row in rows]
    root = find_images_root(file, names, images_root, problems)
    images = _image_table(rows, [absolute_below(root, name) for name in names], file, problems)
    classes = _classes(document, file, class_names, problems)
    annotations = None
    if document.get("annotations") is not None:
        raw = _objects(document, file, images, known=known, classes=classes, problems=problems)
        images, size_problems = fill_sizes(images, raw.image_rows)
        annotations, box_problems = clean_objects(raw, images)
        problems += size_problems + box_problems
    return Dataset(
        name=file.stem,
        images=images,
        class_names=classes.names,
        category_ids=classes.category_ids,
        annotations=annotations,
        integer_ids=all(type(row["id"]) is int for row in rows),
        problems=tuple(problems),
    )


def _load(file: Path) -> Row:
    """The document; ``images``, and ``annotations`` and ``categories`` if present, are lists."""
    try:
        document = json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{file} must be JSON: {error.msg} in line {error.lineno}, column {error.colno}"
        ) from None
    except (RecursionError, ValueError) as error:  # nested or numbers beyond all measure
        raise DataError(f"{file} must be COCO JSON: {error}") from None
    if isinstance(document, list):
        raise DataError(
            f"{file} must hold an object with images, annotations and categories, got a list: it "
            "looks like detection results, which are no dataset"
        )
    if not isinstance(document, dict) or not isinstance(document.get("images"), list):
        raise DataError(f"{file} must hold an object with a list 'images' (COCO), got none")
    for key in ("annotations", "categories"):
        if not isinstance(document.get(key, []), list | None):
            found = type(document[key]).__name__
            raise DataError(f"{file}: {key!r} must be a list, got {found}")
    return document


def _id_text(value: Any) -> str | None:
    """An id as text (17, 17.0 and "17" are one id), or None if it is no id."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    usable = (isinstance(value, int) and not isinstance(value, bool)) or (
        isinstance(value, str) and value != "" and storable(value)
    )
    return str(value) if usable else None


def _usable_images(
    entries: list[Any], file: Path, problems: list[Problem]
) -> tuple[set[str], list[Row]]:
    """Every id the file mentions, and the images that have an id of their own and a file name."""
    known: set[str] = set()
    rows = []
    for index, entry in enumerate(entries):
        image = entry if isinstance(entry, dict) else {}
        image_id, name = _id_text(image.get("id")), image.get("file_name")
        kind = ""
        if image_id is None:
            kind, message = "unreadable_annotation", f"an image needs an id, got {_short(entry)}"
        elif not isinstance(name, str) or not name or "\0" in name or not storable(name):
            kind, message = "unreadable_annotation", f"an image needs a file_name, got {name!r}"
        elif image_id in known:
            kind, message = "duplicate_id", f"image ids must be unique, got {image_id} again"
        if kind:
            problems.append(Problem(kind, str(file), f"images[{index}]", message))
        else:
            rows.append(image)
        if image_id is not None:
            known.add(image_id)
    return known, rows


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _of_split(rows: list[Row], split: str, file: Path) -> list[Row]:
    splits = {str(row["split"]) for row in rows if row.get("split") is not None}
    if not splits:
        raise DataError(f"split must be left out: the images of {file} have no field 'split'")
    if split not in splits:
        raise DataError(f"{file}: {unknown_name('split', split, splits)}")
    return [row for row in rows if str(row.get("split")) == split]


def _image_table(
    rows: list[Row], paths: list[str], file: Path, problems: list[Problem]
) -> pl.DataFrame:
    keys = dict.fromkeys(key for row in rows for key in row)
    metadata = {}
    for key in keys:
        values = [row.get(key) for row in rows]
        if key not in _CORE_FIELDS and storable(key) and _scalar(values):
            metadata[f"{key}_in_file" if key in IMAGE_COLUMNS else key] = values
    groups: list[str | None] = [None] * len(rows)
    for key in reversed(GROUP_FIELDS):
        if key in keys:
            groups = [
                old if (new := _id_text(row.get(key))) is None else new
                for row, old in zip(rows, groups, strict=True)
            ]
    _report_shared_files(rows, paths, file, problems)
    return image_frame(
        [str(_id_text(row["id"])) for row in rows],
        paths,
        widths=[_side(row.get("width")) for row in rows],
        heights=[_side(row.get("height")) for row in rows],
        groups=groups,
        metadata=metadata,
    )


def _scalar(values: list[Any]) -> bool:
    return all(isinstance(value, _SCALARS) for value in values)


def _side(value: Any) -> int | None:
    """A stated width or height, None if it cannot be one (it is then read from the image)."""
    number = _number(value)
    return int(number) if 1 <= number <= _MAX_SIDE else None


def _number(value: Any) -> float:
    """A stated number, NaN if it is none."""
    try:
        return float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return math.nan


def _report_shared_files(
    rows: list[Row], paths: list[str], file: Path, problems: list[Problem]
) -> None:
    first: dict[str, Any] = {}
    for row, path in zip(rows, paths, strict=True):
        if path in first:
            message = f"images must have a file of their own, {first[path]} has {path} too"
            problems.append(
                Problem("duplicate_file", str(file), f"image {row['id']}", message, "warning")
            )
        first.setdefault(path, row["id"])


def _classes(
    document: Row, file: Path, class_names: Sequence[str] | None, problems: list[Problem]
) -> ClassTable:
    names: dict[int, str] = {}
    for index, entry in enumerate(document.get("categories") or []):
        category = entry if isinstance(entry, dict) else {}
        number = _integer(category.get("id"))
        kind = ""
        if number is None:
            kind, message = "unreadable_annotation", f"a category needs an id, got {_short(entry)}"
        elif number in names:
            kind, message = "duplicate_id", f"category ids must be unique, got {number} again"
        else:
            names[number] = str(category.get("name", number))
        if kind:
            problems.append(Problem(kind, str(file), f"categories[{index}]", message))
    _report_phantoms(document, file, problems)
    return class_table(sorted(names.items()), class_names)


def _integer(value: Any) -> int | None:
    """A stated whole number, None if it is none."""
    number = _number(value)
    if isinstance(value, bool) or not number.is_integer() or abs(number) > _MAX_ID:
        return None
    return int(value)


def _report_phantoms(document: Row, file: Path, problems: list[Problem]) -> None:
    """Some exporters list the group of all categories as one more category, without objects."""
    categories = [c for c in document.get("categories") or [] if isinstance(c, dict)]
    parents = {str(c.get("supercategory")) for c in categories}
    used = {
        str(a.get("category_id")) for a in document.get("annotations") or [] if isinstance(a, dict)
    }
    for category in categories:
        if (
            str(category.get("name")) in parents - {str(category.get("supercategory"))}
            and str(category.get("id")) not in used
        ):
            message = (
                f"{category.get('name')!r} is the supercategory of other categories and has no "
                "objects: an exporter's artefact, not a class?"
            )
            where = f"category {category.get('id')}"
            problems.append(Problem("phantom_category", str(file), where, message, "warning"))


def _objects(
    document: Row,
    file: Path,
    images: pl.DataFrame,
    *,
    known: set[str],
    classes: ClassTable,
    problems: list[Problem],
) -> RawObjects:
    """The annotations of images and categories that exist."""
    entries = document["annotations"]
    objects = [entry if isinstance(entry, dict) else {} for entry in entries]
    row_of = {image_id: row for row, image_id in enumerate(images["image_id"])}
    image_ids = [_id_text(entry.get("image_id")) for entry in objects]
    image_rows = np.array(
        [-1 if i is None else row_of.get(i, -1) for i in image_ids], dtype=np.int64
    )
    categories = [_integer(entry.get("category_id")) for entry in objects]
    labels = np.array(
        [UNKNOWN if c is None else classes.label_of.get(c, UNKNOWN) for c in categories],
        dtype=np.int64,
    )

    def place(row: int) -> tuple[str, str]:
        stated = objects[row].get("id")
        return str(file), f"annotations[{row}]" if stated is None else f"annotation {stated}"

    for row in np.flatnonzero(image_rows < 0).tolist():
        if image_ids[row] not in known:
            stated = objects[row].get("image_id")
            message = f"image_id must name an image of the file, got {stated!r}"
            problems.append(Problem("unknown_image", *place(row), message))
    for row in np.flatnonzero((labels == UNKNOWN) & (image_rows >= 0)).tolist():
        stated = objects[row].get("category_id")
        message = f"category_id must name a category of the file, got {stated!r}"
        problems.append(Problem("unknown_category", *place(row), message))
    problems += excluded_classes(labels, [str(c) for c in categories], str(file))
    keep = np.flatnonzero((image_rows >= 0) & (labels >= 0))
    kept = [objects[row] for row in keep.tolist()]
    ids = [_integer(entry.get("id")) for entry in kept]
    return RawObjects(
        image_rows=image_rows[keep],
        boxes=_boxes(kept),
        labels=labels[keep],
        is_crowd=np.array([entry.get("iscrowd") == 1 for entry in kept], dtype=np.bool_),
        areas=np.array([_number(entry.get("area")) for entry in kept], dtype=np.float64),
        ids=np.array([-1 if i is None else i for i in ids], dtype=np.int64),
        place=lambda row: place(int(keep[row])),
    )


def _boxes(objects: list[Row]) -> NDArray[np.float64]:
    """(M, 4) xyxy, NaN rows where ``bbox`` is not four numbers."""
    boxes_xywh = np.full((len(objects), 4), np.nan)
    for row, entry in enumerate(objects):
        box = entry.get("bbox")
        if isinstance(box, list) and len(box) == 4:
            boxes_xywh[row] = [_number(value) for value in box]
    return xywh_to_xyxy(boxes_xywh)
