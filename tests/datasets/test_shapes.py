import math

import numpy as np
import pytest

from detal.datasets.shapes import ellipse_hull, points_hull, rotated_hull


@pytest.mark.parametrize(
    ("degrees", "pivot", "expected"),
    [
        pytest.param(0, (0, 0), (0, 0, 4, 2), id="none"),
        pytest.param(90, (0, 0), (-2, 0, 0, 4), id="clockwise-around-the-corner"),
        pytest.param(90, (2, 1), (1, -1, 3, 3), id="around-the-centre"),
        pytest.param(180, (2, 1), (0, 0, 4, 2), id="upside-down"),
    ],
)
def test_turned_box(degrees: float, pivot: tuple[float, float], expected) -> None:
    assert rotated_hull((0, 0, 4, 2), degrees, pivot=pivot) == pytest.approx(expected)


def test_square_on_its_corner() -> None:
    half = math.sqrt(2)
    hull = rotated_hull((-1, -1, 1, 1), 45, pivot=(0, 0))
    assert hull == pytest.approx((-half, -half, half, half))


@pytest.mark.parametrize("degrees", [0, 30, 90, 200])
def test_ellipse_against_its_outline(degrees: float) -> None:
    angles = np.linspace(0, 2 * np.pi, 100_000)
    x, y = 5 * np.cos(angles), 2 * np.sin(angles)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    outline = np.stack([x * cos - y * sin + 7, x * sin + y * cos + 9], axis=1)
    assert ellipse_hull((7, 9), (5, 2), degrees) == pytest.approx(points_hull(outline), abs=1e-6)


def test_hull_of_no_or_unreadable_points() -> None:
    assert all(math.isnan(value) for value in points_hull(np.zeros((0, 2))))
    assert math.isnan(points_hull([[1.0, 2.0], [math.nan, 3.0]])[0])
