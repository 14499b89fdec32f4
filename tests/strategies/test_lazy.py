"""Greedy queues on a coverage function, against the full greedy choice."""

import numpy as np
import pytest

from detal.strategies.lazy import LazyQueue


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


def lazy(world: Coverage, costs: np.ndarray) -> LazyQueue:
    order = np.random.default_rng(1).permutation(len(costs))
    return LazyQueue(world.gains, costs=costs, order=order)


@pytest.mark.parametrize("block", [1, 64])
def test_the_choice_is_that_of_the_full_greedy(block: int) -> None:
    size = 400
    world, full = Coverage(size), Coverage(size)
    costs = np.random.default_rng(2).uniform(1, 3, size=size)
    queue = LazyQueue(world.gains, costs=costs, order=np.arange(size), block=block)
    left = np.ones(size, dtype=bool)
    for _ in range(25):
        value = np.where(left, full.gains(np.arange(size)) / costs, -np.inf)
        index = queue.best()
        assert queue.gain(index) / costs[index] == pytest.approx(value.max())
        left[index] = False
        full.take(index)
        world.take(index)
        queue.close(index, changed=True)
    assert world.looks < full.looks / 2


def test_each_candidate_is_offered_once() -> None:
    world = Coverage(50)
    queue = lazy(world, np.ones(50))
    offered = []
    while (index := queue.best()) >= 0:
        offered.append(index)
        queue.close(index, changed=False)
    assert sorted(offered) == list(range(50))
    assert queue.best() == -1
    assert lazy(Coverage(0), np.ones(0)).best() == -1


def test_gain_counts_per_cost() -> None:
    """Two candidates, the one of twice the gain at four times the price."""
    world = Coverage(2, items=3)
    world.holds[:] = [[True, True, False], [False, False, True]]
    world.weight[:] = 1
    queue = lazy(world, np.array([4.0, 1.0]))
    assert [queue.best(), queue.gain(1), queue.gain(0)] == [1, 1.0, 2.0]
