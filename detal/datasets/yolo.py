"""Read YOLO datasets: ``data.yaml`` or a folder with ``images`` and ``labels``.

Our own reader, because ultralytics' one opens and rewrites every image, leaves a whole image out
for one bad line, writes cache files into the dataset, and may download; its rules for paths, splits
and label lines are followed, with these exceptions: a bad line costs one object, not the image.
Repeated lines are dropped, as there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from detal.datasets.classes import UNKNOWN, ClassTable, class_table, excluded_classes
from detal.datasets.dataset import Dataset, Problem
from detal.datasets.images import YOLO_SUFFIXES
from detal.datasets.listing import (
    absolute,
    files_below,
    image_frame,
    read_path_list,
    read_text,
    unique_files,
)
from detal.datasets.objects import RawObjects, clean_objects, fill_sizes
from detal.datasets.threads import map_in_threads
from detal.datasets.yolo_labels import LabelFile, label_path, parse_labels
from detal.datasets.yolo_yaml import SPLITS, YoloSource, read_source
from detal.errors import DataError, unknown_name
from detal.files import exists
from detal.structures import Annotations

__all__ = ["read_yolo"]

_MAX_UNNAMED = 100_000  # a larger class number without a name is junk, not a class


def read_yolo(
    path: str | Path,
    *,
    images_root: str | Path | None = None,
    split: str | None = None,
    class_names: Sequence[str] | None = None,
) -> Dataset:
    """Read a YOLO detection dataset.

    Ids are paths relative to the dataset's root (``path`` in the YAML). A column ``split`` says
    where an image comes from. A missing or empty label file means an image without objects.

    Args:
        path: ``data.yaml``, or a folder that holds it or the folders ``images`` and ``labels``.
        images_root: The dataset's root, where the YAML's ``path`` is wrong.
        split: ``train``, ``val`` or ``test``; all of them by default.
        class_names: Classes and their order; objects of other classes are left out. For a folder
            without YAML: the names of the classes 0, 1, ….

    Raises:
        DataError: If the YAML cannot be read, or the split or all images are missing.
    """
    source = read_source(
        absolute(path), root=None if images_root is None else absolute(images_root)
    )
    problems: list[Problem] = list(source.problems)
    entries, split_of = _entries(source, split, problems)
    ids, paths, name_problems = unique_files(entries, source.root)
    problems += name_problems
    splits = [split_of[path] for path in paths]
    labels = list(_read_labels(paths))
    names = source.names or _names_or_numbers(labels, class_names)
    classes = class_table(list(enumerate(names)), class_names)
    readable = np.flatnonzero([label.error is None for label in labels])
    problems += [
        Problem("unreadable_annotation", label.path, "", str(label.error))
        for label in labels
        if label.error is not None
    ]
    images = image_frame(ids, paths, metadata={"split": splits} if any(splits) else None)[readable]
    annotations = None
    if any(label.found for label in labels):
        files = [labels[row] for row in readable.tolist()]
        images, annotations = _annotate(images, files, source.file, classes, problems)
    return Dataset(
        name=source.file.parent.name if source.file.stem == "data" else source.file.stem,
        images=images,
        class_names=classes.names,
        category_ids=classes.category_ids,
        annotations=annotations,
        problems=tuple(problems),
    )


def _entries(
    source: YoloSource, split: str | None, problems: list[Problem]
) -> tuple[list[tuple[str, str, str]], dict[str, str | None]]:
    """Image paths with the place that names them, and the split of each path."""
    if split is not None and split not in source.splits:
        raise DataError(f"{source.file}: {unknown_name('split', split, source.splits)}")
    entries: list[tuple[str, str, str]] = []
    split_of: dict[str, str | None] = {}
    missing = []
    for name in source.splits if split is None else (split,):
        present = [place for place in source.splits[name] if exists(place)]
        missing += [(name, place) for place in source.splits[name] if place not in present]
        found = [entry for place in present for entry in _images_of(place, source.root)]
        shared = [entry for entry in found if entry[0] in split_of]
        if shared:
            message = f"splits must not share images, {len(shared)} are in an earlier one too"
            problems.append(Problem("shared_images", str(source.file), name, message, "warning"))
        new = [entry for entry in found if entry[0] not in split_of]
        split_of |= {path: name if name in SPLITS else None for path, _, _ in new}
        entries += new
    if missing and not entries:
        raise DataError(f"{source.file}: no image folder or list exists: {missing[0][1]}")
    for name, place in missing:
        message = f"split {name!r} must be a folder or a text file, {place} does not exist"
        problems.append(Problem("missing_split", str(source.file), name, message, "warning"))
    return entries, split_of


def _images_of(place: Path, root: Path) -> Iterator[tuple[str, str, str]]:
    if place.is_dir():
        yield from ((path, path, "") for path in files_below(place, YOLO_SUFFIXES))
        return
    for number, path in read_path_list(place, roots=[place.parent, root, Path.cwd()]):
        yield path, str(place), f"line {number}"


def _read_labels(paths: Sequence[str]) -> Iterator[LabelFile]:
    """The label file of each image, in order."""
    labels = [label_path(path) for path in paths]
    existing: set[str] = set()
    for folder in {os.path.dirname(label) for label in labels}:  # noqa: PTH120
        if os.path.isdir(folder):  # noqa: PTH112
            existing.update(entry.path for entry in os.scandir(folder))
    files = map_in_threads(_read_label, [label for label in labels if label in existing])
    for label in labels:
        yield next(files) if label in existing else LabelFile(label, found=False)


def _read_label(path: str) -> LabelFile:
    try:
        return parse_labels(read_text(Path(path)), path)
    except DataError as error:
        return LabelFile(path, error=error)


def _names_or_numbers(
    labels: list[LabelFile], class_names: Sequence[str] | None
) -> tuple[str, ...]:
    """Names of classes that nothing names: the caller's in order, or else their numbers."""
    if class_names is not None:
        return tuple(class_names)
    numbers = np.concatenate([np.zeros(0, np.int64), *(label.classes for label in labels)])
    top = int(numbers[numbers < _MAX_UNNAMED].max(initial=-1))
    return tuple(str(number) for number in range(top + 1))


def _annotate(
    images: pl.DataFrame,
    files: list[LabelFile],
    source: Path,
    classes: ClassTable,
    problems: list[Problem],
) -> tuple[pl.DataFrame, Annotations]:
    for file in files:
        problems += file.problems
    counts = [len(file.classes) for file in files]
    image_rows = np.repeat(np.arange(len(files)), counts)
    numbers = np.concatenate([np.zeros(0, np.int64), *(file.classes for file in files)])
    lines = np.concatenate([np.zeros(0, np.int64), *(file.lines for file in files)])
    boxes_xyxyn = np.concatenate([np.zeros((0, 4)), *(file.boxes_xyxyn for file in files)])

    def place(row: int) -> tuple[str, str]:
        return files[image_rows[row]].path, f"line {lines[row]}"

    labels = classes.labels(numbers)
    for row in np.flatnonzero(labels == UNKNOWN).tolist():
        found = f"{len(classes.name_of)} classes and class {numbers[row]}"
        message = f"a class number must be smaller than the number of classes, got {found}"
        problems.append(Problem("unknown_category", *place(row), message))
    problems += excluded_classes(classes, numbers, str(source))
    keep = np.flatnonzero(labels >= 0)
    images, size_problems = fill_sizes(images, image_rows[keep])
    sizes = images.select("width", "height").fill_null(0).to_numpy()[image_rows[keep]]
    raw = RawObjects(
        image_rows=image_rows[keep],
        boxes=boxes_xyxyn[keep] * np.tile(sizes, 2),
        labels=labels[keep],
        is_crowd=np.zeros(len(keep), dtype=np.bool_),
        areas=np.full(len(keep), np.nan),
        ids=np.full(len(keep), -1, dtype=np.int64),
        place=lambda row: place(int(keep[row])),
    )
    annotations, box_problems = clean_objects(raw, images, known_size_only=True)
    problems += size_problems + box_problems
    return images, annotations
