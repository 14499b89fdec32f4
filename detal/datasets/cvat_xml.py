"""The shapes of a CVAT XML file as boxes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from xml.etree.ElementTree import Element

from detal.datasets.dataset import Problem
from detal.datasets.named_objects import NamedObject
from detal.datasets.shapes import MAX_NUMBER, Box, ellipse_hull, points_hull, rotated_hull

__all__ = ["attribute_values", "read_shapes", "stated"]

_UNUSABLE = ("polyline", "points", "cuboid", "skeleton")


def read_shapes(
    image: Element, *, row: int, file: str, problems: list[Problem]
) -> Iterator[NamedObject]:
    """The objects of an ``<image>``: boxes, and hulls of what covers an area.

    Rotated boxes, polygons, ellipses and masks become their axis-aligned hulls, with a warning;
    polylines, points, cuboids and skeletons are left out, with an error.

    Args:
        image: The element.
        row: Row of the image in the dataset.
        file: The XML file, for messages.
        problems: Gets what was changed and left out.
    """
    name = image.get("name", "")
    for number, shape in enumerate(image, start=1):
        where = f"image {name}, {shape.tag} {number}"
        if shape.tag in _UNUSABLE:
            message = f"an object must cover an area, a {shape.tag} is left out"
            problems.append(Problem("shape_left_out", file, where, message))
        elif shape.tag in _HULLS:
            box, is_box = _HULLS[shape.tag](shape)
            if not is_box and not any(map(math.isnan, box)):
                message = "an object must be an upright box, its hull is taken"
                problems.append(Problem("shape_hull", file, where, message, "warning"))
            yield NamedObject(row, shape.get("label", ""), box, where)


def attribute_values(element: Element) -> dict[str, str]:
    """The ``<attribute>`` values of a shape or tag by name."""
    return {a.get("name", ""): a.text or "" for a in element.findall("attribute")}


def stated(element: Element, key: str) -> float:
    """A number in an XML attribute, NaN if it is none or no length or angle can be so large."""
    try:
        value = float(element.get(key, ""))
    except ValueError:
        return math.nan
    return value if abs(value) <= MAX_NUMBER else math.nan


def _box(shape: Element) -> tuple[Box, bool]:
    x1, y1, x2, y2 = (stated(shape, key) for key in ("xtl", "ytl", "xbr", "ybr"))
    degrees = _rotation(shape)
    if degrees == 0:
        return (x1, y1, x2, y2), True
    return rotated_hull((x1, y1, x2, y2), degrees, pivot=((x1 + x2) / 2, (y1 + y2) / 2)), False


def _ellipse(shape: Element) -> tuple[Box, bool]:
    cx, cy, rx, ry = (stated(shape, key) for key in ("cx", "cy", "rx", "ry"))
    return ellipse_hull((cx, cy), (rx, ry), _rotation(shape)), False


def _polygon(shape: Element) -> tuple[Box, bool]:
    points = []
    for pair in shape.get("points", "").split(";"):
        try:
            x, y = map(float, pair.split(","))
            is_usable = max(abs(x), abs(y)) <= MAX_NUMBER
            points.append((x, y) if is_usable else (math.nan, math.nan))
        except ValueError:
            points.append((math.nan, math.nan))
    return points_hull(points), False


def _mask(shape: Element) -> tuple[Box, bool]:
    left, top, width, height = (stated(shape, key) for key in ("left", "top", "width", "height"))
    return (left, top, left + width, top + height), False


def _rotation(shape: Element) -> float:
    """Degrees clockwise around the shape's centre; NaN, which spoils the box, if unreadable."""
    return stated(shape, "rotation") if shape.get("rotation") is not None else 0.0


_HULLS: dict[str, Callable[[Element], tuple[Box, bool]]] = {
    "box": _box,
    "ellipse": _ellipse,
    "polygon": _polygon,
    "mask": _mask,
}
