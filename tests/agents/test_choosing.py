"""Near the optimum where that can be enumerated, and past greedy where greedy is misled."""

import numpy as np
import pytest

from detal.agents import choose, sensible_config, swapped, train
from detal.agents.choosing import Chosen
from tests.agents import worlds


def solve(episode, seed: int = 0) -> Chosen:
    rng = np.random.default_rng(seed)
    trained = train(episode, config=sensible_config(len(episode.seen)), rng=rng)
    return choose(trained, episode, rng=rng)


@pytest.mark.parametrize(
    "make",
    [worlds.redundant_bundles, worlds.complementary_classes, worlds.awkward_costs],
    ids=["redundant bundles", "complementary classes", "awkward costs"],
)
def test_where_greedy_is_misled(make) -> None:
    episode = make(np.random.default_rng(0))
    best, chosen = worlds.optimum(episode), solve(episode)
    assert episode.greedy_gain < 0.97 * best
    assert chosen.gain >= 0.99 * best
    assert chosen.ratio > 1
    assert episode.seen.costs[chosen.batch].sum() <= episode.budget * (1 + 1e-6)


@pytest.mark.parametrize("unit", ["images", "boxes"])
def test_within_one_percent_of_the_optimum(unit) -> None:
    rng = np.random.default_rng(5)
    costs = np.ones(16) if unit == "images" else rng.uniform(1, 4, size=16)
    episode = worlds.random_episode(rng, 16, 4 if unit == "images" else 8.5, costs=costs)
    assert solve(episode).gain >= 0.99 * worlds.optimum(episode)


def test_swaps_are_told_apart(rng) -> None:
    episode = worlds.redundant_bundles(rng)
    poor = Chosen(
        np.arange(4),
        gain := float(episode.table.gains(np.arange(4)[None])[0]),
        1.0,
        "highest scores",
        gain,
    )
    better = swapped(poor, episode, rng=rng, rounds=30)
    assert better.unswapped_gain == gain
    assert better.gain > 1.05 * gain
    assert better.gain == pytest.approx(float(episode.table.gains(better.batch[None])[0]))
    assert len(set(better.batch.tolist())) == 4
    assert swapped(poor, episode, rng=rng, rounds=0).batch.tolist() == [0, 1, 2, 3]


def test_swaps_keep_to_the_budget(rng) -> None:
    episode = worlds.awkward_costs(rng)
    gain = episode.greedy_gain
    start = Chosen(episode.greedy, gain, gain, "highest scores", gain)
    better = swapped(start, episode, rng=rng, rounds=20)
    assert episode.seen.costs[better.batch].sum() <= 15.5 * (1 + 1e-6)
    assert better.gain >= gain


def test_ratio_where_nothing_can_be_gained() -> None:
    assert Chosen(np.zeros(0, np.int64), 0.0, 0.0, "highest scores", 0.0).ratio == 1
