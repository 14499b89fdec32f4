from __future__ import annotations

import numpy as np
import pytest

from detal.errors import ConfigError
from detal.reward import CategoryCurves
from detal.strategies.quotas import (
    check_quotas,
    curve_quotas,
    level_quotas,
    quotas_in_objects,
)


@pytest.mark.parametrize(
    ("counts", "amount", "expected"),
    [
        pytest.param([10, 2, 0], 6, [0, 2, 4], id="two are levelled at 4"),
        pytest.param([10, 2, 0], 1, [0, 0, 1], id="only the rarest"),
        pytest.param([10, 2, 0], 30, [4, 12, 14], id="all are levelled at 14"),
        pytest.param([3, 3], 4, [2, 2], id="equal"),
        pytest.param([7], 5, [5], id="one class"),
        pytest.param([4, 1], 0, [0, 0], id="nothing to share"),
    ],
)
def test_level_by_hand(counts, amount: float, expected) -> None:
    assert level_quotas(np.array(counts), amount).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_levelled_quotas_add_up_and_meet_one_level(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 50, size=40)
    quota = level_quotas(counts, 123.5)
    assert quota.sum() == pytest.approx(123.5)
    level = (counts + quota)[quota > 0]
    assert level == pytest.approx(level[0])
    assert (counts[quota == 0] >= level[0] - 1e-9).all()


def test_numbers_and_shares_become_objects() -> None:
    given = check_quotas({"dog": 5, "cat": "20%", 3: "2.5"})
    assert quotas_in_objects(given, ("cat", "dog", "cow", "3"), 40.0).tolist() == [8, 5, 0, 2.5]


@pytest.mark.parametrize(
    ("quotas", "match"),
    [
        ({}, r"must map at least one class to objects or a share"),
        (["dog"], r"must map at least one class.*got \['dog'\]"),
        ({"dog": -1}, r"quota of class 'dog' must be a number of objects >= 0.*got -1"),
        ({"dog": "many"}, r"quota of class 'dog'.*got 'many'"),
        ({"dog": True}, r"quota of class 'dog'.*got True"),
        ({"dog": float("inf")}, r"quota of class 'dog'.*got inf"),
        ({"dog": None}, r"quota of class 'dog'.*got None"),
        ({"dog": "80%", "cat": "30%"}, r"must add up to at most 100%, got 110%"),
    ],
)
def test_wrong_quotas(quotas, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        check_quotas(quotas)


def test_unknown_class() -> None:
    with pytest.raises(ConfigError, match=r"unknown class in quotas 'dogg': did you mean dog\?"):
        quotas_in_objects({"dogg": (1.0, False)}, ("cat", "dog"), 1.0)


@pytest.mark.parametrize(
    ("counts", "amount", "expected"),
    [
        pytest.param([5, 1, 3], 6, [0, 4, 2], id="levels-as-equal-curves-do"),
        pytest.param([4, 4], 3, [1.5, 1.5], id="even"),
        pytest.param([0, 9], 0, [0, 0], id="nothing-to-share-out"),
    ],
)
def test_curve_quotas_level_under_equal_curves(counts, amount, expected) -> None:
    quota = curve_quotas(CategoryCurves.prior(len(counts)), np.array(counts), amount)
    assert quota == pytest.approx(np.array(expected, dtype=float), abs=1e-6)
    assert level_quotas(np.array(counts), amount) == pytest.approx(quota, abs=1e-6)


def test_curve_quotas_are_the_optimum() -> None:
    drop = np.array([0.9, 0.5, 0.2, 0.0])
    curves = CategoryCurves(np.ones(4), drop, 0.7, 2.0, np.zeros((4, 2, 2)))
    counts, weights = np.array([30, 5, 1, 0]), np.array([1.0, 2.0, 1.0, 5.0])
    supply = np.array([100.0, 6.0, 100.0, 100.0])
    quota = curve_quotas(curves, counts, 40.0, weights=weights, supply=supply)
    assert quota.sum() == pytest.approx(40)
    assert quota[1] == pytest.approx(6)  # all there is
    assert quota[3] == 0  # labels bring nothing there
    price = weights * curves.slope(counts + quota)
    assert price[0] == pytest.approx(price[2], rel=1e-6)
    assert price[1] > price[0]


def test_curve_quotas_end_where_the_supply_does() -> None:
    supply = np.array([2.0, 0.0])
    quota = curve_quotas(CategoryCurves.prior(2), np.array([3, 0]), 9.0, supply=supply)
    assert quota.tolist() == [2.0, 0.0]
