"""Distances to what is known, against all distances computed at once."""

from collections.abc import Callable

import numpy as np
import pytest

from detal.features.nearest import CosinePoints, EuclideanPoints, Known, Points, Rows

Make = Callable[[Rows], Points]
KINDS = [
    pytest.param(CosinePoints, id="cosine"),
    pytest.param(EuclideanPoints, id="euclidean"),
]


def brute(make: Make, points: np.ndarray) -> np.ndarray:
    if make is CosinePoints:
        return np.asarray(1 - points @ points.T)
    return np.asarray(np.linalg.norm(points[:, None] - points[None], axis=2))


def world(size: int) -> np.ndarray:
    points = np.random.default_rng(size).normal(size=(size, 5))
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    return np.asarray(unit, dtype=np.float32)


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("asked", [1, 7, 300])
def test_distances_are_those_to_the_nearest(make: Make, asked: int) -> None:
    points, rng = world(300), np.random.default_rng(asked)
    between = brute(make, points)
    known = Known(np.full(300, np.inf, dtype=np.float32), make(lambda index: points[index]))
    picks = rng.permutation(300)[:150].tolist()
    for number, pick in enumerate(picks, start=1):
        known = known.add(pick)
        assert len(known) == number
        index = rng.permutation(300)[:asked]
        expected = between[index][:, picks[:number]].min(axis=1)
        assert known.distance(index) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("make", KINDS)
def test_an_older_state_stays_what_it_was(make: Make) -> None:
    points = world(40)
    between, everyone = brute(make, points), np.arange(40)
    start = np.full(40, 0.7, dtype=np.float32)
    none = Known(start, make(lambda index: points[index]))
    one = none.add(3)
    first, second = one.add(5), one.add(8)
    assert first.distance(everyone[:20]).shape == (20,)
    for state, picks in ((second, [3, 8]), (first, [3, 5]), (one, [3]), (first, [3, 5])):
        expected = np.minimum(between[:, picks].min(axis=1), 0.7)
        assert state.distance(everyone) == pytest.approx(expected, abs=1e-3)
    assert none.distance(everyone).tolist() == start.tolist()


def test_nobody_asked_about() -> None:
    known = Known(np.zeros(3, np.float32), CosinePoints(lambda index: np.eye(3, dtype=np.float32)))
    assert known.add(0).distance(np.zeros(0, dtype=np.int64)).shape == (0,)
