import numpy as np
import pytest

from detal.errors import DataError
from detal.loop.curves import (
    Curve,
    StopRule,
    area_under,
    bootstrap_mean,
    expected_gain,
    labels_to_reach,
    stopping_point,
    win_matrix,
)


def curve(spent: list[float], metric: list[float], *, name: str = "a", seed: int = 0) -> Curve:
    return Curve(strategy=name, seed=seed, spent=np.array(spent), metric=np.array(metric))


@pytest.mark.parametrize(
    ("start", "end", "area"),
    [
        pytest.param(10, 30, 0.275, id="whole"),  # mean of 0.1..0.3 and 0.3..0.4
        pytest.param(15, 20, 0.25, id="inside-one-segment"),
        pytest.param(20, 40, 0.375, id="beyond-the-end-the-last-value-counts"),
    ],
)
def test_area(start: float, end: float, area: float) -> None:
    assert area_under(curve([10, 20, 30], [0.1, 0.3, 0.4]), start=start, end=end) == (
        pytest.approx(area)
    )


def test_area_needs_a_range() -> None:
    with pytest.raises(DataError, match="must have a length"):
        area_under(curve([1], [0.1]), start=3, end=3)


@pytest.mark.parametrize(
    ("target", "labels"),
    [
        pytest.param(0.2, 15, id="between"),
        pytest.param(0.1, 10, id="from-the-start"),
        pytest.param(0.4, 30, id="at-the-end"),
        pytest.param(0.5, float("inf"), id="never"),
    ],
)
def test_labels_to_reach(target: float, labels: float) -> None:
    assert labels_to_reach(curve([10, 20, 30], [0.1, 0.3, 0.4]), target) == pytest.approx(labels)


@pytest.mark.parametrize(
    ("spent", "metric", "message"),
    [
        pytest.param([1, 1], [0, 0], "increase", id="no-progress"),
        pytest.param([0, 1], [0, 0], "> 0", id="starts-at-zero"),
        pytest.param([], [], "non-empty", id="empty"),
        pytest.param([1], [0, 1], "equal", id="lengths"),
    ],
)
def test_bad_curves(spent: list[float], metric: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        curve(spent, metric)


def test_bootstrap_of_equal_values_is_a_point(rng: np.random.Generator) -> None:
    interval = bootstrap_mean([0.3, 0.3, 0.3], rng=rng)
    assert (interval.low, interval.mean, interval.high) == pytest.approx((0.3, 0.3, 0.3))


def test_bootstrap_covers_the_values(rng: np.random.Generator) -> None:
    interval = bootstrap_mean([0.0, 1.0], rng=rng)
    assert (interval.low, interval.mean, interval.high) == (0.0, 0.5, 1.0)


def test_win_matrix_is_paired_by_seed(rng: np.random.Generator) -> None:
    areas = {"a": {0: 0.30, 1: 0.50}, "b": {0: 0.28, 1: 0.48, 2: 0.9}}
    matrix = win_matrix(areas, rng=rng)
    assert matrix["a"]["b"].low == pytest.approx(0.02)
    assert matrix["b"]["a"].high == pytest.approx(-0.02)
    assert "a" not in matrix["a"]


def test_gain_of_a_known_power_law(rng: np.random.Generator) -> None:
    spent = np.array([100.0, 200, 400, 800])
    curves = [curve(list(spent), list(0.8 - 2 * spent**-0.5), seed=s) for s in range(3)]
    gain = expected_gain(curves, more=100, rng=rng)
    true = 2 * (800**-0.5 - 900**-0.5)
    assert gain.mean == pytest.approx(true, rel=0.05)
    assert gain.low == pytest.approx(gain.high)


def test_gain_is_never_negative(rng: np.random.Generator) -> None:
    assert expected_gain([curve([1, 2, 3], [0.5, 0.4, 0.3])], more=1, rng=rng).mean == 0


def test_gain_needs_three_measurements(rng: np.random.Generator) -> None:
    with pytest.raises(DataError, match="at least three"):
        expected_gain([curve([1, 2], [0.1, 0.2])], more=1, rng=rng)


class TestStopRule:
    """mAP = 0.8 - 2 n^-1/2: from 400 boxes on 100 more bring 1.06 points, from 800 on 0.40."""

    SPENT = np.array([100.0, 200, 400, 800, 1600])

    def arm(self) -> Curve:
        return curve(list(self.SPENT), list(0.8 - 2 * self.SPENT**-0.5))

    @pytest.mark.parametrize(
        ("under", "boxes"),
        [
            pytest.param(2.0, 400, id="at once, which takes three measurements"),
            pytest.param(0.5, 800, id="later"),
            pytest.param(0.01, None, id="never"),
        ],
    )
    def test_where_it_fires(
        self, under: float, boxes: float | None, rng: np.random.Generator
    ) -> None:
        at = stopping_point(self.arm(), StopRule(under=under), rng=rng)
        assert (None if at is None else self.SPENT[at]) == boxes

    def test_more_boxes_bring_more(self, rng: np.random.Generator) -> None:
        rule = StopRule(under=0.5, boxes=1000)
        assert stopping_point(self.arm(), rule, rng=rng) is None
