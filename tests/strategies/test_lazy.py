"""Greedy queues on a coverage function, against the full greedy choice."""

from collections.abc import Callable

import numpy as np
import pytest

from detal.strategies import make_strategy
from detal.strategies.lazy import LazyQueue, SampledQueue
from detal.structures import Budget
from tests.strategies.factories import random_pool

Queue = LazyQueue | SampledQueue


class Coverage:
    """Weighted coverage: each candidate holds some of the items, each item counts once."""

    def __init__(self, size: int, *, items: int = 60, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.holds = rng.random((size, items)) < 0.1
        self.weight = rng.random(items)
        self.open = np.ones(items, dtype=bool)
        self.looks = 0

    def gains(self, index: np.ndarray) -> np.ndarray:
        self.looks += len(index)
        return np.asarray((self.holds[index] & self.open) @ self.weight)

    def take(self, index: int) -> None:
        self.open &= ~self.holds[index]


def lazy(world: Coverage, costs: np.ndarray) -> Queue:
    order = np.random.default_rng(1).permutation(len(costs))
    return LazyQueue(world.gains, costs=costs, order=order)


def sampled(world: Coverage, costs: np.ndarray) -> Queue:
    picks = max(len(costs) / 200, 1)
    return SampledQueue(world.gains, costs=costs, picks=picks, rng=np.random.default_rng(1))


def total(world: Coverage, queue: Queue, number: int) -> float:
    gained = 0.0
    for _ in range(number):
        index = queue.best()
        gained += queue.gain(index)
        world.take(index)
        queue.close(index, changed=True)
    return gained


MAKE = [pytest.param(lazy, id="lazy"), pytest.param(sampled, id="sampled")]


@pytest.mark.parametrize("make", MAKE)
def test_each_candidate_is_offered_once(make: Callable[[Coverage, np.ndarray], Queue]) -> None:
    world = Coverage(50)
    queue = make(world, np.ones(50))
    offered = []
    while (index := queue.best()) >= 0:
        offered.append(index)
        queue.close(index, changed=False)
    assert sorted(offered) == list(range(50))
    assert queue.best() == -1
    assert make(Coverage(0), np.ones(0)).best() == -1


@pytest.mark.parametrize("make", MAKE)
def test_gain_counts_per_cost(make: Callable[[Coverage, np.ndarray], Queue]) -> None:
    """Two candidates, the one of twice the gain at four times the price."""
    world = Coverage(2, items=3)
    world.holds[:] = [[True, True, False], [False, False, True]]
    world.weight[:] = 1
    queue = make(world, np.array([4.0, 1.0]))
    assert [queue.best(), queue.gain(1), queue.gain(0)] == [1, 1.0, 2.0]


def test_a_sample_comes_close_for_far_fewer_looks() -> None:
    size, number = 4000, 20
    exact, close = Coverage(size), Coverage(size)
    best = total(exact, lazy(exact, np.ones(size)), number)
    got = total(close, sampled(close, np.ones(size)), number)
    assert 0.85 * best <= got <= best + 1e-9
    assert close.looks < 3 * size


def test_large_pools_are_sampled(monkeypatch) -> None:
    pool, budget = random_pool(120, seed=3), Budget(30)

    def batch() -> np.ndarray:
        query = make_strategy("curve_greedy").query
        return query(pool, budget=budget, rng=np.random.default_rng(0)).scores

    exact = batch()
    monkeypatch.setattr("detal.strategies.table_greedy._LAZY_UP_TO", 100)
    some, again = batch(), batch()
    assert some.tolist() == again.tolist()
    assert 0.8 * exact.sum() <= some.sum() < exact.sum()
