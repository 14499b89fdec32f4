"""Selectors that look at objects offer each candidate once, whatever is taken."""

from __future__ import annotations

import numpy as np
import pytest

from detal.strategies import MeasureSelector, make_strategy
from detal.structures import Budget
from tests.strategies.factories import random_pool


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("badge", {}, id="badge of objects"),
        pytest.param("badge", {"level": "image", "labeled": True}, id="badge of images"),
        pytest.param("cdal", {}, id="cdal"),
        pytest.param("ppal", {}, id="ppal"),
        pytest.param("div_proto", {}, id="div_proto"),
        pytest.param("class_balanced", {}, id="class_balanced"),
        pytest.param("class_balanced", {"base": "core_set"}, id="class_balanced by distance"),
        pytest.param("class_quota", {"quotas": {"class1": 3}}, id="class_quota"),
        pytest.param("rare_first", {}, id="rare_first"),
    ],
)
@pytest.mark.parametrize("taken", [[True], [False], [False, True, False]], ids=str)
def test_each_candidate_is_offered_once(name: str, options, taken: list[bool]) -> None:
    pool = random_pool(40)
    strategy = make_strategy(name, **options)
    assert isinstance(strategy, MeasureSelector)
    order = strategy.select(pool, Budget(5), np.random.default_rng(0))
    offered = [next(order).candidate]
    while len(offered) < 100:
        try:
            offered.append(order.send(taken[len(offered) % len(taken)]).candidate)
        except StopIteration:
            break
    assert sorted(offered) == list(range(40))
