"""Read COCO JSON.

Read with the standard library's ``json`` into columns. pycocotools is not used here: it builds a
dictionary of lists per image, keeps every annotation alive as Python objects, stops with a bare
KeyError at the first fault, refuses string image ids and prints; this reader has to name all
faults of a file at once. (It is the oracle in the tests.)
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from detal.datasets.classes import ClassTable, class_table
from detal.datasets.coco_files import choose_file, find_images_root
from detal.datasets.coco_objects import read_objects
from detal.datasets.dataset import IMAGE_COLUMNS, Dataset, Problem
from detal.datasets.json_values import id_text, integer, number, parse_json, short
from detal.datasets.listing import (
    absolute,
    absolute_below,
    image_frame,
    native,
    storable,
)
from detal.datasets.objects import clean_objects, fill_sizes
from detal.errors import DataError, unknown_name

__all__ = ["GROUP_FIELDS", "read_coco"]

GROUP_FIELDS = ("group", "sequence_id", "video_id")
"""Fields of an image that say which sequence it belongs to, best first."""

_CORE_FIELDS = {"id", "file_name", "width", "height", *GROUP_FIELDS}
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
    with _paused_garbage_collection():
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
        raw, object_problems = read_objects(
            document["annotations"], str(file), images, known_ids=known, classes=classes
        )
        images, size_problems = fill_sizes(images, raw.image_rows)
        annotations, box_problems = clean_objects(raw, images)
        problems += object_problems + size_problems + box_problems
    return Dataset(
        name=file.stem,
        images=images,
        class_names=classes.names,
        category_ids=classes.category_ids,
        annotations=annotations,
        integer_ids=all(type(row["id"]) is int for row in rows),
        problems=tuple(problems),
    )


@contextmanager
def _paused_garbage_collection() -> Iterator[None]:
    """The collector would go over the growing document again and again: half the reading time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _load(file: Path) -> Row:
    """The document; ``images``, and ``annotations`` and ``categories`` if present, are lists."""
    document = parse_json(file)
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


def _usable_images(
    entries: list[Any], file: Path, problems: list[Problem]
) -> tuple[set[str], list[Row]]:
    """Every id the file mentions, and the images that have an id of their own and a file name."""
    known: set[str] = set()
    rows = []
    for index, entry in enumerate(entries):
        image = entry if isinstance(entry, dict) else {}
        image_id, name = id_text(image.get("id")), image.get("file_name")
        kind = ""
        if image_id is None:
            kind, message = "unreadable_annotation", f"an image needs an id, got {short(entry)}"
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
                old if (new := id_text(row.get(key))) is None else new
                for row, old in zip(rows, groups, strict=True)
            ]
    _report_shared_files(rows, paths, file, problems)
    return image_frame(
        [str(id_text(row["id"])) for row in rows],
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
    side = number(value)
    return int(side) if 1 <= side <= _MAX_SIDE else None


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
        category_id = integer(category.get("id"))
        kind = ""
        if category_id is None:
            kind, message = "unreadable_annotation", f"a category needs an id, got {short(entry)}"
        elif category_id in names:
            kind, message = "duplicate_id", f"category ids must be unique, got {category_id} again"
        else:
            names[category_id] = str(category.get("name", category_id))
        if kind:
            problems.append(Problem(kind, str(file), f"categories[{index}]", message))
    _report_phantoms(document, file, problems)
    return class_table(sorted(names.items()), class_names)


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
