"""Many batches at once: what agents that try K batches side by side ask of a table.

Shapes: K batches, M images picked in each (rows padded with -1 at the end), P candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from detal.reward.table import RewardTable

__all__ = ["BatchedTable", "OneByOne", "batched"]

States = TypeVar("States")
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class BatchedTable(Protocol[States]):
    """A look-up table that follows K batches as they grow.

    Each method equals that of `RewardTable` without the plural, applied to one batch after the
    other.
    """

    def __len__(self) -> int:
        """P."""
        ...

    def take(self, index: Integers) -> BatchedTable[Any]:
        """The table of the candidates ``index`` only, distinct, numbered in that order."""
        ...

    def starts(self, count: int) -> States:
        """``count`` batches in which nothing is picked yet."""
        ...

    def marginal_gains(self, states: States) -> Floats:
        """(K, P) mAP that each candidate alone would add to each batch."""
        ...

    def adds(self, states: States, picks: Integers) -> tuple[States, Floats]:
        """The batches after ``picks`` (K, M) joined in order, and what each added (K, M)."""
        ...

    def gains(self, batches: Integers) -> Floats:
        """(K,) mAP that each of ``batches`` (K, M), picked in this order, brings."""
        ...


@dataclass(frozen=True, eq=False)
class OneByOne:
    """A table that knows single batches only, asked K times.

    Attributes:
        table: The table.
        index: (P,) its candidates that are offered.
    """

    table: RewardTable[Any]
    index: Integers

    def __len__(self) -> int:
        return len(self.index)

    def take(self, index: Integers) -> OneByOne:
        """See `BatchedTable`."""
        return OneByOne(self.table, self.index[index])

    def starts(self, count: int) -> tuple[Any, ...]:
        """See `BatchedTable`."""
        return (self.table.start(),) * count

    def marginal_gains(self, states: tuple[Any, ...]) -> Floats:
        """See `BatchedTable`."""
        rows = [self.table.marginal_gain(state, self.index) for state in states]
        return np.array(rows, dtype=np.float64).reshape(len(states), len(self))

    def adds(self, states: tuple[Any, ...], picks: Integers) -> tuple[tuple[Any, ...], Floats]:
        """See `BatchedTable`."""
        after, gains = [], np.zeros(picks.shape)
        for k, state in enumerate(states):
            for m in np.flatnonzero(picks[k] >= 0).tolist():
                candidate = self.index[picks[k, m]]
                gains[k, m] = self.table.marginal_gain(state, np.array([candidate]))[0]
                state = self.table.add(state, int(candidate))
            after.append(state)
        return tuple(after), gains

    def gains(self, batches: Integers) -> Floats:
        """See `BatchedTable`."""
        return np.array([self.table.gain(self.index[row[row >= 0]]) for row in batches], float)


def batched(table: RewardTable[Any], *, num_candidates: int) -> BatchedTable[Any]:
    """``table`` itself if it follows many batches at once, else asked for one after the other.

    Args:
        table: A look-up table.
        num_candidates: P.
    """
    methods = ("take", "starts", "marginal_gains", "adds", "gains")
    if all(hasattr(table, method) for method in methods):
        known: BatchedTable[Any] = table  # type: ignore[assignment]
        return known
    return OneByOne(table, np.arange(num_candidates))
