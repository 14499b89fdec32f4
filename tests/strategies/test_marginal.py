from __future__ import annotations

import numpy as np
import pytest

from detal.features import expected_class_counts
from detal.features.expected_objects import Bundles, expected_objects
from detal.strategies import Candidates
from detal.strategies.marginal import LazyGreedy
from tests.strategies.factories import pool_of, random_pool, rechunked


def bundles_of(candidates: Candidates) -> Bundles:
    return expected_objects(candidates.chunks(), num_images=len(candidates))


def dense(bundles: Bundles, num_classes: int) -> np.ndarray:
    counts = np.zeros((len(bundles.offsets) - 1, num_classes))
    rows, owner = bundles.rows(np.arange(len(counts)))
    counts[owner, bundles.labels[rows]] = bundles.amounts[rows]
    return counts


def test_bundles_are_the_expected_counts() -> None:
    pool = random_pool(30, num_classes=5)
    expected = expected_class_counts(pool.take(np.arange(30))).numpy()
    for same in (pool, rechunked(pool, seed=1)):
        bundles = bundles_of(same)
        assert dense(bundles, 5) == pytest.approx(expected, abs=1e-6)
        assert bundles.supply(5) == pytest.approx(expected.sum(axis=0), abs=1e-6)
    assert (bundles.amounts > 0).all()


@pytest.mark.parametrize("images", [[], [[]], [[], []]])
def test_bundles_without_objects(images) -> None:
    bundles = bundles_of(pool_of(images))
    assert len(bundles.labels) == 0
    assert bundles.supply(3).tolist() == [0, 0, 0]
    rng = np.random.default_rng(0)
    greedy = LazyGreedy(
        bundles,
        lambda labels, have, amounts: amounts,
        costs=np.ones(len(images)),
        num_classes=3,
        rng=rng,
    )
    for _ in images:
        greedy.close(greedy.queue.best(), taken=True)
    assert greedy.queue.best() == -1


def concave(labels: np.ndarray, have: np.ndarray, amounts: np.ndarray) -> np.ndarray:
    """Falls with what is there, below zero from three objects on."""
    scale = 1.0 + labels
    return np.asarray(scale * (amounts - ((have + amounts) ** 2 - have**2) / 6))


@pytest.mark.parametrize("front", [1, 7, 64])
@pytest.mark.parametrize("weight", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_lazy_choice_is_the_full_greedy_one(
    seed: int, weight: float, front: int, monkeypatch
) -> None:
    monkeypatch.setattr("detal.strategies.lazy._FRONT", front)
    monkeypatch.setattr("detal.strategies.lazy._FIRST_BLOCK", 2)
    pool = random_pool(80, seed=seed, num_classes=4)
    bundles, rng = bundles_of(pool), np.random.default_rng(seed)
    costs, base = rng.uniform(1, 3, size=80), rng.uniform(size=80)
    counts = dense(bundles, 4)
    greedy = LazyGreedy(
        bundles, concave, costs=costs, num_classes=4, rng=np.random.default_rng(0), weight=weight
    )
    greedy.queue.base = base.copy()
    have, left = np.zeros(4), list(range(80))
    for turn in range(80):
        worth = [concave(np.arange(4), have, counts[i]).sum() for i in left]
        value = (base[left] + weight * np.array(worth)) / costs[left]
        index = greedy.queue.best()
        assert value[left.index(index)] == pytest.approx(value.max(), abs=1e-9)
        assert greedy.queue.gain(index) / costs[index] == pytest.approx(value.max(), abs=1e-9)
        taken = turn % 3 != 1
        greedy.close(index, taken=taken)
        left.remove(index)
        have += counts[index] * taken
        base = base - 0.01 * rng.uniform(size=80)
        greedy.queue.base = base.copy()
    assert greedy.queue.best() == -1
    assert greedy.have == pytest.approx(have)


def test_equal_gains_are_drawn() -> None:
    bundles = bundles_of(pool_of([[(0, 0.5)]] * 200))
    first = {
        LazyGreedy(
            bundles,
            lambda labels, have, amounts: amounts,
            costs=np.ones(200),
            num_classes=3,
            rng=np.random.default_rng(seed),
        ).queue.best()
        for seed in range(8)
    }
    assert len(first) > 4
