"""CDAL: images that show other mixtures of classes than what is labelled or picked.

Shapes: P candidates, L labelled images, C classes (or as many as are told apart), n centres.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detal.errors import DataError
from detal.features.embeddings import class_contexts
from detal.features.nearest import Known
from detal.strategies.candidates import Candidates
from detal.strategies.fill import Choice, Order
from detal.strategies.lazy import LazyQueue
from detal.strategies.strategy import MeasureSelector
from detal.structures import Budget, Detections

__all__ = ["cdal"]

Floats = NDArray[np.float32]
_FLOOR = 1e-6
_CLASSES = 256
_BLOCK = 4096
_ROUNDING = 1e-5


def cdal() -> MeasureSelector:
    """Images whose doubts are about other classes than those of the labelled and picked ones.

    CDAL-CS (Agarwal et al., "Contextual diversity for active learning", ECCV 2020): each image is
    described by the class probabilities of its boxes, averaged with their entropies as weights
    (`detal.features.embeddings.class_contexts`); distance is the symmetric Kullback-Leibler
    divergence, and each pick is the image farthest from its nearest labelled or picked one
    (k-centre greedy). Where we depart: the paper averages over all anchors, we over the boxes the
    detector kept; an image without boxes counts as equal shares of all classes; probabilities are
    floored at 1e-6; with nothing labelled the first image is drawn at random, else it is the
    farthest one (the released code draws it in any case). With more than 256 classes, those that
    the pool shows least count as one, which can only make a distance smaller. Cost: at most O(P C)
    per pick and per labelled image, of which most is never asked for (`detal.features.nearest`);
    4 bytes for each candidate and class. Failure mode: looks at classes
    only, so all images of one sure class are one image to it, and with a single class it is random.
    """
    return MeasureSelector(select=_select)


def _select(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
    if len(candidates) == 0:
        return
    contexts = _Contexts(candidates)
    # Equal distances are drawn by walking the pool in a random order.
    shuffled = rng.permutation(len(candidates))
    offered: list[int] = []
    if not contexts.covered:
        for index in shuffled.tolist():
            offered.append(index)
            if (yield Choice(index, float("inf"), contexts.why(index, len(offered)))):
                contexts.cover_first(index)
                break
    queue = LazyQueue(contexts.distance, costs=np.ones(len(candidates)), order=shuffled)
    for index in offered:
        queue.close(index, changed=False)
    while (index := queue.best()) >= 0:
        offered.append(index)
        taken = yield Choice(index, queue.gain(index), contexts.why(index, len(offered)))
        if taken:
            contexts.cover(index)
        queue.close(index, changed=taken)


class _Contexts:
    """The class mixtures of candidates and of the centres, and the distance to the nearest centre.

    Attributes:
        covered: Whether there is a centre.
    """

    def __init__(self, candidates: Candidates) -> None:
        kept, self._names = _told_apart(candidates)
        labeled = candidates.labeled.detections
        known = np.zeros((0, len(self._names)), np.float32)
        if labeled is not None:
            known = _mixtures(labeled(), kept)
        if np.isnan(known).any():
            raise DataError("class logits of the labelled images must be numbers; NaN was found")
        self._rows = np.zeros((len(candidates), len(self._names)), np.float32)
        for index, detections in candidates.chunks():
            self._rows[index] = _mixtures(detections, kept)
        bad = np.asarray(np.isnan(self._rows).any(axis=1))
        candidates.refuse(bad, "class logits must be numbers; NaN was found")
        self._labeled = known
        self._picked: list[int] = []
        self.covered = len(known) > 0
        self._known = self._start(known)

    def distance(self, index: NDArray[np.int64]) -> NDArray[np.float64]:
        """(n,) distance of the candidates ``index`` to the nearest centre."""
        return self._known.distance(index).astype(np.float64)

    def cover_first(self, index: int) -> None:
        """Make candidate ``index`` the first centre."""
        self._picked.append(index)
        self._known = self._start(self._rows[[index]])
        self.covered = True

    def cover(self, index: int) -> None:
        """Make candidate ``index`` a centre."""
        self._picked.append(index)
        self._known = self._known.add(index)

    def why(self, index: int, rank: int) -> str:
        """The distance, and the class that adds most to it."""
        if not self.covered:
            return "drawn at random, as nothing is labelled"
        mine = self._rows[index]
        centres = np.concatenate([self._labeled, self._rows[self._picked]])
        apart = (mine - centres) * (np.log(mine) - np.log(centres))
        nearest = int(apart.sum(axis=1).argmin())
        leading = int(apart[nearest].argmax())
        return (
            f"{self.distance(np.array([index]))[0]:.3g} away in class mixture from the nearest "
            f"labelled or picked image, mostly in {self._names[leading]} ({mine[leading]:.2f} "
            f"against {centres[nearest, leading]:.2f}), rank {rank}"
        )

    def _start(self, centres: Floats) -> Known:
        """Distances to these centres, of which there may be none."""
        start = np.full(len(self._rows), np.inf, dtype=np.float32)
        for first in range(0, len(self._rows), _BLOCK):
            block = slice(first, first + _BLOCK)
            for at in range(0, len(centres), _BLOCK):
                nearest = _nearest_mixture(self._rows[block], centres[at : at + _BLOCK])
                start[block] = np.minimum(start[block], nearest)
        return Known(start, _Mixtures(self._rows))


class _Mixtures:
    """Picked images as `detal.features.nearest.Points`."""

    def __init__(self, rows: Floats, picked: list[int] | None = None) -> None:
        self._rows = rows
        self._picked = [] if picked is None else picked

    def append(self, candidate: int) -> None:
        self._picked.append(candidate)

    def nearest(self, index: NDArray[np.int64], *, first: int) -> Floats:
        return _nearest_mixture(self._rows[index], self._rows[self._picked[first:]])

    def copy(self, count: int) -> _Mixtures:
        return _Mixtures(self._rows, self._picked[:count])


def _nearest_mixture(rows: Floats, centres: Floats) -> Floats:
    """(n,) symmetric divergence of mixtures (n, C) from the nearest of the centres (m, C)."""
    logs, centre_logs = np.log(rows), np.log(centres)
    own = np.einsum("nc,nc->n", rows, logs)
    centre_own = np.einsum("mc,mc->m", centres, centre_logs)
    cross = rows @ centre_logs.T
    cross += logs @ centres.T
    cross -= centre_own
    distance = (own - cross.max(axis=1)) / 2
    # What is left of a distance between equal mixtures is rounding.
    distance[distance < _ROUNDING] = 0.0
    return np.asarray(distance, dtype=np.float32)


def _told_apart(candidates: Candidates) -> tuple[NDArray[np.int64], list[str]]:
    """Classes with a column of their own, and the names of all columns."""
    number = len(candidates.class_names)
    if number <= _CLASSES:
        return np.arange(number), list(candidates.class_names)
    shown = np.zeros(number)
    for _, detections in candidates.chunks():
        labels, scores = detections.labels.cpu().numpy(), detections.scores.cpu().numpy()
        shown += np.bincount(labels, scores, minlength=number)
    kept = np.sort(np.argsort(-shown, kind="stable")[: _CLASSES - 1])
    return kept, [*(candidates.class_names[c] for c in kept), "the rarer classes together"]


def _mixtures(detections: Detections, kept: NDArray[np.int64]) -> Floats:
    """(B, n) floored class mixtures; a last column holds all classes that are not ``kept``."""
    contexts = class_contexts(detections).cpu().numpy()
    shares = contexts[:, kept]
    if len(kept) < contexts.shape[1]:
        rest = np.maximum(contexts.sum(axis=1) - shares.sum(axis=1), 0)
        shares = np.concatenate([shares, rest[:, None]], axis=1)
    floored = np.maximum(shares, _FLOOR)
    return np.asarray(floored / floored.sum(axis=1, keepdims=True), dtype=np.float32)
