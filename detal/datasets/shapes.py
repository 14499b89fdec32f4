"""Axis-aligned hulls of the shapes that labelling tools draw besides boxes."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["MAX_NUMBER", "Box", "ellipse_hull", "points_hull", "rotated_hull"]

Box = tuple[float, float, float, float]
"""xyxy in pixels."""
MAX_NUMBER = 1e10
"""Larger numbers are no coordinates or angles; readers make them NaN, which spoils the box."""


def points_hull(points: ArrayLike) -> Box:
    """Hull of points.

    Args:
        points: (n, 2) x and y; without any, or with one that is no number, the hull is NaN.
    """
    array: NDArray[np.float64] = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    if not len(array):
        return (math.nan,) * 4
    (x1, y1), (x2, y2) = array.min(axis=0).tolist(), array.max(axis=0).tolist()
    return x1, y1, x2, y2


def rotated_hull(box: Box, degrees: float, *, pivot: tuple[float, float]) -> Box:
    """Hull of a box turned clockwise (y points down) around a point.

    Args:
        box: xyxy before it is turned.
        degrees: Angle.
        pivot: x and y of the point that stays.
    """
    x1, y1, x2, y2 = box
    corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]]) - pivot
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return points_hull(corners @ np.array([[cos, sin], [-sin, cos]]) + pivot)


def ellipse_hull(
    center: tuple[float, float], radii: tuple[float, float], degrees: float = 0.0
) -> Box:
    """Hull of an ellipse turned around its centre."""
    (x, y), (a, b) = center, radii
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    half_width, half_height = math.hypot(a * cos, b * sin), math.hypot(a * sin, b * cos)
    return x - half_width, y - half_height, x + half_width, y + half_height
