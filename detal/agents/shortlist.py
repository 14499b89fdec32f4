"""Which candidates of a large pool the agent looks at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detal.features.expected_objects import Bundles

__all__ = ["shortlist"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def shortlist(
    gains: Floats,
    *,
    costs: Floats,
    objects: Bundles,
    always: Integers,
    size: int,
    rng: np.random.Generator,
) -> Integers:
    """The best half by gain per cost, the other half by class in turn; then at random.

    Classes that gain little at first are in demand once a batch holds the others, so the second
    half goes round the classes and takes the image that holds most of each for its cost.

    Args:
        gains: (P,) what each candidate would add to an empty batch.
        costs: (P,) > 0.
        objects: What the candidates hold.
        always: Candidates that are in anyway (greedy's).
        size: Most candidates, unless ``always`` has more.
        rng: Decides between equal ones.

    Returns:
        (n,) candidates, ascending.
    """
    count = len(costs)
    if size >= count:
        return np.arange(count)
    ties = rng.permutation(count)
    kept = np.zeros(count, dtype=bool)
    kept[always] = True
    best = np.lexsort((ties, -gains / costs))
    _keep(kept, best, max((size + int(kept.sum())) // 2, int(kept.sum())))
    owner = np.repeat(np.arange(count), np.diff(objects.offsets))
    rows = np.lexsort((ties[owner], -objects.amounts / costs[owner], objects.labels))
    firsts = np.searchsorted(objects.labels[rows], objects.labels[rows])
    in_turn = np.argsort(np.arange(len(rows)) - firsts, kind="stable")
    turns = owner[rows][in_turn]
    _, first = np.unique(turns, return_index=True)
    _keep(kept, turns[np.sort(first)], size)
    _keep(kept, np.argsort(ties), size)
    return np.flatnonzero(kept)


def _keep(kept: NDArray[np.bool_], order: Integers, until: int) -> None:
    """Mark the first of ``order`` (distinct) that are not kept yet, until so many are."""
    new = order[~kept[order]]
    kept[new[: max(until - int(kept.sum()), 0)]] = True
