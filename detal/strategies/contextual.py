"""CDAL: images that show other mixtures of classes than what is labelled or picked.

Shapes: P candidates, L labelled images, C classes (or as many as are told apart), n centres.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detal.errors import DataError
from detal.features.embeddings import class_contexts
from detal.strategies.candidates import Candidates
from detal.strategies.fill import Choice, Order
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
    the pool shows least count as one, which can only make a distance smaller. Cost: O(P C) per pick
    and per labelled image, 8 bytes for each candidate and class. Failure mode: looks at classes
    only, so all images of one sure class are one image to it, and with a single class it is random.
    """
    return MeasureSelector(select=_select)


def _select(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
    if len(candidates) == 0:
        return
    contexts = _Contexts(candidates)
    # Equal distances are drawn by walking the pool in a random order.
    shuffled = rng.permutation(len(candidates))
    open_to = np.ones(len(candidates), dtype=bool)
    for rank in range(1, len(candidates) + 1):
        key = np.where(open_to, contexts.nearest, -np.inf)[shuffled]
        index = int(shuffled[key.argmax()])
        open_to[index] = False
        taken = yield Choice(index, float(contexts.nearest[index]), contexts.why(index, rank))
        if taken:
            contexts.cover(index)


class _Contexts:
    """The class mixtures of candidates and labelled images, and the nearest centre of each.

    Attributes:
        nearest: (P,) distance of each candidate to its nearest centre; infinite without centres.
    """

    def __init__(self, candidates: Candidates) -> None:
        self._count = len(candidates)
        kept, names = _told_apart(candidates)
        self._names = names
        labeled = candidates.labeled.detections
        known = np.zeros((0, len(names)), np.float32)
        if labeled is not None:
            known = _mixtures(labeled(), kept)
        # (P + L, n) mixtures, candidates first.
        self._rows = np.concatenate([np.zeros((self._count, len(names)), np.float32), known])
        for index, detections in candidates.chunks():
            self._rows[index] = _mixtures(detections, kept)
        _refuse_nan(self._rows, candidates)
        self._logs = np.log(self._rows)
        self._own = np.einsum("pc,pc->p", self._rows, self._logs)
        self.nearest = np.full(self._count, np.inf, dtype=np.float32)
        self._centre = np.zeros(self._count, dtype=np.int64)  # (P,) row of the nearest centre
        for start in range(self._count, len(self._rows), _BLOCK):
            self._add_centres(np.arange(start, min(start + _BLOCK, len(self._rows))))

    def cover(self, index: int) -> None:
        """Make candidate ``index`` a centre."""
        self._add_centres(np.array([index]))

    def why(self, index: int, rank: int) -> str:
        """The distance, and the class that adds most to it."""
        distance = float(self.nearest[index])
        if not np.isfinite(distance):
            return "drawn at random, as nothing is labelled"
        mine, other = self._rows[index], self._rows[self._centre[index]]
        leading = int(((mine - other) * (np.log(mine) - np.log(other))).argmax())
        return (
            f"{distance:.3g} away in class mixture from the nearest labelled or picked image, "
            f"mostly in {self._names[leading]} ({mine[leading]:.2f} against {other[leading]:.2f}), "
            f"rank {rank}"
        )

    def _add_centres(self, rows: NDArray[np.int64]) -> None:
        centres, logs, own = self._rows[rows], self._logs[rows], self._own[rows]
        for start in range(0, self._count, _BLOCK):
            block = slice(start, min(start + _BLOCK, self._count))
            cross = self._rows[block] @ logs.T + self._logs[block] @ centres.T
            distance = (self._own[block, None] + own - cross) / 2
            # What is left of a distance between equal mixtures is rounding.
            distance[distance < _ROUNDING] = 0.0
            best = distance.argmin(axis=1)
            lowest = np.take_along_axis(distance, best[:, None], axis=1)[:, 0]
            closer = lowest < self.nearest[block]
            self.nearest[block][closer] = lowest[closer]
            self._centre[block][closer] = rows[best[closer]]


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


def _refuse_nan(rows: Floats, candidates: Candidates) -> None:
    bad = np.asarray(np.isnan(rows).any(axis=1))
    if bad[: len(candidates)].any():
        image = candidates.image_ids[int(bad.argmax())]
        raise DataError(f"class logits must be numbers; NaN was found (image {image!r})")
    if bad.any():
        raise DataError("class logits of the labelled images must be numbers; NaN was found")
