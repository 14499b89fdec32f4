"""k-medoids on a matrix of distances: k-centre seeds, then Voronoi iterations.

Shapes: n points, k clusters.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["k_medoids"]

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


def k_medoids(
    distance: Floats, *, k: int, rng: np.random.Generator, iterations: int = 100
) -> tuple[Integers, Integers]:
    """Points that are nearest to all others of their cluster, and the cluster of each point.

    The first seed is drawn, each further one is the point farthest from its nearest seed. Then
    points go to their nearest medoid and each cluster takes the member of least summed distance,
    until nothing changes. No cluster is ever empty, also among equal points. Cost: O(n k) per
    iteration and O(sum of squared cluster sizes).

    Args:
        distance: (n, n) symmetric, 0 on the diagonal, n >= 1.
        k: Clusters, in 1..n.
        rng: Draws the first seed.
        iterations: Most iterations.

    Returns:
        (k,) distinct medoids and (n,) clusters, 0..k-1.
    """
    medoids = _k_centre(distance, k=k, rng=rng)
    labels = _assign(distance, medoids)
    for _ in range(iterations):
        members = np.split(labels.argsort(kind="stable"), np.bincount(labels).cumsum()[:-1])
        moved = np.array([_medoid(distance, own) for own in members], dtype=np.int64)
        if np.array_equal(moved, medoids):
            break
        medoids = moved
        labels = _assign(distance, medoids)
    return medoids, labels


def _k_centre(distance: Floats, *, k: int, rng: np.random.Generator) -> Integers:
    seeds = [int(rng.integers(len(distance)))]
    nearest = distance[seeds[0]].copy()
    while len(seeds) < k:
        nearest[seeds[-1]] = -1.0  # a seed is never drawn twice
        seeds.append(int(nearest.argmax()))
        np.minimum(nearest, distance[seeds[-1]], out=nearest)
    return np.array(seeds, dtype=np.int64)


def _assign(distance: Floats, medoids: Integers) -> Integers:
    labels: NDArray[Any] = distance[:, medoids].argmin(axis=1)
    labels[medoids] = np.arange(len(medoids))  # even where another medoid is equal to it
    return np.asarray(labels, dtype=np.int64)


def _medoid(distance: Floats, members: Integers) -> int:
    return int(members[distance[np.ix_(members, members)].sum(axis=1).argmin()])
