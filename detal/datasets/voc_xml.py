"""Parse one VOC annotation file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from xml.etree import ElementTree

from detal.datasets.xml_files import parse_xml
from detal.errors import DataError

__all__ = ["VocImage", "VocObject", "parse_voc"]

_MAX_SIDE = 2**31 - 1


@dataclass(frozen=True)
class VocObject:
    """One object.

    Attributes:
        name: Its class, empty if not stated.
        corners: ``xmin, ymin, xmax, ymax`` as stated, NaN where not stated or no number.
        difficult: Whether it is marked difficult.
    """

    name: str
    corners: tuple[float, float, float, float]
    difficult: bool


@dataclass(frozen=True)
class VocImage:
    """One annotation file.

    Attributes:
        file: The XML file, empty if there is none.
        filename: Image name as stated.
        width: Stated width in pixels, None if not stated or impossible.
        height: Stated height.
        objects: In file order.
    """

    file: str = ""
    filename: str = ""
    width: int | None = None
    height: int | None = None
    objects: tuple[VocObject, ...] = ()


def parse_voc(path: str) -> VocImage:
    """Parse an annotation file.

    Raises:
        DataError: If it cannot be read, is no XML, is no VOC annotation, or declares entities.
    """
    root = parse_xml(path)
    if root.tag != "annotation":
        raise DataError(f"{path} must have the root element <annotation>, got <{root.tag}>")
    return VocImage(
        file=path,
        filename=_text(root, "filename"),
        width=_side(_text(root, "size/width")),
        height=_side(_text(root, "size/height")),
        objects=tuple(_object(element) for element in root.findall("object")),
    )


def _text(element: ElementTree.Element, tag: str) -> str:
    return (element.findtext(tag) or "").strip()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _side(text: str) -> int | None:
    number = _number(text)
    return int(number) if 1 <= number <= _MAX_SIDE else None


def _object(element: ElementTree.Element) -> VocObject:
    box = element.find("bndbox")
    x1, y1, x2, y2 = (
        math.nan if box is None else _number(_text(box, tag))
        for tag in ("xmin", "ymin", "xmax", "ymax")
    )
    return VocObject(
        name=_text(element, "name"),
        corners=(x1, y1, x2, y2),
        difficult=_number(_text(element, "difficult")) == 1,
    )
