"""Read PASCAL VOC: one XML file per image, optionally lists of images in ``ImageSets``.

Our own reader: torchvision's knows the devkit's folders only and returns nested text, datumaro and
supervision are large dependencies that stop at the first fault, and all disagree by a pixel.

The devkit counts pixels from 1 and means the last one to be inside, so that its box covers
``xmin - 1 .. xmax`` in our coordinates. Nearly every XML file in circulation was written by a tool
(labelImg, CVAT, Roboflow) that stores corners counted from 0, and torchvision and datumaro take the
numbers as they stand; so do we: ``FIRST_PIXEL`` is 0, and 1 gives the devkit's meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detal.datasets.classes import UNKNOWN, ClassTable, class_table, excluded_classes
from detal.datasets.dataset import Dataset, Problem
from detal.datasets.listing import absolute, image_frame, unique_files
from detal.datasets.objects import RawObjects, clean_objects, fill_sizes
from detal.datasets.voc_files import VocFiles, find_voc_files
from detal.datasets.voc_xml import VocImage, parse_voc
from detal.errors import DataError

__all__ = ["FIRST_PIXEL", "read_voc"]

FIRST_PIXEL = 0
"""Number of the first pixel in a row or column, which is subtracted from ``xmin`` and ``ymin``."""


def read_voc(
    path: str | Path,
    *,
    images_root: str | Path | None = None,
    split: str | None = None,
    class_names: Sequence[str] | None = None,
    first_pixel: int = FIRST_PIXEL,
) -> Dataset:
    """Read a VOC dataset; ``difficult`` objects become crowds.

    Ids are paths of the images relative to the dataset's folder, or to ``images_root`` if that is
    elsewhere. An image without an XML file has
    no objects; one whose XML cannot be read is left out.

    Args:
        path: Folder with ``Annotations`` and ``JPEGImages`` (or one level above), or any folder
            that holds XML files and images, side by side or apart.
        images_root: Folder of the images, where it is not below ``path``.
        split: A list in ``ImageSets/Main``, or a folder of this name; by default all images.
        class_names: Classes and their order; objects of other classes are left out. By default all
            names in the whole dataset, sorted, so that splits agree.
        first_pixel: 0, or 1 for the devkit's own counting.

    Raises:
        DataError: If there are no XML files and images, or no such split.
    """
    files = find_voc_files(
        absolute(path),
        images_root=None if images_root is None else absolute(images_root),
        split=split,
    )
    problems: list[Problem] = list(files.problems)
    records = _parse(files, problems, names_needed=class_names is None)
    xml_of = {image: xml for image, xml in files.pairs if xml is None or xml in records}
    ids, paths, name_problems = unique_files(((p, p, "") for p in xml_of), files.id_root)
    problems += name_problems
    found = sorted({thing.name for record in records.values() for thing in record.objects} - {""})
    listed = [] if class_names is None else list(class_names)
    names = [*listed, *(name for name in found if name not in listed)]
    classes = class_table(list(enumerate(names, start=1)), class_names)
    used = [records[xml] if (xml := xml_of[path]) is not None else VocImage() for path in paths]
    images = image_frame(
        ids,
        paths,
        widths=[record.width for record in used],
        heights=[record.height for record in used],
    )
    annotations = None
    if records:
        raw = _objects(used, files.root, classes, first_pixel, problems)
        images, size_problems = fill_sizes(images, raw.image_rows)
        annotations, box_problems = clean_objects(raw, images)
        problems += size_problems + box_problems
    return Dataset(
        name=files.root.name,
        images=images,
        class_names=classes.names,
        category_ids=classes.category_ids,
        annotations=annotations,
        problems=tuple(problems),
    )


def _parse(files: VocFiles, problems: list[Problem], *, names_needed: bool) -> dict[str, VocImage]:
    """The readable XML files: of the images, and of the others if their class names are needed."""
    chosen = {xml for _, xml in files.pairs if xml is not None}
    records = {}
    for xml in (*sorted(chosen), *(files.other_xml if names_needed else ())):
        try:
            records[xml] = parse_voc(xml)
        except DataError as error:
            if xml in chosen:
                problems.append(Problem("unreadable_annotation", xml, "", str(error)))
    return records


def _objects(
    used: list[VocImage],
    root: Path,
    classes: ClassTable,
    first_pixel: int,
    problems: list[Problem],
) -> RawObjects:
    """The objects of the images, those with a class that is wanted."""
    objects = [(row, n, o) for row, r in enumerate(used) for n, o in enumerate(r.objects, start=1)]
    category_of = {name: category for category, name in classes.name_of.items()}
    category_ids = np.array([category_of.get(o.name, 0) for _, _, o in objects], dtype=np.int64)
    labels = classes.labels(category_ids)

    def place(row: int) -> tuple[str, str]:
        image, number, _ = objects[row]
        return used[image].file, f"object {number}"

    for row in np.flatnonzero(labels == UNKNOWN).tolist():
        message = "an object must have a <name>, got none"
        problems.append(Problem("unknown_category", *place(row), message))
    problems += excluded_classes(classes, category_ids, str(root))
    keep = np.flatnonzero(labels >= 0)
    kept = [objects[row] for row in keep.tolist()]
    boxes = np.array([o.corners for _, _, o in kept], dtype=np.float64).reshape(-1, 4)
    boxes[:, :2] -= first_pixel
    return RawObjects(
        image_rows=np.array([image for image, _, _ in kept], dtype=np.int64),
        boxes=boxes,
        labels=labels[keep],
        is_crowd=np.array([o.difficult for _, _, o in kept], dtype=np.bool_),
        areas=np.full(len(kept), np.nan),
        ids=np.full(len(kept), -1, dtype=np.int64),
        place=lambda row: place(int(keep[row])),
    )
