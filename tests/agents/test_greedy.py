"""The lazy greedy is the plain one."""

import numpy as np
import pytest

from detal.agents import greedy_batch
from tests.agents.worlds import episode_of, random_episode


@pytest.mark.parametrize("costs", [np.ones(25), np.random.default_rng(2).uniform(1, 3, size=25)])
def test_against_the_plain_one(rng, costs) -> None:
    episode = random_episode(rng, 25, 8, costs=costs)
    table, state, left, plain = episode.table, episode.table.starts(1), 8.0, []
    while True:
        rate = table.marginal_gains(state)[0] / costs
        rate[[*plain, *np.flatnonzero(costs > left + 1e-9)]] = -1
        best = int(rate.argmax())
        if rate[best] < 0:
            break
        state, _ = table.adds(state, np.array([[best]]))
        left -= costs[best]
        plain.append(best)
    assert float(table.gains(episode.greedy[None])[0]) == pytest.approx(
        float(table.gains(np.array([plain]))[0]), abs=1e-6
    )
    assert len(plain) > 3


def test_nothing_fits() -> None:
    episode = episode_of(np.ones((3, 1)), 2)
    assert greedy_batch(episode.table, costs=np.full(3, 5.0), amount=2).tolist() == []
