"""The batch of a trained agent, and how it compares with greedy's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from detal.agents.episode import Episode, passes_of, rollout
from detal.agents.reinforce import Trained

__all__ = ["Chosen", "Source", "choose", "swapped"]

Integers = NDArray[np.int64]
Source = Literal["highest scores", "drawn after training", "drawn in training"]

_MOST_PASSES = 64
_WALKS = 4
_DRAWN = 8
_TRIED_AT_ONCE = 64
_FIT_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class Chosen:
    """A batch.

    Attributes:
        batch: (M,) picks in order.
        gain: MAP that it brings by the table.
        greedy_gain: MAP that greedy's batch brings by the same table.
        source: How the agent came to it.
        unswapped_gain: Gain before swaps; equal to ``gain`` without them.
    """

    batch: Integers
    gain: float
    greedy_gain: float
    source: Source
    unswapped_gain: float

    @property
    def ratio(self) -> float:
        """Gain over greedy's; 1 where neither brings anything."""
        return self.gain / self.greedy_gain if self.greedy_gain > 0 else 1.0


def choose(trained: Trained, episode: Episode, *, rng: np.random.Generator) -> Chosen:
    """The agent's batch of highest reward: its highest scores, drawn now, or drawn in training.

    Greedy's own batch is not among them, and the result may be worse: ``ratio`` says so.
    """
    passes = passes_of(episode, most=_MOST_PASSES)
    highest, drawn = (
        rollout(trained.policy, episode, count=count, passes=passes, rng=rng, noise=noise)
        for count, noise in ((_WALKS, 0.0), (_DRAWN, 1.0))
    )
    found: list[tuple[float, Source, Integers]] = [
        (float(highest.rewards.max()), "highest scores", highest.batches[highest.rewards.argmax()]),
        (float(drawn.rewards.max()), "drawn after training", drawn.batches[drawn.rewards.argmax()]),
        (trained.best_reward, "drawn in training", trained.best),
    ]
    _, source, row = max(found, key=lambda each: each[0])
    batch = row[row >= 0]
    gain = float(episode.table.gains(batch[None])[0])
    return Chosen(batch, gain, episode.greedy_gain, source, gain)


def swapped(chosen: Chosen, episode: Episode, *, rng: np.random.Generator, rounds: int) -> Chosen:
    """A local search after the agent: swap a pick for another candidate where that gains.

    Each round tries 64 random swaps that fit and keeps the best of them if it raises the table's
    gain. It is no part of the agent; ``unswapped_gain`` is what the agent itself came to.
    """
    costs, n = episode.seen.costs, len(episode.seen)
    batch, gain = chosen.batch, chosen.gain
    for _ in range(rounds if len(batch) and len(batch) < n else 0):
        others = np.setdiff1d(np.arange(n), batch)
        place, new = (
            rng.integers(len(batch), size=_TRIED_AT_ONCE),
            rng.choice(others, size=_TRIED_AT_ONCE),
        )
        room = episode.budget * (1 + _FIT_TOLERANCE) - costs[batch].sum()
        fits = costs[new] - costs[batch[place]] <= room
        if not fits.any():
            continue
        tried = np.tile(batch, (int(fits.sum()), 1))
        tried[np.arange(len(tried)), place[fits]] = new[fits]
        gains = episode.table.gains(tried)
        if gains.max() > gain:
            batch, gain = tried[gains.argmax()], float(gains.max())
    return replace(chosen, batch=batch, gain=gain)
