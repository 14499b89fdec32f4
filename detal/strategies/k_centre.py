"""Choosing centres so that no image is far from its nearest one: outliers and local search.

Shapes: P candidates, n of them that count, L labelled images, D features, k centres.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from detal.strategies.geometry import Space

__all__ = ["pick_farthest", "swapped_centres"]

_TRIALS = 16
_LEAST_GAIN = 1e-4

Floats = NDArray[np.float32]


def pick_farthest(key: Floats, *, outliers: float, rng: np.random.Generator) -> int:
    """The candidate of the largest key, or a random one of the farthest few.

    Args:
        key: (P,) distances; -inf where a candidate is gone, at least one is not.
        outliers: Share of the pool that may stay uncovered; of twice as many the pick is drawn.
        rng: Draws.
    """
    count = math.ceil(2 * outliers * len(key))
    if count < 2:
        return int(key.argmax())
    farthest = np.sort(np.argpartition(key, len(key) - count)[-count:])
    return int(rng.choice(farthest[key[farthest] > -np.inf]))


def swapped_centres(
    space: Space,
    labeled: Floats | None,
    *,
    k: int,
    swaps: int,
    outliers: float,
    rng: np.random.Generator,
) -> list[int]:
    """Greedy centres, improved by exchanging one at a time while the radius shrinks.

    The image that is farthest from every centre must come nearer, so what is tried in exchange is
    that image and some between it and its nearest centre. What each exchange with each centre would
    do follows from the distances to the nearest and the second nearest centre.

    Args:
        space: P candidates.
        labeled: (L, D) centres that stay, or None.
        k: Centres wanted, in 1..P.
        swaps: Most exchanges.
        outliers: Share of the pool that the radius leaves out: the farthest after greedy choice.
        rng: Draws what is tried.

    Returns:
        Up to k candidates, in the order of greedy choice.
    """
    fixed = (
        space.distance_to_nearest(labeled)
        if labeled is not None and len(labeled)
        else np.full(len(space), np.inf, dtype=np.float32)
    )
    centres = _greedy(space, fixed, k=k, outliers=outliers, rng=rng)
    near = _Nearest(space, fixed, centres)
    counted = np.sort(near.first.argsort()[: len(space) - math.floor(outliers * len(space))])
    for _ in range(swaps):
        exchange = _best_exchange(space, near, len(centres), counted, rng)
        if exchange is None:
            break
        old, new = exchange
        centres[old] = new
        near = _Nearest(space, fixed, centres)
    return centres


def _greedy(
    space: Space, fixed: Floats, *, k: int, outliers: float, rng: np.random.Generator
) -> list[int]:
    centres = []
    key = fixed.copy() if np.isfinite(fixed[0]) else -space.distance_to_mean()
    covered = bool(np.isfinite(fixed[0]))
    for _ in range(k):
        index = pick_farthest(key, outliers=outliers if covered else 0.0, rng=rng)
        centres.append(index)
        distance = space.distance_to(index)
        key = np.minimum(key, distance) if covered else distance
        key[centres] = -np.inf
        covered = True
    return centres


class _Nearest:
    """Distance of every candidate to its nearest centre, which that is, and to the second one.

    Attributes:
        first: (P,) distance to the nearest.
        which: (P,) its place among the centres, -1 for a labelled image.
        second: (P,) distance to the nearest if that one were not there; infinite if there is none.
    """

    def __init__(self, space: Space, fixed: Floats, centres: list[int]) -> None:
        self.first = fixed.copy()
        self.second = fixed.copy()
        self.which = np.full(len(fixed), -1, dtype=np.int64)
        for place, centre in enumerate(centres):
            distance = space.distance_to(centre)
            nearer = distance < self.first
            self.second = np.where(nearer, self.first, np.minimum(self.second, distance))
            self.first = np.where(nearer, distance, self.first)
            self.which[nearer] = place


def _best_exchange(
    space: Space,
    near: _Nearest,
    num_centres: int,
    counted: NDArray[np.int64],
    rng: np.random.Generator,
) -> tuple[int, int] | None:
    """Which centre to give up for which candidate, or None if nothing helps."""
    farthest = int(counted[near.first[counted].argmax()])
    radius = float(near.first[farthest])
    to_farthest = space.distance_to(farthest)
    inside = np.flatnonzero(to_farthest < radius)
    trials = rng.permutation(inside)[:_TRIALS]
    best, exchange = radius * (1 - _LEAST_GAIN), None
    first, second, which = near.first[counted], near.second[counted], near.which[counted]
    for trial in np.unique([*trials, farthest]).tolist():
        distance = space.distance_to(trial)[counted]
        radii = _radii_without(distance, first, second, which, num_centres)
        if radii.min() < best:
            best, exchange = float(radii.min()), (int(radii.argmin()), trial)
    return exchange


def _radii_without(
    distance: Floats, first: Floats, second: Floats, which: NDArray[np.int64], num_centres: int
) -> Floats:
    """(k,) radius after each centre was given up for a candidate.

    Args:
        distance: (n,) distances to that candidate.
        first: (n,) distances to the nearest centre.
        second: (n,) distances to the second nearest.
        which: (n,) the nearest centre, or -1 for one that stays.
        num_centres: k.
    """
    kept = np.zeros(num_centres + 1, dtype=np.float32)  # its own images if a centre stays; -1 last
    lost = np.zeros(num_centres + 1, dtype=np.float32)  # and if it goes
    np.maximum.at(kept, which, np.minimum(distance, first))
    np.maximum.at(lost, which, np.minimum(distance, second))
    largest = int(kept.argmax())
    others = np.full(num_centres + 1, kept[largest])
    others[largest] = np.delete(kept, largest).max(initial=0)
    return np.asarray(np.maximum(others, lost)[:num_centres])
