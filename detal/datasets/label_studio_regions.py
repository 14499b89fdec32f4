"""The regions of a Label Studio annotation as boxes.

Coordinates are percent of the image; a region turns clockwise around its top left corner.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detal.datasets.json_values import number, short
from detal.datasets.listing import storable
from detal.datasets.shapes import MAX_NUMBER, Box, ellipse_hull, points_hull, rotated_hull

__all__ = ["MAX_SIDE", "Region", "read_regions"]

MAX_SIDE = 2**31 - 1
"""Largest width or height in pixels that is believed."""

_HULLED = ("rectangle", "ellipse", "polygon")
_UNUSABLE = ("brush", "keypoint", "bitmask", "vector", "cube")


@dataclass(frozen=True)
class Region:
    """One region.

    Attributes:
        name: Its label, empty if there is none.
        box: xyxy in pixels, NaN where the file states no number.
        notes: What was changed.
        fault: Why it cannot be used, empty if it can.
        where: Which one it is, for messages.
    """

    name: str
    box: Box
    notes: tuple[str, ...]
    fault: str
    where: str


def read_regions(
    results: Sequence[Mapping[str, Any]], size: tuple[float, float] | None
) -> Iterator[Region]:
    """The regions among the results of an annotation, in order.

    Choices, texts, ratings and relations are no regions and say nothing about boxes.

    Args:
        results: ``result`` of an annotation; in JSON_MIN the values themselves.
        size: Width and height of the image where a result does not state them.
    """
    label_of = _labels_by_id(results)
    for index, result in enumerate(results):
        value = result.get("value", result)
        shape = _shape(result, value)
        if shape is None:
            continue
        where = f"region {result.get('id', index + 1)}"
        labels = value.get(f"{shape}labels") or label_of.get(str(result.get("id"))) or []
        labels = labels if isinstance(labels, list) else [labels]
        names = [label for label in labels if isinstance(label, str) and storable(label)]
        notes = [f"has {len(names)} labels, {names[0]!r} counts"] if len(names) > 1 else []
        width, height = (number(result.get(f"original_{side}")) for side in ("width", "height"))
        if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
            width, height = size or (np.nan, np.nan)
        fault = _fault(shape, result, width)
        box: Box = (np.nan,) * 4
        if not fault:
            box, is_hull = _box(shape, value, width, height)
            notes += (
                ["is no upright box, its hull is taken"]
                if is_hull and not np.isnan(box).any()
                else []
            )
        yield Region(names[0] if names else "", box, tuple(notes), fault, where)


def _labels_by_id(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Labels that stand in a result of their own beside the shape with the same id."""
    found = {}
    for result in results:
        value = result.get("value")
        if result.get("type") == "labels" and isinstance(value, Mapping):
            found[str(result.get("id"))] = value.get("labels")
    return found


def _shape(result: Mapping[str, Any], value: Any) -> str | None:
    """Name of the shape, None if the result is no region."""
    if not isinstance(value, Mapping):
        return None
    stated = str(result.get("type", "")).removesuffix("labels")
    for shape in (*_HULLED, *_UNUSABLE):
        if stated == shape or f"{shape}labels" in value:
            return shape
    return None


def _fault(shape: str, result: Mapping[str, Any], width: float) -> str:
    if shape in _UNUSABLE:
        return f"an object must be a rectangle, ellipse or polygon, a {shape} is left out"
    turned = result.get("image_rotation", 0)
    if turned not in (0, None):
        return f"the image must be upright while labelling, image_rotation is {short(turned)}"
    if not width >= 1:
        return "a region needs original_width and original_height, or its image"
    return ""


def _box(shape: str, value: Mapping[str, Any], width: float, height: float) -> tuple[Box, bool]:
    """Box in pixels, and whether it is the hull of something else."""
    scale = np.array([width, height]) / 100
    degrees = _number(value.get("rotation") or 0)
    if shape == "polygon":
        return points_hull(_points(value.get("points")) * scale), True
    x, y = np.array([_number(value.get("x")), _number(value.get("y"))]) * scale
    if shape == "ellipse":
        radii = np.array([_number(value.get("radiusX")), _number(value.get("radiusY"))]) * scale
        return ellipse_hull((x, y), (radii[0], radii[1]), degrees), True
    sides = np.array([_number(value.get("width")), _number(value.get("height"))]) * scale
    box = (float(x), float(y), float(x + sides[0]), float(y + sides[1]))
    return (box, False) if degrees == 0 else (rotated_hull(box, degrees, pivot=(x, y)), True)


def _number(value: Any) -> float:
    """A number, NaN if it is none or no coordinate or angle can be so large."""
    stated = number(value)
    return stated if abs(stated) <= MAX_NUMBER else np.nan


def _points(points: Any) -> Any:
    """(n, 2) points, one of NaN if they are no list of pairs of numbers."""
    pairs = points if isinstance(points, list) else []
    if not pairs or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        return np.full((1, 2), np.nan)
    return np.array([[_number(x), _number(y)] for x, y in pairs])
