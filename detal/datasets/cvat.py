"""Read "CVAT for images 1.1" XML, as CVAT exports it.

Our own reader: datumaro reads it too, at 560 MB of dependencies, and stops at the first fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

import polars as pl

from detal.datasets.coco_files import find_images_root
from detal.datasets.cvat_xml import attribute_values, read_shapes, stated
from detal.datasets.dataset import Dataset, Problem
from detal.datasets.listing import absolute, absolute_below, image_frame, native, path_ids
from detal.datasets.named_objects import named_annotations
from detal.datasets.xml_files import parse_xml
from detal.errors import DataError, unknown_name

__all__ = ["CVAT_FILE", "CVAT_TAG", "is_cvat", "read_cvat"]

CVAT_FILE = "annotations.xml"
"""What CVAT calls the file in its exports."""
CVAT_TAG = "detal_selection"
"""Label of the image tag in which `detal` keeps id, rank, score and reason of an image."""

_MAX_SIDE = 2**31 - 1


def read_cvat(
    path: str | Path,
    *,
    images_root: str | Path | None = None,
    split: str | None = None,
    class_names: Sequence[str] | None = None,
) -> Dataset:
    """Read a CVAT annotation file.

    Every ``<image>`` is a labelled image; CVAT does not tell one without objects from one that
    nobody has looked at. An id that `detal` gave it comes back in a column ``detal_image_id``.
    Shapes other than upright boxes: see `detal.datasets.cvat_xml.read_shapes`.

    Args:
        path: The XML file, or the folder that holds it as ``annotations.xml``.
        images_root: Folder that image names are relative to, by default looked for around the file.
        split: A ``subset`` of the images.
        class_names: Classes and their order; objects of other classes are left out. By default
            those the file declares.

    Raises:
        DataError: If the file cannot be read, is not such XML, or has no such split.
    """
    file = absolute(path)
    file = file / CVAT_FILE if file.is_dir() else file
    root = parse_xml(str(file))
    _check(root, file)
    problems: list[Problem] = []
    elements = _of_split(root.findall("image"), split, file)
    names = [native(element.get("name", "")) for element in elements]
    place = find_images_root(file, [name for name in names if name], images_root, problems)
    kept = _usable(elements, names, file, problems)
    images = _image_table(kept, place)
    objects = [
        thing
        for row, (element, _) in enumerate(kept)
        for thing in read_shapes(element, row=row, file=str(file), problems=problems)
    ]
    declared = [text for label in root.iterfind("meta//label") if (text := _name(label))]
    classes, annotations, object_problems = named_annotations(
        objects,
        images,
        file=str(file),
        names=[name for name in declared if name != CVAT_TAG],
        class_names=class_names,
    )
    return Dataset(
        name=file.stem,
        images=images,
        class_names=classes.names,
        category_ids=classes.category_ids,
        annotations=annotations,
        problems=(*problems, *object_problems),
    )


def is_cvat(path: Path) -> bool:
    """Whether a file looks like CVAT's by its first bytes."""
    try:
        with path.open("rb") as file:
            return b"<annotations>" in file.read(2048)
    except OSError:
        return False


def _check(root: Element, file: Path) -> None:
    if root.tag != "annotations":
        raise DataError(f"{file} must have the root element <annotations>, got <{root.tag}>")
    if root.find("track") is not None:
        raise DataError(f'{file} holds tracks of a video: export the task as "CVAT for images 1.1"')


def _of_split(elements: list[Element], split: str | None, file: Path) -> list[Element]:
    if split is None:
        return elements
    subsets = {text for element in elements if (text := element.get("subset"))}
    if split not in subsets:
        raise DataError(f"{file}: {unknown_name('split', split, subsets)}")
    return [element for element in elements if element.get("subset") == split]


def _usable(
    elements: list[Element], names: list[str], file: Path, problems: list[Problem]
) -> list[tuple[Element, str]]:
    """The images that have a name of their own."""
    kept: dict[str, Element] = {}
    for number, (element, name) in enumerate(zip(elements, names, strict=True), start=1):
        if not name:
            message = "an image must have a name"
            problems.append(Problem("unreadable_annotation", str(file), f"image {number}", message))
        elif name in kept:
            message = f"image names must be unique, got {name} again; the first counts"
            problems.append(Problem("duplicate_id", str(file), f"image {number}", message))
        else:
            kept[name] = element
    return [(element, name) for name, element in kept.items()]


def _image_table(kept: list[tuple[Element, str]], place: Path) -> pl.DataFrame:
    paths = [absolute_below(place, name) for _, name in kept]
    tags = [_tag_values(element) for element, _ in kept]
    own_ids = [tag.get("detal_image_id") for tag in tags]
    return image_frame(
        path_ids(paths, place),
        paths,
        widths=[_side(stated(element, "width")) for element, _ in kept],
        heights=[_side(stated(element, "height")) for element, _ in kept],
        metadata={"detal_image_id": own_ids} if any(own_ids) else None,
    )


def _tag_values(image: Element) -> dict[str, str]:
    tags = [tag for tag in image.findall("tag") if tag.get("label") == CVAT_TAG]
    return attribute_values(tags[0]) if tags else {}


def _side(value: float) -> int | None:
    return int(value) if 1 <= value <= _MAX_SIDE else None


def _name(label: Element) -> str:
    return label.findtext("name") or ""
