"""Read Label Studio exports: JSON and JSON_MIN.

Our own reader: Label Studio's converter turns its exports into COCO or YOLO, but drops the tasks'
data with it, and with that the ids of the images.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from detal.datasets.dataset import Dataset, Problem
from detal.datasets.images import image_size
from detal.datasets.json_values import id_text, number, parse_json
from detal.datasets.label_studio_regions import MAX_SIDE, Region, read_regions
from detal.datasets.label_studio_tasks import Several, Task, choose, local_path, read_tasks
from detal.datasets.listing import absolute, image_frame, path_ids
from detal.datasets.named_objects import NamedObject, named_annotations
from detal.errors import DataError

__all__ = ["read_label_studio"]


def read_label_studio(
    path: str | Path,
    *,
    images_root: str | Path | None = None,
    split: str | None = None,
    class_names: Sequence[str] | None = None,
    several: Several = "newest",
) -> Dataset:
    """Read a Label Studio export; images without a completed annotation are left out.

    Rotated rectangles, ellipses and polygons become their axis-aligned hulls, with a warning;
    brushes and key points are left out, with an error. Ids of images are ``detal_image_id`` of the
    tasks' data where all have one, else their paths below ``images_root``.

    Args:
        path: The JSON file.
        images_root: Folder that the images are below, by default the file's.
        split: Not known here; must be None.
        class_names: Classes and their order; objects of other classes are left out. By default all
            labels that occur, sorted.
        several: Which annotation counts where an image has several (`choose`).

    Raises:
        DataError: If the file cannot be read, or is no such export.
    """
    file = absolute(path)
    if split is not None:
        raise DataError(f"split must be left out: a Label Studio export has none ({file})")
    problems: list[Problem] = []
    tasks = read_tasks(parse_json(file), str(file), problems)
    root = file.parent if images_root is None else absolute(images_root)
    tasks = choose(tasks, str(file), problems, several=several)
    tasks, paths = _distinct(tasks, root, str(file), problems)
    sizes = [_size(task, path) for task, path in zip(tasks, paths, strict=True)]
    images = _image_table(tasks, paths, sizes, root)
    objects = _objects(tasks, sizes, str(file), problems)
    classes, annotations, object_problems = named_annotations(
        objects, images, file=str(file), names=(), class_names=class_names
    )
    return Dataset(
        name=file.stem,
        images=images,
        class_names=classes.names,
        category_ids=classes.category_ids,
        annotations=annotations,
        problems=(*problems, *object_problems),
    )


def _distinct(
    tasks: Sequence[Task], root: Path, file: str, problems: list[Problem]
) -> tuple[list[Task], list[str]]:
    """The tasks and their images, each image once where no ids tell images apart."""
    paths = [local_path(task.reference, root) for task in tasks]
    if all(id_text(task.data.get("detal_image_id")) for task in tasks):
        return list(tasks), paths
    kept: dict[str, Task] = {}
    for path, task in zip(paths, tasks, strict=True):
        if path in kept:
            message = f"images must have a task of their own, {kept[path].where} has {path} too"
            problems.append(Problem("duplicate_id", file, task.where, message))
        kept.setdefault(path, task)
    return list(kept.values()), list(kept)


def _size(task: Task, path: str) -> tuple[int, int] | None:
    """Size of the image as the results state it, or as its file does if they need it."""
    results = task.results or ()
    for result in results:
        width, height = (number(result.get(f"original_{side}")) for side in ("width", "height"))
        if 1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE:
            return int(width), int(height)
    if not results:
        return None
    try:
        return image_size(path)
    except DataError:
        return None


def _image_table(
    tasks: Sequence[Task],
    paths: Sequence[str],
    sizes: Sequence[tuple[int, int] | None],
    root: Path,
) -> pl.DataFrame:
    own_ids = [id_text(task.data.get("detal_image_id")) for task in tasks]
    return image_frame(
        [i for i in own_ids if i is not None] if all(own_ids) else path_ids(paths, root),
        paths,
        widths=[None if size is None else size[0] for size in sizes],
        heights=[None if size is None else size[1] for size in sizes],
        metadata={"detal_image_id": own_ids} if any(own_ids) else None,
    )


def _objects(
    tasks: Sequence[Task],
    sizes: Sequence[tuple[int, int] | None],
    file: str,
    problems: list[Problem],
) -> list[NamedObject]:
    objects = []
    for row, (task, size) in enumerate(zip(tasks, sizes, strict=True)):
        for region in read_regions(task.results or (), size):
            where = f"{task.where}, {region.where}"
            problems += _problems(region, file, where)
            if not region.fault:
                objects.append(NamedObject(row, region.name, region.box, where))
    return objects


def _problems(region: Region, file: str, where: str) -> list[Problem]:
    if region.fault:
        return [Problem("shape_left_out", file, where, region.fault)]
    return [
        Problem("shape_hull", file, where, f"an object {note}", "warning") for note in region.notes
    ]
