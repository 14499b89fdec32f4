"""Draws without replacement, against plain loops."""

import math

import numpy as np
import pytest
import torch

from detal.agents.plackett_luce import follow, log_probs_and_entropies, take_highest


def draw(values, costs, budget, until=0.0, closed=None):
    values = np.asarray(values, dtype=np.float64)
    return take_highest(
        values,
        costs=np.asarray(costs, dtype=np.float64),
        left=np.full(len(values), float(budget)),
        until=np.full(len(values), until),
        closed=np.zeros(values.shape, bool) if closed is None else np.asarray(closed),
    )


def by_loop(scores, picks, costs, budget, closed):
    """Log-probability and entropy of each pick, one softmax at a time."""
    log_probs, entropies, left, gone = [], [], budget, set(np.flatnonzero(closed))
    for pick in picks:
        fits = [i for i in range(len(scores)) if i not in gone and costs[i] <= left]
        total = sum(math.exp(scores[i]) for i in fits)
        p = {i: math.exp(scores[i]) / total for i in fits}
        log_probs.append(math.log(p[pick]))
        entropies.append(-sum(q * math.log(q) for q in p.values()))
        gone.add(pick)
        left -= costs[pick]
    return log_probs, entropies


def test_highest_that_fits() -> None:
    picked = draw([[3.0, 2.0, 1.0, 0.0]], [2, 4, 1, 1], budget=4)
    assert picked.picks.tolist() == [[0, 2, 3]]
    # The dear one could be had for the first pick only.
    assert picked.lasts.tolist() == [[1, 1, 2, 3]]
    assert picked.left.tolist() == [0]


def test_stops_at_what_may_be_left_and_skips_the_closed() -> None:
    picked = draw([[3.0, 2.0, 1.0]] * 2, [1, 1, 1], 3, until=1.0, closed=[[1, 0, 0], [0, 0, 0]])
    assert picked.picks.tolist() == [[1, 2], [0, 1]]
    assert picked.lasts.tolist() == [[0, 1, 2], [1, 2, 2]]


@pytest.mark.parametrize("costs", [np.ones(7), np.array([1.0, 2, 3, 1, 2, 3, 4])], ids=["n", "c"])
def test_log_probabilities_and_entropies_against_a_loop(rng, costs) -> None:
    scores = rng.normal(size=(5, 7)) * 3
    closed = rng.random((5, 7)) < 0.2
    noisy = scores + rng.gumbel(size=scores.shape)
    picked = draw(noisy, costs, budget=5, closed=closed)
    log_probs, entropies = log_probs_and_entropies(torch.from_numpy(scores), picked)
    for k in range(5):
        picks = picked.picks[k][picked.picks[k] >= 0]
        expected = by_loop(scores[k], picks, costs, 5.0, closed[k])
        assert log_probs[k, : len(picks)].tolist() == pytest.approx(expected[0])
        assert entropies[k, : len(picks)].tolist() == pytest.approx(expected[1])
        assert (log_probs[k, len(picks) :] == 0).all()
        assert (entropies[k, len(picks) :] == 0).all()


def test_following_gives_what_drawing_gave(rng) -> None:
    costs = np.array([1.0, 2, 3, 1, 2, 3, 4])
    closed = rng.random((4, 7)) < 0.2
    picked = draw(rng.normal(size=(4, 7)), costs, budget=6, closed=closed)
    again = follow(picked.picks, costs=costs, left=np.full(4, 6.0), closed=closed)
    assert np.array_equal(again.lasts, picked.lasts)
    assert np.array_equal(again.left, picked.left)


def test_drawn_as_often_as_said() -> None:
    """With costs 1, 2, 2 and a budget of 3, frequencies are those of the exact probabilities."""
    scores, costs = np.array([0.5, 0.0, 1.0]), np.array([1.0, 2.0, 2.0])
    noise = np.random.default_rng(0).gumbel(size=(20_000, 3))
    picked = draw(scores + noise, costs, budget=3)
    chances = {}
    for batch in [(0, 1), (0, 2), (1, 0), (2, 0)]:
        chances[batch] = math.exp(sum(by_loop(scores, batch, costs, 3.0, np.zeros(3))[0]))
    assert sum(chances.values()) == pytest.approx(1)
    drawn = [tuple(row[row >= 0].tolist()) for row in picked.picks]
    for batch, chance in chances.items():
        assert drawn.count(batch) / len(drawn) == pytest.approx(chance, abs=0.012)
    assert set(drawn) == set(chances)


@pytest.mark.parametrize("n", [0, 3])
def test_nothing_to_pick(n: int) -> None:
    picked = draw(np.zeros((2, n)), np.full(n, 9.0), budget=1)
    assert picked.picks.shape == (2, 0)
    log_probs, entropies = log_probs_and_entropies(torch.zeros(2, n), picked)
    assert log_probs.shape == entropies.shape == (2, 0)
