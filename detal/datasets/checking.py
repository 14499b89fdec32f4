"""Look at every file of a dataset and report everything that is wrong at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np
import polars as pl
from numpy.typing import NDArray

from detal.datasets.dataset import Dataset, Problem
from detal.datasets.images import image_size, read_image
from detal.datasets.objects import OVERHANG_PX
from detal.datasets.threads import map_in_threads
from detal.errors import DataError

__all__ = ["check_dataset", "problems_table"]


@dataclass(frozen=True, slots=True)
class _Look:
    """What one image file is: its size and, if decoded, its content, or what is wrong with it."""

    width: int = 0
    height: int = 0
    content_hash: str | None = None
    problem: tuple[str, str] | None = None


def check_dataset(
    dataset: Dataset,
    *,
    decode: bool = True,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[Problem, ...]:
    """Check all image files and everything that depends on them.

    Args:
        dataset: An opened dataset; its own ``problems`` come first in the result.
        decode: Decode each image. Otherwise only its header is read: truncated files and equal
            contents stay unnoticed.
        workers: Threads; by default a few per core.
        progress: Called after each image with the number of images done.
    """
    looks: list[_Look] = []
    look_at = _decode if decode else _read_header
    for look in map_in_threads(look_at, dataset.images["path"].to_list(), workers=workers):
        looks.append(look)
        if progress is not None:
            progress(len(looks))
    found = [
        *_file_problems(dataset, looks),
        *_size_mismatches(dataset, looks),
        *_boxes_outside(dataset, looks),
        *_equal_contents(dataset, looks),
        *_repeated_classes(dataset),
    ]
    known = {(p.kind, p.file, p.where) for p in dataset.problems}
    return (*dataset.problems, *(p for p in found if (p.kind, p.file, p.where) not in known))


def problems_table(problems: Sequence[Problem]) -> pl.DataFrame:
    """One row per problem: ``kind, file, where, message, severity``."""
    schema = {field.name: pl.String() for field in fields(Problem)}
    return pl.DataFrame([astuple(problem) for problem in problems], schema=schema, orient="row")


def _decode(path: str) -> _Look:
    try:
        image = read_image(path)
    except DataError as error:
        return _failed(path, error)
    height, width = image.size_hw
    return _Look(width, height, image.content_hash)


def _read_header(path: str) -> _Look:
    try:
        return _Look(*image_size(path))
    except DataError as error:
        return _failed(path, error)


def _failed(path: str, error: DataError) -> _Look:
    kind = "undecodable" if os.path.exists(path) else "missing_file"  # noqa: PTH110
    return _Look(problem=(kind, str(error)))


def _file_problems(dataset: Dataset, looks: Sequence[_Look]) -> Iterator[Problem]:
    for row, look in enumerate(looks):
        if look.problem is not None:
            image_id, path = dataset.images.select("image_id", "path").row(row)
            yield Problem(look.problem[0], path, image_id, look.problem[1])


def _sizes(looks: Sequence[_Look]) -> NDArray[np.int64]:
    """(P, 2) true width and height, 0 where the file cannot be read."""
    return np.array([(look.width, look.height) for look in looks], dtype=np.int64).reshape(-1, 2)


def _size_mismatches(dataset: Dataset, looks: Sequence[_Look]) -> Iterator[Problem]:
    stated = dataset.images.select("width", "height").fill_null(0).to_numpy().astype(np.int64)
    true = _sizes(looks)
    differs = (stated != true).any(axis=1) & stated.all(axis=1) & true.all(axis=1)
    for row in np.flatnonzero(differs).tolist():
        image_id, path = dataset.images.select("image_id", "path").row(row)
        (w, h), (true_w, true_h) = stated[row].tolist(), true[row].tolist()
        hint = ""
        if (w, h) == (true_h, true_w):
            hint = "; sides are swapped: boxes may ignore the EXIF rotation"
        message = f"stated size must be the image's, got {w} x {h} for {true_w} x {true_h}{hint}"
        yield Problem("size_mismatch", path, image_id, message, "warning")


def _boxes_outside(dataset: Dataset, looks: Sequence[_Look]) -> Iterator[Problem]:
    """Boxes that fit the stated size of the image, but not the true one."""
    if dataset.annotations is None:
        return
    true = _sizes(looks)[dataset.annotations.image_index]
    overhang = (dataset.annotations.boxes[:, 2:] - true).max(axis=1, initial=-np.inf)
    for row in np.flatnonzero((overhang > OVERHANG_PX) & true.all(axis=1)).tolist():
        image = dataset.images.row(int(dataset.annotations.image_index[row]), named=True)
        corners = ", ".join(f"{v:.6g}" for v in dataset.annotations.boxes[row])
        yield Problem(
            "box_outside",
            image["path"],
            f"{image['image_id']}, annotation {dataset.annotations.ids[row]}",
            f"a box must lie inside the image, got xyxy [{corners}] in an image of "
            f"{true[row][0]} x {true[row][1]}",
            "warning",
        )


def _equal_contents(dataset: Dataset, looks: Sequence[_Look]) -> Iterator[Problem]:
    first: dict[str, int] = {}
    images = dataset.images.select("image_id", "path")
    for row, look in enumerate(looks):
        if look.content_hash is None:
            continue
        original = first.setdefault(look.content_hash, row)
        if original != row:
            (image_id, path), (twin, _) = images.row(row), images.row(original)
            message = f"images must differ, got the same bytes as {twin}"
            yield Problem("duplicate_content", path, image_id, message, "warning")


def _repeated_classes(dataset: Dataset) -> Iterator[Problem]:
    seen: set[str] = set()
    for label, name in enumerate(dataset.class_names):
        if name in seen:
            message = f"class names must be distinct, got {name!r} again"
            yield Problem("duplicate_category", dataset.name, f"class {label}", message, "warning")
        seen.add(name)
