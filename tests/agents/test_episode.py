"""Rollouts keep to the budget, and rewards are what they say."""

import numpy as np
import pytest
import torch

from detal.agents import Policy, RewardWeights, passes_of, rollout
from detal.agents.episode import forced
from detal.agents.inputs import NUM_INPUTS, changing_inputs, fixed_inputs
from tests.agents.worlds import episode_of, random_episode


@pytest.fixture
def policy() -> Policy:
    return Policy(NUM_INPUTS, hidden=6, seed=torch.Generator().manual_seed(0))


COSTS = [
    pytest.param(np.ones(30), id="images"),
    pytest.param(np.random.default_rng(3).uniform(1, 4, size=30), id="boxes"),
]


@pytest.mark.parametrize("costs", COSTS)
@pytest.mark.parametrize("passes", [1, 3, 20])
def test_batches_are_distinct_within_budget_and_as_full_as_can_be(policy, costs, passes, rng):
    episode = random_episode(rng, 30, 7.5, costs=costs)
    drawn = rollout(policy, episode, count=5, passes=passes, rng=rng)
    for row in drawn.batches:
        batch = row[row >= 0]
        assert len(set(batch.tolist())) == len(batch)
        left = 7.5 - costs[batch].sum()
        assert left >= -1e-6
        assert np.delete(costs, batch).min() > left
        assert (row[len(batch) :] == -1).all()
    assert drawn.rewards == pytest.approx(episode.rewards(drawn.batches))
    # What the picks added is the reward of the table.
    assert drawn.gained.sum(axis=1) == pytest.approx(drawn.rewards, abs=1e-3)
    assert len(drawn.passes) == passes


def test_rewards_by_hand() -> None:
    features = np.array([[1.0, 0], [0, 1], [-1, 0]])
    trust = np.array([0.5, 1.0, 0.0])
    batches = np.array([[0, 1, -1], [2, -1, -1], [0, 1, 2]])
    amounts = np.array([[3.0], [8.0], [0.0]])

    def rewards(**weights: float) -> np.ndarray:
        terms = {"table": 0.0, **weights}
        episode = episode_of(
            amounts, 3, weights=RewardWeights(**terms), trust=trust, features=features
        )
        return episode.rewards(batches)

    whole = 1 - 12**-0.5
    assert rewards(table=2) == pytest.approx(np.array([200, 0, 200]), abs=1e-4)
    assert episode_of(amounts, 3).greedy_gain == pytest.approx(whole)
    assert rewards(trust=1) == pytest.approx(np.array([75, 0, 50]), abs=1e-4)
    assert rewards(diversity=1) == pytest.approx(np.array([100, 0, 100]), abs=1e-4)
    assert rewards(cost=1) == pytest.approx(np.array([-200 / 3, -100 / 3, -100]), abs=1e-4)
    both = rewards(table=1, cost=0.5)
    assert both == pytest.approx(np.array([100 - 100 / 3, -50 / 3, 50]), abs=1e-4)


def test_nothing_to_gain_is_a_reward_of_nothing(policy, rng) -> None:
    episode = episode_of(np.zeros((6, 2)), 3)
    drawn = rollout(policy, episode, count=2, passes=3, rng=rng)
    assert drawn.rewards.tolist() == [0, 0]
    assert drawn.batches.shape == (2, 3)


@pytest.mark.parametrize("passes", [1, 2, 5, 50])
@pytest.mark.parametrize("costs", COSTS)
def test_forced_rollouts_pick_what_they_are_told(costs, passes, rng) -> None:
    episode = random_episode(rng, 30, 7.5, costs=costs)
    shown = forced(episode, episode.greedy, count=2, passes=passes, rng=rng)
    assert shown.batches.tolist() == [episode.greedy.tolist()] * 2
    assert shown.rewards == pytest.approx(np.array([100, 100]), abs=1e-4)


def test_as_many_passes_as_images_at_most() -> None:
    episode = episode_of(np.ones((6, 1)), 5.5, costs=np.array([1.0, 2, 2, 3, 4, 5]))
    assert passes_of(episode, most=2) == 2
    assert passes_of(episode, most=9) == 3


def test_scores_do_not_depend_on_the_walk_of_others_later(policy) -> None:
    """The first of a walk has seen nobody; the last has seen all of its window."""
    inputs = torch.randn(1, 10, NUM_INPUTS, generator=torch.Generator().manual_seed(1))
    order = torch.arange(10)[None]
    scores = policy(inputs, order)
    inputs[0, 9] += 1
    changed = policy(inputs, order)
    assert torch.equal(scores[0, :9], changed[0, :9])
    assert not torch.equal(scores[0, 9], changed[0, 9])
    inputs[0, 0] += 1
    assert not torch.equal(policy(inputs, order)[0, 8], changed[0, 8])


@pytest.mark.parametrize("n", [1, 256, 257, 600])
def test_windows_cover_every_candidate(policy, n) -> None:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(2, n, NUM_INPUTS, generator=generator)
    order = torch.stack([torch.randperm(n, generator=generator) for _ in range(2)])
    scores = policy(inputs, order)
    assert scores.shape == (2, n)
    assert scores.isfinite().all()
    assert (scores != 0).all()


def test_changing_inputs_by_hand() -> None:
    values = changing_inputs(
        np.array([[4.0, 2.0, 1.0, 8.0]]),
        costs=np.array([2.0, 1.0, 1.0, 9.0]),
        left=np.array([3.0]),
        budget=6.0,
        picked=np.array([[False, False, True, False]]),
    )
    half = np.log(0.5)
    assert values[0, 0] == pytest.approx([0, 0, 0, 0, 0, 2 / 3, 0.5])
    # Both of rate 2 fit; the last of them costs 1.
    assert values[0, 1] == pytest.approx([0, half, 0, 0, 0, 1 / 3, 0.5], abs=1e-6)
    assert values[0, 2, 3:] == pytest.approx([1, 1, 1 / 3, 0.5])
    assert values[0, 3, 3:] == pytest.approx([0, 1, 2, 0.5])
    assert values[0, 2:, :2].tolist() == [[-8, -8]] * 2


def test_fixed_inputs_are_as_many_for_every_detector(rng) -> None:
    few = random_episode(rng, 8, 2).seen
    other = episode_of(rng.uniform(size=(5, 9)), 2, features=rng.normal(size=(5, 40))).seen
    without = episode_of(np.zeros((3, 2)), 2).seen
    shapes = [fixed_inputs(seen).shape for seen in (few, other, without)]
    assert [shape[0] for shape in shapes] == [8, 5, 3]
    assert len({shape[1] for shape in shapes}) == 1
    assert np.isfinite(fixed_inputs(without)).all()
    assert fixed_inputs(few).std() > 0.1
