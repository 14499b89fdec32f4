import math

import numpy as np
import pytest

from detal.strategies import make_strategy
from detal.strategies.scored import highest_first
from detal.structures import Budget, Selection
from tests.strategies.factories import pool_of

# Image 000: one even box; 001: three half-sure boxes; 002: none; 003: two sure boxes.
POOL = pool_of([[(0, 0.5)], [(1, 0.25), (1, 0.2), (2, 0.3)], [], [(0, 0.99), (2, 0.98)]])


def ask(name: str, amount: float = 4, **options) -> Selection:
    strategy = make_strategy(name, **options)
    return strategy.query(POOL, budget=Budget(amount), rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        pytest.param("entropy", {}, ["001", "000", "003", "002"], id="entropy-sum"),
        pytest.param("entropy", {"aggregation": "mean"}, ["000", "001", "003", "002"], id="mean"),
        pytest.param("entropy", {"empty": "first"}, ["002", "001", "000", "003"], id="empty-first"),
        pytest.param(
            "entropy", {"empty_score": 0.3}, ["001", "000", "002", "003"], id="empty-score"
        ),
        pytest.param("margin", {"aggregation": "max"}, ["000", "001", "003", "002"], id="margin"),
        pytest.param(
            "least_confidence",
            {"aggregation": "top_k_mean", "k": 2, "empty": "last"},
            ["000", "001", "003", "002"],
            id="least-confidence",
        ),
        pytest.param("box_count", {}, ["003", "001", "000", "002"], id="box-count"),
    ],
)
def test_ranking(name: str, options, expected: list[str]) -> None:
    assert list(ask(name, **options).image_ids) == expected


def test_scores_and_reasons() -> None:
    selection = ask("entropy")
    binary = [-p * math.log(p) - (1 - p) * math.log(1 - p) for p in (0.25, 0.2, 0.3)]
    assert selection.scores[0] == pytest.approx(sum(binary), rel=1e-5)
    assert selection.reasons[0] == (
        "summed entropy 1.67, rank 1 of 4; most uncertain: 2 × class1, 1 × class2; "  # noqa: RUF001
        "about 0.8 boxes"
    )
    assert selection.reasons[3] == "summed entropy 0, rank 4 of 4; no detections"


def test_policy_for_empty_images_leaves_no_infinite_score() -> None:
    selection = ask("entropy", empty="first")
    assert np.isnan(selection.scores[0])
    assert selection.reasons[0] == "summed entropy undefined, rank 1 of 4; no detections"


def test_strategies_without_a_measure_name_the_clearest_boxes() -> None:
    selection = ask("random")
    reason = selection.reasons[selection.image_ids.index("003")]
    assert reason == "drawn at random; clearest: 1 × class0, 1 × class2; about 2.0 boxes"  # noqa: RUF001
    assert np.isnan(selection.scores).all()


def test_random_is_uniform() -> None:
    strategy, rng = make_strategy("random"), np.random.default_rng(0)
    first = [strategy.query(POOL, budget=Budget(1), rng=rng).image_ids[0] for _ in range(400)]
    assert min(first.count(image_id) for image_id in POOL.image_ids) > 70


def test_ties_are_drawn() -> None:
    pool = pool_of([[]] * 4)
    strategy, rng = make_strategy("entropy"), np.random.default_rng(0)
    first = [strategy.query(pool, budget=Budget(1), rng=rng).image_ids[0] for _ in range(400)]
    assert min(first.count(image_id) for image_id in pool.image_ids) > 70


def test_what_differs_by_rounding_is_a_tie() -> None:
    values = np.array([1.0, 1.0 + 1e-9, 0.0, 1.0 - 1e-9, 1.001, -np.inf, np.inf])
    orders = {
        tuple(c.candidate for c in highest_first(values, np.random.default_rng(seed), name="x"))
        for seed in range(40)
    }
    assert {order[:2] for order in orders} == {(6, 4)}
    assert {order[5:] for order in orders} == {(2, 5)}
    assert len(orders) == 6  # every order of the three that are equal
