"""An episode: a batch grows, pass by pass, until nothing fits.

At each pass the policy walks over all candidates in a new random order, sees what is picked already
and what each candidate would add to it, and its share of the budget is drawn from its scores. With
as many passes as images, each image is chosen knowing those before it.

Shapes: K rollouts, n candidates, M picks (rows padded with -1), F inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detal.agents.inputs import Seen, changing_inputs, fixed_inputs, rounded
from detal.agents.plackett_luce import Picked, follow, take_highest
from detal.agents.policy import Policy
from detal.reward import BatchedTable

__all__ = ["Episode", "Pass", "RewardWeights", "Rollouts", "forced", "passes_of", "rollout"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_FIT_TOLERANCE = 1e-9
_PERCENT = 100.0


@dataclass(frozen=True)
class RewardWeights:
    """What a batch is rewarded for; 0 switches a term off.

    Attributes:
        table: Gain of the table, in percent of greedy's.
        trust: Mean trust of the picks, in percent.
        diversity: Mean cosine distance of a pick to the nearest other one, in percent.
        cost: Share of the budget that is spent, in percent, subtracted.
    """

    table: float = 1.0
    trust: float = 0.0
    diversity: float = 0.0
    cost: float = 0.0


@dataclass(frozen=True, eq=False)
class Episode:
    """The world of an agent.

    Attributes:
        table: Rewards, and tells what each candidate would add.
        seen: What the policy sees of the candidates.
        budget: Most that a batch may cost.
        greedy: (M,) greedy's batch on the same table and budget; the agent is measured against it.
        weights: Of the terms of the reward.
        trust: (n,) in 0..1, or None; the reward's, which the policy need not see (``seen.trust``).
        shuffled: Each walk goes in a new random order, not in that of the candidates.
    """

    table: BatchedTable[Any]
    seen: Seen
    budget: float
    greedy: Integers
    weights: RewardWeights = RewardWeights()
    trust: Floats | None = None
    shuffled: bool = True

    @cached_property
    def greedy_gain(self) -> float:
        """MAP that greedy's batch brings."""
        return float(self.table.gains(self.greedy[None])[0])

    def rewards(self, batches: Integers) -> Floats:
        """(K,) reward of each of ``batches`` (K, M), in percent."""
        real = batches >= 0
        total = np.zeros(len(batches))
        if self.weights.table:
            total += self.weights.table * self.table.gains(batches) / self.scale
        count = np.maximum(real.sum(axis=1), 1)
        if self.weights.trust and self.trust is not None:
            total += self.weights.trust * (self.trust[batches] * real).sum(axis=1) / count
        if self.weights.diversity:
            total += self.weights.diversity * self._diversity(batches)
        if self.weights.cost:
            spent = (self.seen.costs[batches] * real).sum(axis=1)
            total -= self.weights.cost * spent / self.budget
        return rounded(_PERCENT * total)

    @property
    def scale(self) -> float:
        """What one unit of table reward is worth in mAP: greedy's gain, or 1 if that is nothing."""
        return self.greedy_gain if self.greedy_gain > 0 else 1.0

    def _diversity(self, batches: Integers) -> Floats:
        features = self.seen.image_features
        if features is None:
            return np.zeros(len(batches))
        result = np.zeros(len(batches))
        for k, row in enumerate(batches):
            part = features[row[row >= 0]].astype(np.float64)
            if len(part) < 2:
                continue
            unit = part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12)
            similarity = unit @ unit.T
            np.fill_diagonal(similarity, -1.0)
            result[k] = (1 - similarity.max(axis=1)).mean()
        return result


@dataclass(frozen=True, eq=False)
class Pass:
    """One walk of K rollouts.

    Attributes:
        changing: (K, n, F'') inputs at its start.
        order: (K, n) of the walk.
        picked: What was picked then.
    """

    changing: NDArray[np.float32]
    order: Integers
    picked: Picked


@dataclass(frozen=True, eq=False)
class Rollouts:
    """K batches, and how they came about.

    Attributes:
        batches: (K, M) picks in order.
        passes: The walks; their picks, side by side, are ``batches`` with gaps.
        gained: (K, M') reward that each of those picks added by the table, 0 in gaps.
        rewards: (K,) in percent.
    """

    batches: Integers
    passes: tuple[Pass, ...]
    gained: Floats
    rewards: Floats


def passes_of(episode: Episode, *, most: int) -> int:
    """``most`` passes, or as many as images can be bought if those are fewer."""
    costs = np.sort(episode.seen.costs)
    images = int((np.cumsum(costs) <= episode.budget * (1 + _FIT_TOLERANCE)).sum())
    return max(min(most, images), 1)


def rollout(
    policy: Policy,
    episode: Episode,
    *,
    count: int,
    passes: int,
    rng: np.random.Generator,
    noise: float = 1.0,
) -> Rollouts:
    """Draw ``count`` batches side by side.

    Args:
        policy: Scores the candidates.
        episode: The world.
        count: K.
        passes: Walks over the candidates.
        rng: Draws the orders and the picks.
        noise: Of the draw; 1 draws from the policy, 0 takes its highest scores.
    """
    fixed = torch.from_numpy(fixed_inputs(episode.seen))

    def pick(world: _World, changing: NDArray[np.float32], order: Integers, until: float) -> Picked:
        with torch.no_grad():
            scores = policy(joined(fixed, changing), torch.from_numpy(order)).double().numpy()
        if noise:
            scores = scores + noise * rng.gumbel(size=scores.shape)
        return take_highest(
            scores,
            costs=episode.seen.costs,
            left=world.left,
            until=np.full(count, until),
            closed=world.closed,
        )

    return _grow(episode, count=count, passes=passes, rng=rng, pick=pick)


def forced(
    episode: Episode, batch: Integers, *, count: int, passes: int, rng: np.random.Generator
) -> Rollouts:
    """Rollouts that pick the given ``batch`` (M,), each in other walks; what imitation learns."""
    costs = episode.seen.costs[batch]
    left_before = episode.budget * (1 + _FIT_TOLERANCE) - np.concatenate([[0], costs.cumsum()[:-1]])

    def pick(world: _World, changing: NDArray[np.float32], order: Integers, until: float) -> Picked:
        done = int(world.closed[0].sum())
        stop = max(int((left_before > until).sum()), done)
        now = np.tile(batch[done:stop], (count, 1))
        return follow(now, costs=episode.seen.costs, left=world.left, closed=world.closed)

    return _grow(episode, count=count, passes=passes, rng=rng, pick=pick)


def joined(fixed: Tensor, changing: NDArray[np.float32]) -> Tensor:
    """(K, n, F) from (n, F') and (K, n, F'')."""
    return torch.cat(
        [fixed.expand(len(changing), -1, -1), torch.from_numpy(changing)],
        dim=2,
    )


@dataclass(eq=False)
class _World:
    """K batches as they grow."""

    states: Any
    left: Floats
    closed: NDArray[np.bool_]


def _grow(
    episode: Episode, *, count: int, passes: int, rng: np.random.Generator, pick: Any
) -> Rollouts:
    n, budget = len(episode.seen), episode.budget
    world = _World(
        states=episode.table.starts(count),
        left=np.full(count, budget * (1 + _FIT_TOLERANCE)),
        closed=np.zeros((count, n), dtype=bool),
    )
    walks, gained = [], [np.zeros((count, 0))]
    for number in range(passes):
        changing = changing_inputs(
            episode.table.marginal_gains(world.states),
            costs=episode.seen.costs,
            left=world.left,
            budget=budget,
            picked=world.closed,
        )
        order = np.tile(np.arange(n), (count, 1))
        if episode.shuffled:
            order = rng.permuted(order, axis=1)
        # Rounding must not end a pass one image late.
        until = budget * (1 - (number + 1) / passes) + budget * _FIT_TOLERANCE * 2
        picked = pick(world, changing, order, 0.0 if number + 1 == passes else until)
        world.states, gains = episode.table.adds(world.states, picked.picks)
        world.left = picked.left
        row, column = np.nonzero(picked.picks >= 0)
        world.closed[row, picked.picks[row, column]] = True
        walks.append(Pass(changing, order, picked))
        gained.append(rounded(_PERCENT * episode.weights.table * gains / episode.scale))
    batches = _without_gaps(np.concatenate([walk.picked.picks for walk in walks], axis=1))
    return Rollouts(
        batches=batches,
        passes=tuple(walks),
        gained=np.concatenate(gained, axis=1),
        rewards=episode.rewards(batches),
    )


def _without_gaps(picks: Integers) -> Integers:
    order = np.argsort(picks < 0, axis=1, kind="stable")
    moved = np.take_along_axis(picks, order, axis=1)
    return moved[:, : int((picks >= 0).sum(axis=1).max(initial=0))]
