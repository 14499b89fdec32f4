"""How much of an image is new beside what is labelled or picked.

Shapes: P candidates, L labelled images, D features.
"""

from __future__ import annotations

from copy import copy
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from detal.features.nearest import CosinePoints, Known

__all__ = ["Novelty"]

Floats = NDArray[np.float32]

_SAMPLE = 2048
_BLOCK = 4096
_DISTANCES_AT_ONCE = 16_000_000


class Novelty:
    """Novelty in [0, 1]: 0 for a copy of a known image, 1 from the usual distance on.

    The distance is cosine; the usual one is the median distance of an image to its nearest
    neighbour in the pool, so that ordinary images are new and only near-duplicates are not. It is
    never greater after more images became known.

    Args:
        features: (P, D) finite.
        labeled: (L, D) features of the labelled images, or None.
        rng: Draws the sample on which the usual distance is measured, 2,048 images at most.
    """

    def __init__(self, features: Floats, labeled: Floats | None, rng: np.random.Generator) -> None:
        self._features = features
        self._usual = self._usual_distance(rng)
        self.start = np.full(len(features), 2.0, dtype=np.float32)
        if labeled is not None:
            self.start = np.minimum(self.start, _nearest(features, _unit(labeled)))

    @cached_property
    def _unit(self) -> Floats:
        """All candidates at length one: for the few of a shortlist, not for a pool."""
        return _unit(self._features)

    def _usual_distance(self, rng: np.random.Generator) -> float:
        rows = np.sort(rng.permutation(len(self._features))[:_SAMPLE])
        if len(rows) < 2:
            return 1.0
        sample = _unit(self._features[rows])
        similarity = sample @ sample.T
        np.fill_diagonal(similarity, -1.0)
        return max(float(np.median(1 - similarity.max(axis=1))), 1e-6)

    def take(self, index: NDArray[np.int64]) -> Novelty:
        """The novelty of the candidates ``index`` (n,) only, with the usual distance of all."""
        part = copy(self)
        part.__dict__.pop("_unit", None)
        part._features, part.start = self._features[index], self.start[index]
        return part

    def known(self) -> Known:
        """The distance of each candidate to the nearest known image, before any is picked."""
        return Known(self.start, CosinePoints(lambda index: _unit(self._features[index])))

    def of(self, distance: Floats) -> NDArray[np.float64]:
        """Novelty at a distance to the nearest known image."""
        return np.asarray(np.clip(distance.astype(np.float64) / self._usual, 0.0, 1.0))

    def join(self, distance: Floats, picks: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Let ``picks`` (K, M), padded with -1, become known, one after the other, in K batches.

        Memory for sixteen million distances at a time.

        Args:
            distance: (K, P) to the nearest known image.
            picks: Of each batch.

        Returns:
            (K, P) distances after that, and (K, M) the distance of each pick to the nearest image
            known before it, infinite where nothing was picked.
        """
        own = np.full(picks.shape, np.inf, dtype=np.float32)
        if len(self._features) == 0:
            return distance, own
        step = max(_DISTANCES_AT_ONCE // max(distance.size, 1), 1)
        for start in range(0, picks.shape[1], step):
            block = picks[:, start : start + step]
            nothing = block < 0
            to_them = np.maximum(1 - self._unit[block] @ self._unit.T, 0)  # (K, m, P)
            to_them[nothing] = np.inf
            among = np.take_along_axis(to_them, np.where(nothing, 0, block)[:, None], axis=2)
            among[:, ~np.triu(np.ones(among.shape[1:], bool), 1)] = np.inf  # what came before
            known = np.take_along_axis(distance, np.where(nothing, 0, block), axis=1)
            nearest = np.minimum(known, among.min(axis=1, initial=np.inf))
            own[:, start : start + step] = np.where(nothing, np.inf, nearest)
            distance = np.minimum(distance, to_them.min(axis=1, initial=np.inf))
        return distance, own


def _unit(features: Floats) -> Floats:
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.where(norms > 0, norms, 1), dtype=np.float32)


def _nearest(features: Floats, others: Floats) -> Floats:
    """(P,) distance of each image to the nearest of ``others`` (L, D) of length one."""
    nearest = np.full(len(features), 2.0, dtype=np.float32)
    for first in range(0, len(features), _BLOCK):
        rows = slice(first, first + _BLOCK)
        unit = _unit(features[rows])
        for start in range(0, len(others), _BLOCK):
            distance = 1 - (unit @ others[start : start + _BLOCK].T).max(axis=1)
            nearest[rows] = np.minimum(nearest[rows], np.maximum(distance, 0))
    return nearest
