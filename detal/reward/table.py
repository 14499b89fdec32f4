"""What every look-up table offers, so that greedy, agents and reports use one interface."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["RewardTable"]

State = TypeVar("State")


class RewardTable(Protocol[State]):
    """Expected mAP that labelling candidates brings. Shapes: P candidates, n asked about."""

    def start(self) -> State:
        """The state in which nothing of the batch is picked yet."""
        ...

    def marginal_gain(self, state: State, index: NDArray[np.int64]) -> NDArray[np.float64]:
        """(n,) mAP (0..1) that each candidate ``index`` (n,) alone would add to the batch so far.

        Never more in a later state than in an earlier one (the gain is submodular).
        """
        ...

    def add(self, state: State, candidate: int) -> State:
        """The state after ``candidate`` joined the batch; ``state`` itself is not changed."""
        ...

    def gain(self, batch: NDArray[np.int64]) -> float:
        """MAP (0..1) that labelling the candidates ``batch`` (K,), picked in this order, brings."""
        ...

    def explain(self, state: State, candidate: int) -> str:
        """In words, what the candidate brings now."""
        ...


def total_gain(table: RewardTable[Any], batch: NDArray[np.int64]) -> float:
    """Sum of the marginal gains of a batch, in order."""
    state, total = table.start(), 0.0
    for candidate in batch.tolist():
        total += float(table.marginal_gain(state, np.array([candidate]))[0])
        state = table.add(state, candidate)
    return total
