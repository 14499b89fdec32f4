"""Greedy choice of images as bundles of objects, where more of one class is worth less and less.

Shapes: P candidates, C classes, S pairs of a candidate and a class in it, s of them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from detal.features.expected_objects import Bundles

__all__ = ["LazyGreedy", "Worth"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

Worth = Callable[[Integers, Floats, Floats], Floats]
"""``worth(labels, have, amounts)``, each (s,): what it is worth to add ``amounts`` objects of the
classes ``labels`` to a batch that holds ``have`` of them; it never rises with ``have``."""

_FIRST_BLOCK = 64
_GROWTH = 4
_LEAST_COST = 1e-9


class LazyGreedy:
    """The image of largest gain per cost, again and again.

    As gains never rise while the batch grows, what was computed earlier is an upper bound: only
    images whose bound comes near the top are looked at again, in blocks that grow fourfold. The
    result is that of the full greedy choice; equal gains are decided by a random order of the pool.
    Cost: O(P) per pick with a small constant, O(S) where a pick lowers the bounds of all.

    Args:
        bundles: What the images hold.
        worth: What objects are worth.
        costs: (P,) >= 0.
        num_classes: C.
        rng: Draws the order of the pool.
        weight: Factor of the worth in the gain.

    Attributes:
        base: (P,) what an image is worth on its own, which a caller may lower between picks.
        have: (C,) expected objects in the batch.
    """

    def __init__(
        self,
        bundles: Bundles,
        worth: Worth,
        *,
        costs: Floats,
        num_classes: int,
        rng: np.random.Generator,
        weight: float = 1.0,
    ) -> None:
        self._bundles = bundles
        self._worth = worth
        self._weight = weight
        self._costs = np.maximum(costs, _LEAST_COST)
        self._order = rng.permutation(len(costs))
        self.base = np.zeros(len(costs))
        self.have = np.zeros(num_classes)
        self._closed = np.zeros(len(costs), dtype=bool)
        self._bound = np.zeros(len(costs))
        self._version = 0
        self._looked_at = np.zeros(len(costs), dtype=np.int64)
        self._look_at(np.arange(len(costs)))

    def best(self) -> int:
        """The candidate of largest gain per cost; -1 if all were closed."""
        size = _FIRST_BLOCK
        value = self._values(self._order)
        while len(value):
            top = int(value.argmax())
            if value[top] == -np.inf:
                return -1
            if self._looked_at[self._order[top]] == self._version:
                return int(self._order[top])
            size = min(size, len(value))
            near = np.argpartition(value, -size)[-size:]
            near = np.append(near, top)  # which may not be in it, among equal ones
            stale = near[self._looked_at[self._order[near]] != self._version]
            self._look_at(self._order[stale])
            value[stale] = self._values(self._order[stale])
            size *= _GROWTH
        return -1

    def left(self) -> Integers:
        """Candidates that are not closed, in the random order of the pool."""
        return self._order[~self._closed[self._order]]

    def gain(self, index: int) -> float:
        """Gain per cost of candidate ``index``, as last looked at."""
        return float(self._values(np.array([index]))[0])

    def holds(self, index: int) -> tuple[Integers, Floats, Floats]:
        """Classes in candidate ``index``, their expected objects and what those are worth now."""
        rows, _ = self._bundles.rows(np.array([index]))
        labels, amounts = self._bundles.labels[rows], self._bundles.amounts[rows]
        return labels, amounts, self._worth(labels, self.have[labels], amounts)

    def close(self, index: int, *, taken: bool) -> None:
        """Offer candidate ``index`` no more; if it was taken, its objects are in the batch."""
        self._closed[index] = True
        labels, amounts, _ = self.holds(index)
        if taken and len(labels):
            self.have[labels] += amounts
            self._version += 1

    def _look_at(self, candidates: Integers) -> None:
        rows, owner = self._bundles.rows(candidates)
        labels = self._bundles.labels[rows]
        worth = self._worth(labels, self.have[labels], self._bundles.amounts[rows])
        self._bound[candidates] = np.bincount(owner, worth, minlength=len(candidates))
        self._looked_at[candidates] = self._version

    def _values(self, candidates: Integers) -> Floats:
        gain = self.base[candidates] + self._weight * self._bound[candidates]
        return np.where(self._closed[candidates], -np.inf, gain / self._costs[candidates])
