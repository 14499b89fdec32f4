"""k-means in NumPy: k-means++ seeding, then Lloyd's iterations.

Seeding costs matrix products, not one pass over the points for each seed.

Shapes: n points, k clusters, D features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["assign", "fit_centres"]

Floats = NDArray[np.float32]
_BLOCK = 4096
_SEEDS_DRAWN = 128
_SEEDS_AT_ONCE = 1024


def fit_centres(
    points: Floats,
    *,
    k: int,
    rng: np.random.Generator,
    iterations: int = 20,
    least_gain: float = 1e-3,
) -> Floats:
    """Cluster centres that locally minimise the summed squared distance to the points.

    Args:
        points: (n, D), n >= 1.
        k: Centres wanted, >= 1.
        rng: Draws the seeds.
        iterations: Most Lloyd iterations; they end earlier when no point changes its cluster.
        least_gain: They end, too, when the sum falls by less than this share of it: the last
            iterations are most of the work and gain next to nothing.

    Returns:
        (k, D) float32; fewer rows if there are fewer than ``k`` distinct points.
    """
    centres = points[_seed(points, k=k, rng=rng)]
    labels = np.full(len(points), -1, dtype=np.int64)
    total = np.inf
    for _ in range(iterations):
        new_labels, distances = assign(points, centres)
        before, total = total, float(distances.sum(dtype=np.float64))
        if np.array_equal(new_labels, labels) or total > (1 - least_gain) * before:
            break
        labels = new_labels
        order = labels.argsort(kind="stable")
        present, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
        sums = np.add.reduceat(points[order], starts, axis=0, dtype=np.float64)
        # A centre that lost all its points stays where it is.
        centres[present] = (sums / counts[:, None]).astype(np.float32)
    return centres


def _seed(points: Floats, *, k: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """k-means++: each seed is drawn with probability proportional to its squared distance.

    Drawn by rejection (as in Cohen-Addad et al., "Fast and accurate k-means++ via rejection
    sampling", NeurIPS 2020): distances to earlier seeds bound those to all of them, so a point
    drawn by its bound is taken with probability distance / bound. That is exact, and the bounds of
    all points follow for many seeds at once, in one matrix product.
    """
    squared = np.einsum("nd,nd->n", points, points)
    seeds = [int(rng.integers(len(points)))]
    bound = np.full(len(points), np.inf, dtype=np.float32)
    bounded = 0  # how many of the seeds the bounds take into account
    while len(seeds) < min(k, len(points)):
        if bounded < len(seeds):
            _lower(bound, points, squared, np.array(seeds[bounded:]))
            bounded = len(seeds)
        drawn = _SEEDS_DRAWN
        while 2 * drawn >= _SEEDS_DRAWN and len(seeds) - bounded < _SEEDS_AT_ONCE:
            before = len(seeds)
            seeds += _drawn_seeds(bound, points, squared, seeds[bounded:], k - before, rng)
            drawn = len(seeds) - before
        if len(seeds) == bounded:
            break
    return np.array(seeds, dtype=np.int64)


def _drawn_seeds(
    bound: Floats,
    points: Floats,
    squared: Floats,
    pending: list[int],
    wanted: int,
    rng: np.random.Generator,
) -> list[int]:
    """Up to ``wanted`` new seeds of those drawn by ``bound`` (n,), which their own bounds follow.

    ``pending`` are the seeds that the bounds do not take into account.
    """
    cumulated = bound.cumsum(dtype=np.float64)
    if wanted <= 0 or cumulated[-1] <= 0:
        return []
    draws, chances = rng.random((2, _SEEDS_DRAWN))
    last = int(bound.nonzero()[0][-1])
    index = np.minimum(np.searchsorted(cumulated, draws * cumulated[-1], side="right"), last)
    distance = bound[index].copy()
    if pending:
        to_pending = _squared_distance(points, squared, index, np.array(pending))
        distance = np.minimum(distance, to_pending.min(axis=1))
    between = _squared_distance(points, squared, index, index)
    chances *= bound[index]
    seeds: list[int] = []
    for place in range(len(index)):
        if chances[place] < distance[place] and len(seeds) < wanted:
            seeds.append(int(index[place]))
            distance = np.minimum(distance, between[place])
    bound[index] = distance
    return seeds


def _lower(bound: Floats, points: Floats, squared: Floats, seeds: NDArray[np.int64]) -> None:
    """Let the bounds (n,) take the squared distances to ``seeds`` into account."""
    for start in range(0, len(points), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(points)))
        nearest = _squared_distance(points, squared, rows, seeds).min(axis=1)
        bound[rows] = np.minimum(bound[rows], nearest)


def _squared_distance(
    points: Floats, squared: Floats, rows: NDArray[np.int64], others: NDArray[np.int64]
) -> Floats:
    """(n, m) squared distances between some of the points and others of them."""
    both = squared[rows, None] + squared[others]
    distance = both - 2 * (points[rows] @ points[others].T)
    # What is left of a distance between equal points is rounding; seeding ends on it.
    distance[distance <= 1e-6 * both] = 0.0
    distance[rows[:, None] == others] = 0.0
    return np.asarray(distance)


def assign(points: Floats, centres: Floats) -> tuple[NDArray[np.int64], Floats]:
    """The nearest centre of each point and the squared distance to it; ties go to the first.

    Args:
        points: (n, D).
        centres: (k, D), k >= 1.

    Returns:
        (n,) indices and (n,) squared distances.
    """
    labels = np.empty(len(points), dtype=np.int64)
    distances = np.empty(len(points), dtype=np.float32)
    offset = np.einsum("kd,kd->k", centres, centres)
    for start in range(0, len(points), _BLOCK):
        block = points[start : start + _BLOCK]
        relative = offset - 2 * (block @ centres.T)
        nearest = relative.argmin(axis=1)
        labels[start : start + _BLOCK] = nearest
        lowest = np.take_along_axis(relative, nearest[:, None], axis=1)[:, 0]
        squared = np.einsum("nd,nd->n", block, block)
        distances[start : start + _BLOCK] = np.maximum(lowest + squared, 0)
    return labels, distances
