"""Distances between image features, block by block, without copies of the pool.

Shapes: P candidates, L other points, D features.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from detal.errors import ConfigError, unknown_name
from detal.features.nearest import CosinePoints, EuclideanPoints, Known

__all__ = ["Metric", "Space", "check_metric"]

Metric = Literal["cosine", "euclidean"]
Floats = NDArray[np.float32]
_BLOCK = 4096


def check_metric(metric: str) -> None:
    """Raise a ConfigError unless ``metric`` is one of ours."""
    if metric not in get_args(Metric):
        raise ConfigError(unknown_name("metric", str(metric), get_args(Metric)))


class Space:
    """The candidates' features with a distance.

    Cosine distance is 1 - cos, in [0, 2]; an all-zero feature is at distance 1 from everything but
    0 from itself. Euclidean distances are computed from inner products after moving the mean to the
    origin, because features far from the origin would cancel.

    Args:
        features: (P, D) finite float32; not changed.
        metric: ``cosine`` or ``euclidean``.
    """

    def __init__(self, features: Floats, *, metric: Metric) -> None:
        check_metric(metric)
        self._features = features
        self._metric = metric
        self._centre = (
            features.mean(axis=0, dtype=np.float64).astype(np.float32)
            if metric == "euclidean" and len(features)
            else np.zeros(features.shape[1], dtype=np.float32)
        )
        # (P,) 1 / norm for cosine, squared norm for euclidean.
        self._scale = np.empty(len(features), dtype=np.float32)
        for rows in self.blocks():
            self._scale[rows] = self._row_scale(features[rows] - self._centre)

    def distance_to(self, index: int) -> Floats:
        """(P,) distance of every candidate to candidate ``index``; one matrix-vector product."""
        point = self._features[index] - self._centre
        products = self._features @ point - self._centre @ point
        distance = self._combine(products, self._scale, self._scale[index])
        distance[index] = 0.0
        return distance

    def distance_to_nearest(self, others: Floats) -> Floats:
        """(P,) distance of every candidate to the nearest of ``others`` (L, D), L >= 1."""
        nearest = np.full(len(self._features), np.inf, dtype=np.float32)
        for start in range(0, len(others), _BLOCK):
            block = others[start : start + _BLOCK] - self._centre
            scale = self._row_scale(block)
            for rows in self.blocks():
                products = (self._features[rows] - self._centre) @ block.T
                distance = self._combine(products, self._scale[rows, None], scale[None])
                nearest[rows] = np.minimum(nearest[rows], distance.min(axis=1))
        return nearest

    def distance_to_mean(self) -> Floats:
        """(P,) distance of every candidate to the mean (cosine: to the mean direction), P >= 1."""
        mean = np.zeros(self._features.shape[1], dtype=np.float64)
        for rows in self.blocks():
            mean += self.points(rows).sum(axis=0, dtype=np.float64)
        return self.distance_to_nearest((mean / len(self))[None].astype(np.float32) + self._centre)

    def known(self, start: Floats) -> Known:
        """Distances to the nearest of what is known, now ``start`` (P,), as candidates join it."""
        points = CosinePoints if self._metric == "cosine" else EuclideanPoints
        return Known(start, points(self.points))

    def points(self, rows: slice | NDArray[np.int64]) -> Floats:
        """Coordinates of some candidates: unit vectors for cosine, else moved by the mean.

        Euclidean distance between them orders pairs as the metric does.
        """
        points = self._features[rows] - self._centre
        return points * self._scale[rows, None] if self._metric == "cosine" else points

    def blocks(self) -> list[slice]:
        """Slices that cover the candidates, each small enough to copy."""
        return [slice(start, start + _BLOCK) for start in range(0, len(self), _BLOCK)]

    def __len__(self) -> int:
        return len(self._features)

    def _row_scale(self, rows: Floats) -> Floats:
        squared: Floats = np.einsum("nd,nd->n", rows, rows)
        if self._metric == "euclidean":
            return squared
        return np.asarray(1 / np.sqrt(np.where(squared > 0, squared, np.inf)), dtype=np.float32)

    def _combine(self, products: Floats, a: Floats, b: Floats | np.float32) -> Floats:
        if self._metric == "cosine":
            return np.asarray(np.clip(1 - products * a * b, 0, 2))
        return np.asarray(np.sqrt(np.maximum(a + b - 2 * products, 0)))
