"""REINFORCE (Williams 1992) with a leave-one-out baseline (Kool, van Hoof & Welling 2019).

The log-probabilities are those of the very picks that are rewarded (CDAL's public code rewards the
highest scores and differentiates the probability of other, sampled ones: that is no gradient of
anything), and no baseline depends on what it is compared with, so the gradient is unbiased. A pick
is credited with the reward of its batch less what the picks before it had added already.

Shapes: K rollouts, M' picks (with gaps).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detal.agents.episode import Episode, Rollouts, forced, joined, passes_of, rollout
from detal.agents.inputs import NUM_INPUTS, fixed_inputs
from detal.agents.plackett_luce import log_probs_and_entropies
from detal.agents.policy import Policy
from detal.errors import ConfigError, unknown_name

__all__ = [
    "BASELINES",
    "Baseline",
    "Point",
    "ReinforceConfig",
    "Trained",
    "advantages",
    "leave_one_out",
    "new_policy",
    "reinforce_loss",
    "sensible_config",
    "train",
]

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]
Baseline = Literal["leave_one_out", "moving_average", "none"]
BASELINES: tuple[str, ...] = get_args(Baseline)

_IMITATED_AT_ONCE = 2
_EXPLORED = 32
_FEW = 200
_MANY = 2000
_CANDIDATES_AT_ONCE = 16_384


@dataclass(frozen=True)
class ReinforceConfig:
    """Hyper-parameters; `sensible_config` knows good ones.

    Attributes:
        iterations: Most policy gradient steps, >= 0.
        rollouts: K, batches drawn per step, >= 2 for the leave-one-out baseline.
        passes: Most walks over the candidates per batch.
        imitation: Steps of imitating greedy before the first policy gradient step.
        baseline: ``leave_one_out``: the mean of the other rollouts; ``moving_average``: of the
            steps before (CDAL has that one); ``none``.
        momentum: Of the moving average.
        learning_rate: Of Adam.
        entropy_weight: Of the mean entropy of a pick, in nats, beside a reward in percent; fades to
            0 over the iterations.
        max_grad_norm: Longer gradients are scaled down to it.
        held_out: Rollouts that are never learned from, drawn with the same noise each time.
        evaluate_every: Steps between two looks at the held-out rollouts.
        patience: Looks without a better mean reward after which training stops; the policy of the
            best look is the result.
        hidden: Width of the LSTM and of the head.
    """

    iterations: int = 40
    rollouts: int = 8
    passes: int = 8
    imitation: int = 40
    baseline: Baseline = "leave_one_out"
    momentum: float = 0.9
    learning_rate: float = 0.01
    entropy_weight: float = 0.05
    max_grad_norm: float = 1.0
    held_out: int = 4
    evaluate_every: int = 5
    patience: int = 4
    hidden: int = 32

    def __post_init__(self) -> None:
        if self.baseline not in BASELINES:
            raise ConfigError(unknown_name("baseline", self.baseline, BASELINES))
        if self.baseline == "leave_one_out" and self.rollouts < 2:
            raise ConfigError(f"leave_one_out needs at least 2 rollouts, got {self.rollouts}")


@dataclass(frozen=True)
class Point:
    """One step of the learning curve.

    Attributes:
        step: Its number; steps of imitation are negative.
        reward: Mean of the rollouts, in percent; of greedy while it is imitated.
        entropy: Mean of a pick, in nats.
        held_out: Mean reward of the held-out rollouts, or None where nobody looked.
    """

    step: int
    reward: float
    entropy: float
    held_out: float | None = None


@dataclass(frozen=True, eq=False)
class Trained:
    """What came of training.

    Attributes:
        policy: That of the best look.
        curve: How it went.
        best: The drawn batch of highest reward, without padding; of no images if none was drawn.
        best_reward: Its reward, -inf if none was drawn.
    """

    policy: Policy
    curve: tuple[Point, ...]
    best: NDArray[np.int64]
    best_reward: float


def sensible_config(num_candidates: int) -> ReinforceConfig:
    """Hyper-parameters by the number of candidates n.

    Up to 32 candidates are explored from scratch, with many rollouts: an agent that starts as
    greedy stays greedy. Among more, chance finds nothing as good as greedy, and the agent starts
    from there; rollouts are as many as keep a step cheap. With thousands, where greedy is hard to
    beat, steps and passes are fewer too.
    """
    if num_candidates <= _EXPLORED:
        return ReinforceConfig(imitation=0, rollouts=64, iterations=60, entropy_weight=1.5)
    if num_candidates <= _FEW:
        return ReinforceConfig(rollouts=16, imitation=20, iterations=15, evaluate_every=3)
    if num_candidates > _MANY:
        return ReinforceConfig(rollouts=8, passes=4, imitation=20, iterations=20)
    rollouts = min(max(_CANDIDATES_AT_ONCE // num_candidates, 8), 16)
    return ReinforceConfig(rollouts=rollouts)


def leave_one_out(values: Floats) -> Floats:
    """(K, ...) mean of the other K - 1 rows, for each row."""
    return np.asarray((values.sum(axis=0, keepdims=True) - values) / (len(values) - 1))


def advantages(
    rewards: Floats, gained: Floats, *, baseline: Baseline, average: float = 0.0
) -> Floats:
    """(K, M') how much better each pick did than expected.

    ``gained`` (K, M') is, in units of the reward, what each pick added when it was picked: as it
    depends on earlier picks only, subtracting it from the credit of later ones removes noise and no
    signal.

    Args:
        rewards: (K,) of the batches.
        gained: (K, M'), 0 in gaps.
        baseline: See `ReinforceConfig`.
        average: The moving average.
    """
    to_go = rewards[:, None] - (gained.cumsum(axis=1) - gained)
    if baseline == "leave_one_out":
        return to_go - leave_one_out(to_go)
    if baseline == "moving_average":
        return np.broadcast_to((rewards - average)[:, None], gained.shape)
    return to_go


def reinforce_loss(
    log_probs: Tensor, entropies: Tensor, advantage: Tensor, *, entropy_weight: float, count: float
) -> Tensor:
    """Minus (advantage x log-probability + weighted entropy), summed over picks, over ``count``.

    Args:
        log_probs: (K, M') of the picks, 0 in gaps.
        entropies: (K, M') of the choices, 0 in gaps.
        advantage: (K, M').
        entropy_weight: See `ReinforceConfig`.
        count: What the sum is divided by, so that picks may come in parts.
    """
    return -(advantage * log_probs + entropy_weight * entropies).sum() / count


def new_policy(config: ReinforceConfig, rng: np.random.Generator) -> Policy:
    """A policy that has learned nothing."""
    seed = torch.Generator().manual_seed(int(rng.integers(2**63)))
    return Policy(NUM_INPUTS, hidden=config.hidden, seed=seed)


def train(
    episode: Episode,
    *,
    config: ReinforceConfig,
    rng: np.random.Generator,
    policy: Policy | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Trained:
    """Imitate greedy, then learn from the rewards of drawn batches.

    Args:
        episode: The world, with at least one candidate that fits.
        config: Hyper-parameters.
        rng: Source of everything random.
        policy: One to go on with; it is changed. By default a new one.
        progress: Called with steps done and steps to do at most.
    """
    with torch.enable_grad():
        return _Training(episode, config, rng, policy or new_policy(config, rng)).run(progress)


class _Training:
    def __init__(
        self, episode: Episode, config: ReinforceConfig, rng: np.random.Generator, policy: Policy
    ) -> None:
        self._episode, self._config, self._rng, self._policy = episode, config, rng, policy
        self._passes = passes_of(episode, most=config.passes)
        self._fixed = torch.from_numpy(fixed_inputs(episode.seen))
        self._optimiser = torch.optim.Adam(policy.parameters(), lr=config.learning_rate)
        self._held_out_seed = int(rng.integers(2**63))

    def run(self, progress: Callable[[int, int], None]) -> Trained:
        config = self._config
        total = config.imitation + config.iterations
        curve = []
        for step in range(config.imitation):
            curve.append(self._imitate(step - config.imitation))
            progress(step + 1, total)
        best, best_reward = np.zeros(0, dtype=np.int64), -np.inf
        kept, highest, looks = self._weights(), self._look(), 0
        curve.append(Point(0, highest, float("nan"), highest))
        average = highest
        for step in range(1, config.iterations + 1):
            drawn = rollout(
                self._policy,
                self._episode,
                count=config.rollouts,
                passes=self._passes,
                rng=self._rng,
            )
            top = int(drawn.rewards.argmax())
            if drawn.rewards[top] > best_reward:
                best, best_reward = drawn.batches[top], float(drawn.rewards[top])
            credit = advantages(
                drawn.rewards,
                drawn.gained,
                baseline=config.baseline,
                average=average,
            )
            mean = float(drawn.rewards.mean())
            average = config.momentum * average + (1 - config.momentum) * mean
            fades = 1 - (step - 1) / config.iterations
            entropy = self._step(drawn, credit, fades * config.entropy_weight)
            held_out = None
            if step % config.evaluate_every == 0 or step == config.iterations:
                held_out = self._look()
                looks += 1
                if held_out > highest:
                    kept, highest, looks = self._weights(), held_out, 0
            curve.append(Point(step, mean, entropy, held_out))
            progress(config.imitation + step, total)
            if looks >= config.patience:
                break
        self._policy.load_state_dict(kept)
        return Trained(self._policy, tuple(curve), best[best >= 0], best_reward)

    def _imitate(self, step: int) -> Point:
        """One step towards making greedy's batch likely."""
        shown = forced(
            self._episode,
            self._episode.greedy,
            count=_IMITATED_AT_ONCE,
            passes=self._passes,
            rng=self._rng,
        )
        entropy = self._step(shown, np.ones(shown.gained.shape), 0.0)
        return Point(step, float(shown.rewards.mean()), entropy)

    def _step(self, drawn: Rollouts, credit: Floats, entropy_weight: float) -> float:
        """One step of Adam, pass by pass in memory; returns the mean entropy of a pick."""
        count = max(int((drawn.batches >= 0).sum()), 1)
        self._optimiser.zero_grad()
        start, total = 0, 0.0
        for walk in drawn.passes:
            stop = start + walk.picked.picks.shape[1]
            if stop > start:
                scores = self._policy(
                    joined(self._fixed, walk.changing), torch.from_numpy(walk.order)
                )
                log_probs, entropies = log_probs_and_entropies(scores, walk.picked)
                loss = reinforce_loss(
                    log_probs,
                    entropies,
                    torch.from_numpy(credit[:, start:stop].copy()),
                    entropy_weight=entropy_weight,
                    count=count,
                )
                loss.backward()  # type: ignore[no-untyped-call]
                total += float(entropies.detach().sum())
            start = stop
        torch.nn.utils.clip_grad_norm_(self._policy.parameters(), self._config.max_grad_norm)
        self._optimiser.step()
        return total / count

    def _look(self) -> float:
        """Mean reward of the held-out rollouts."""
        drawn = rollout(
            self._policy,
            self._episode,
            count=self._config.held_out,
            passes=self._passes,
            rng=np.random.default_rng(self._held_out_seed),
        )
        return float(drawn.rewards.mean())

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self._policy.state_dict().items()}
