from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from detal.errors import ConfigError
from detal.strategies import Candidates, make_strategy
from detal.structures import Budget, Selection
from tests.strategies.factories import pool_of


def binary(p: float) -> float:
    return -p * math.log(p) - (1 - p) * math.log(1 - p)


POOL = pool_of(
    [[(0, 0.5)], [(1, 0.4)], [(2, 0.3)], []],
    features=np.ones((4, 2)),
    labeled=np.ones((5, 2)),  # classes 0, 1, 2, 0, 1 with one object each
)


def ask(weights, name: str = "entropy", pool: Candidates = POOL) -> Selection:
    strategy = make_strategy(name, class_weights=weights)
    return strategy.query(pool, budget=Budget(4), rng=np.random.default_rng(0))


@pytest.mark.parametrize("name", ["entropy", "margin", "least_confidence"])
def test_a_class_that_matters_more(name: str) -> None:
    assert ask("none", name).image_ids == ("000", "001", "002", "003")
    twice = ask({"class2": 2}, name)
    assert twice.image_ids == ("002", "000", "001", "003")
    plain = ask("none", name)
    assert twice.scores[0] == pytest.approx(2 * plain.scores[2])


def test_values_by_hand() -> None:
    scores = dict(zip(*_scores(ask({"class0": 0, "class1": 0.5})), strict=True))
    assert scores["000"] == 0
    assert scores["001"] == pytest.approx(binary(0.4) / 2, rel=1e-5)
    assert scores["002"] == pytest.approx(binary(0.3), rel=1e-5)


def test_inverse_frequency_reads_the_labelled_counts() -> None:
    labeled = replace(POOL.labeled, class_counts=np.array([40, 20, 0]))
    scores = dict(
        zip(*_scores(ask("inverse_frequency", pool=replace(POOL, labeled=labeled))), strict=True)
    )
    assert scores["000"] == pytest.approx(binary(0.5) * 22 / 42, rel=1e-5)
    assert scores["002"] == pytest.approx(binary(0.3) * 11, rel=1e-5)


def test_difficulty_reads_the_labelled_detections() -> None:
    """Every labelled object was found with p = 0.7 at an IoU of 9/11."""
    quality = 0.7**0.6 * (9 / 11) ** 0.4
    weight = 1 + 0.3 * 0.2 * math.log((math.exp(1 / 0.3) - 1) * (1 - quality) + 1)
    assert ask("difficulty").scores[0] == pytest.approx(weight * binary(0.5), rel=1e-4)


def test_difficulty_needs_labels() -> None:
    with pytest.raises(ConfigError, match="`class_weights: difficulty` needs labelled images"):
        ask("difficulty", pool=pool_of([[(0, 0.5)]]))
    assert len(ask("inverse_frequency", pool=pool_of([[(0, 0.5)]]))) == 1
    assert len(ask("difficulty", pool=pool_of([]))) == 0


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("dificulty", "unknown kind of class weights 'dificulty': did you mean difficulty"),
        (2, "class_weights must be one of none, .* got 2"),
        ({"class0": -1}, "finite number >= 0, got -1 for 'class0'"),
        ({"class0": math.nan}, "finite number >= 0, got nan"),
        ({"class0": True}, "finite number >= 0, got True"),
        ({"class0": "two"}, "finite number >= 0, got 'two'"),
    ],
)
def test_options_are_checked_before_the_pool_is_read(weights, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_strategy("entropy", class_weights=weights)


def test_an_unknown_class_is_named() -> None:
    with pytest.raises(ConfigError, match=r"unknown class in class_weights 'klass0'.* class0"):
        ask({"klass0": 2})


def _scores(selection: Selection) -> tuple[tuple[str, ...], list[float]]:
    return selection.image_ids, selection.scores.tolist()
