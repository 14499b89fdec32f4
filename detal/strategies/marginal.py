"""Greedy choice of images as bundles of objects, where more of one class is worth less and less.

Shapes: P candidates, C classes, S pairs of a candidate and a class in it, s of them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from detal.features.expected_objects import Bundles
from detal.strategies.lazy import LazyQueue

__all__ = ["LazyGreedy", "Worth"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

Worth = Callable[[Integers, Floats, Floats], Floats]
"""``worth(labels, have, amounts)``, each (s,): what it is worth to add ``amounts`` objects of the
classes ``labels`` to a batch that holds ``have`` of them; it never rises with ``have``."""


class LazyGreedy:
    """The image of largest gain per cost, again and again (`LazyQueue`).

    Args:
        bundles: What the images hold.
        worth: What objects are worth.
        costs: (P,) >= 0.
        num_classes: C.
        rng: Draws the order of the pool.
        weight: Factor of the worth in the gain.

    Attributes:
        queue: The images; its ``base`` is what an image is worth on its own.
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
        self.have = np.zeros(num_classes)
        self.queue = LazyQueue(self._gains, costs=costs, order=rng.permutation(len(costs)))

    def holds(self, index: int) -> tuple[Integers, Floats, Floats]:
        """Classes in candidate ``index``, their expected objects and what those are worth now."""
        rows, _ = self._bundles.rows(np.array([index]))
        labels, amounts = self._bundles.labels[rows], self._bundles.amounts[rows]
        return labels, amounts, self._worth(labels, self.have[labels], amounts)

    def close(self, index: int, *, taken: bool) -> None:
        """Offer candidate ``index`` no more; if it was taken, its objects are in the batch."""
        labels, amounts, _ = self.holds(index)
        changed = taken and len(labels) > 0
        if changed:
            self.have[labels] += amounts
        self.queue.close(index, changed=changed)

    def _gains(self, index: Integers) -> Floats:
        rows, owner = self._bundles.rows(index)
        labels = self._bundles.labels[rows]
        worth = self._worth(labels, self.have[labels], self._bundles.amounts[rows])
        return np.asarray(self._weight * np.bincount(owner, worth, minlength=len(index)))
