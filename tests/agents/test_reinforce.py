"""The gradient against hand loops, and worlds that are solved in seconds."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from detal.agents import ReinforceConfig, RewardWeights, rollout, train
from detal.agents.plackett_luce import follow, log_probs_and_entropies
from detal.agents.reinforce import advantages, leave_one_out, reinforce_loss, sensible_config
from detal.errors import ConfigError
from tests.agents.worlds import episode_of

SMALL = ReinforceConfig(iterations=30, rollouts=16, passes=4, imitation=0, hidden=8, held_out=2)
ORDERS = list(itertools.permutations(range(3), 2))
GAINED = {(a, b): (0.3 * a, 0.1 * b + 0.05 * a) for a, b in ORDERS}
REWARDS = {batch: sum(GAINED[batch]) + 0.2 * (batch == (2, 0)) for batch in ORDERS}


def test_leave_one_out_by_hand() -> None:
    assert leave_one_out(np.array([1.0, 2, 6])).tolist() == [4, 3.5, 1.5]


def test_advantages_by_hand() -> None:
    rewards = np.array([10.0, 4.0])
    gained = np.array([[6.0, 3.0, 0.0], [1.0, 1.0, 1.0]])
    none = advantages(rewards, gained, baseline="none")
    assert none.tolist() == [[10, 4, 1], [4, 3, 2]]
    others = advantages(rewards, gained, baseline="leave_one_out")
    assert others.tolist() == [[6, 1, -1], [-6, -1, 1]]
    moving = advantages(rewards, gained, baseline="moving_average", average=7.0)
    assert moving.tolist() == [[3, 3, 3], [-3, -3, -3]]


def test_loss_by_hand() -> None:
    values = [
        torch.tensor([[-1.0, -2.0]]),
        torch.tensor([[0.5, 0.25]]),
        torch.tensor([[3.0, -1.0]]),
    ]
    loss = reinforce_loss(*values, entropy_weight=2.0, count=2)
    assert loss.item() == pytest.approx(-(3 * -1 + -1 * -2 + 2 * 0.75) / 2)


def chance(scores: np.ndarray, batch: tuple[int, ...]) -> float:
    left, result = list(range(len(scores))), 1.0
    for pick in batch:
        result *= math.exp(scores[pick]) / sum(math.exp(scores[i]) for i in left)
        left.remove(pick)
    return result


@pytest.mark.parametrize("baseline", ["leave_one_out", "moving_average", "none"])
def test_the_gradient_is_that_of_the_expected_reward(baseline) -> None:
    """Over all pairs of rollouts of two picks of three, weighted by their chance."""
    start = np.array([0.4, -0.3, 0.1])

    def expected_reward(scores: np.ndarray) -> float:
        return sum(chance(scores, batch) * REWARDS[batch] for batch in ORDERS)

    step = 1e-5 * np.eye(3)
    exact = [(expected_reward(start + d) - expected_reward(start - d)) / 2e-5 for d in step]
    estimate = np.zeros(3)
    for pair in itertools.product(ORDERS, repeat=2):
        scores = torch.tensor(start).repeat(2, 1).requires_grad_()
        picked = follow(
            np.array(pair),
            costs=np.ones(3),
            left=np.full(2, 2.0),
            closed=np.zeros((2, 3), dtype=bool),
        )
        log_probs, entropies = log_probs_and_entropies(scores, picked)
        credit = advantages(
            np.array([REWARDS[batch] for batch in pair]),
            np.array([GAINED[batch] for batch in pair]),
            baseline=baseline,
            average=0.7,
        )
        loss = reinforce_loss(
            log_probs, entropies, torch.from_numpy(credit.copy()), entropy_weight=0.0, count=2
        )
        loss.backward()
        assert scores.grad is not None
        weight = chance(start, pair[0]) * chance(start, pair[1])
        estimate -= weight * scores.grad.sum(dim=0).numpy()
    assert estimate == pytest.approx(np.array(exact), abs=1e-8)


@pytest.mark.parametrize("baseline", ["leave_one_out", "moving_average"])
def test_a_world_of_one_step_is_solved(baseline) -> None:
    """One of ten images is worth most, and nothing but its reward says so."""
    amounts = np.ones((10, 1))
    trust = np.zeros(10)
    trust[6] = 1.0
    features = np.random.default_rng(1).normal(size=(10, 6))
    episode = episode_of(
        amounts, 1, features=features, trust=trust, weights=RewardWeights(table=0, trust=1)
    )
    rng = np.random.default_rng(0)
    config = replace(SMALL, baseline=baseline, iterations=60, patience=60, held_out=64)
    trained = train(episode, config=config, rng=rng)
    first = [point.reward for point in trained.curve if 0 < point.step <= 5]
    drawn = rollout(trained.policy, episode, count=50, passes=1, rng=rng)
    assert np.mean(first) < 60
    assert drawn.rewards.mean() > 90
    assert trained.best.tolist() == [6]


def test_imitation_makes_greedy_likely(rng) -> None:
    episode = episode_of(rng.uniform(0, 2, size=(20, 3)) ** 3, 4)
    config = replace(SMALL, imitation=30, iterations=0)
    trained = train(episode, config=config, rng=rng)
    drawn = rollout(trained.policy, episode, count=20, passes=4, rng=rng)
    untrained = train(episode, config=replace(config, imitation=0), rng=rng).policy
    assert drawn.rewards.mean() > 97
    by_chance = rollout(untrained, episode, count=20, passes=4, rng=rng)
    assert drawn.rewards.mean() > by_chance.rewards.mean() + 5
    assert [point.step for point in trained.curve] == [*range(-30, 0), 0]
    assert trained.best.tolist() == []


def test_same_seed_same_policy_and_another_seed_another() -> None:
    episode = episode_of(np.random.default_rng(0).uniform(0, 3, size=(12, 3)), 3)
    config = replace(SMALL, iterations=4, imitation=2)
    first, second, other = (
        train(episode, config=config, rng=np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert str(first.curve) == str(second.curve)
    assert torch.equal(first.policy.second.weight, second.policy.second.weight)
    assert not torch.equal(first.policy.second.weight, other.policy.second.weight)


def test_stops_early_and_keeps_the_best_look() -> None:
    """All batches are alike: no look is better than the first."""
    episode = episode_of(np.ones((8, 1)), 2)
    config = replace(SMALL, evaluate_every=2, patience=3)
    trained = train(episode, config=config, rng=np.random.default_rng(0))
    assert trained.curve[-1].step == 6
    assert [p.step for p in trained.curve if p.held_out is not None] == [0, 2, 4, 6]


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    episode = episode_of(np.ones((5, 1)), 2)
    config = replace(SMALL, iterations=2, imitation=1)
    train(
        episode,
        config=config,
        rng=np.random.default_rng(0),
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_options_are_checked() -> None:
    with pytest.raises(ConfigError, match="unknown baseline 'critic'"):
        ReinforceConfig(baseline="critic")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least 2 rollouts, got 1"):
        ReinforceConfig(rollouts=1)


@pytest.mark.parametrize(("n", "rollouts", "imitates"), [(20, 64, False), (5000, 8, True)])
def test_few_candidates_are_explored_many_start_from_greedy(n, rollouts, imitates) -> None:
    config = sensible_config(n)
    assert config.rollouts == rollouts
    assert (config.imitation > 0) == imitates
