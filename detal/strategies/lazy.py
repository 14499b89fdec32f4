"""Greedy choice: the candidate of largest gain per cost, again and again.

Lazy: as no gain ever rises while the batch grows, what was computed earlier bounds it from above,
and only candidates whose bound comes near the top are looked at again (Minoux, "Accelerated greedy
algorithms for maximizing submodular set functions", 1978). The choice is that of the full greedy.

Shapes: P candidates, n asked about.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["LazyQueue"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_FRONT = 4096
_FIRST_BLOCK = 64
_GROWTH = 4
_LEAST_COST = 1e-9


class LazyQueue:
    """Candidates by gain per cost.

    Only a front of the highest bounds is looked at until it falls below all others, so a pick costs
    the size of the front and, now and then, O(P).

    Args:
        gains: (n,) present gains of the candidates ``index`` (n,); none may rise between picks.
        costs: (P,) >= 0.
        order: (P,) each candidate once: equal ones come in this order, as far as both are in front.
        block: How many are looked at again together at first: few where gains are dear.

    Attributes:
        base: (P,) added to the gains; a caller may lower it between picks.
    """

    def __init__(
        self,
        gains: Callable[[Integers], Floats],
        *,
        costs: Floats,
        order: Integers,
        block: int = _FIRST_BLOCK,
    ) -> None:
        self._gains = gains
        self._block = block
        self._costs = np.maximum(costs, _LEAST_COST)
        self._order = order
        self.base = np.zeros(len(costs))
        self._open = np.ones(len(costs), dtype=bool)
        self._bound = np.asarray(gains(np.arange(len(costs))), dtype=np.float64)
        self._version = 0
        self._looked_at = np.zeros(len(costs), dtype=np.int64)
        self._front = np.zeros(0, dtype=np.int64)
        self._behind = np.inf

    def best(self) -> int:
        """The candidate of largest gain per cost; -1 if all were closed."""
        size = self._block
        value = self._values(self._front)
        while True:
            top = int(value.argmax()) if len(value) else -1
            highest = value[top] if len(value) else -np.inf
            if highest < self._behind:
                self._advance()
                value = self._values(self._front)
            elif highest == -np.inf:
                return -1
            elif self._looked_at[self._front[top]] == self._version:
                return int(self._front[top])
            else:
                near = np.append(_largest(value, size), top)
                stale = near[self._looked_at[self._front[near]] != self._version]
                self._look_at(self._front[stale])
                value[stale] = self._values(self._front[stale])
                size *= _GROWTH

    def gain(self, index: int) -> float:
        """Gain of candidate ``index``, as last looked at; the base is part of it."""
        return float(self.base[index] + self._bound[index])

    def left(self) -> Integers:
        """Candidates that are not closed, in the given order."""
        return self._order[self._open[self._order]]

    def close(self, index: int, *, changed: bool) -> None:
        """Offer candidate ``index`` no more; ``changed``: the gains of others may have fallen."""
        self._open[index] = False
        if changed:
            self._version += 1

    def _advance(self) -> None:
        left = self.left()
        value = self._values(left)
        chosen = _largest(value, _FRONT)
        behind = np.ones(len(left), dtype=bool)
        behind[chosen] = False
        self._front = left[np.sort(chosen)]
        self._behind = float(value[behind].max(initial=-np.inf))

    def _look_at(self, index: Integers) -> None:
        self._bound[index] = self._gains(index)
        self._looked_at[index] = self._version

    def _values(self, index: Integers) -> Floats:
        value = (self.base[index] + self._bound[index]) / self._costs[index]
        return np.where(self._open[index], value, -np.inf)


def _largest(value: Floats, number: int) -> Integers:
    """Places of the ``number`` largest of ``value`` (n,), in any order."""
    if number >= len(value):
        return np.arange(len(value))
    return np.asarray(np.argpartition(value, -number)[-number:])
