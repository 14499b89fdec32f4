"""ENMS and DivProto: doubtful, distinct objects, in images unlike each other, rare classes first.

Shapes: P candidates, N boxes, C classes, D features, S pairs of an image and a class in it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detal.features import aggregate, uncertainty
from detal.features.embeddings import require_object_features
from detal.features.nearest import GrowingRows
from detal.features.similarity import class_prototypes, distinct_boxes
from detal.strategies.candidates import Candidates
from detal.strategies.fill import Choice, Order
from detal.strategies.options import check_number
from detal.strategies.strategy import MeasureSelector
from detal.structures import Budget, Detections

__all__ = ["div_proto"]

Floats = NDArray[np.float32]
_FIRST_BLOCK = 256
_LAST_BLOCK = 16_384
_CLASSES_NAMED = 3


def div_proto(
    *,
    t_enms: float = 0.5,
    t_intra: float = 0.7,
    t_inter: float = 0.3,
    alpha: float = 0.5,
    beta: float = 0.75,
) -> MeasureSelector:
    """Images with many distinct doubtful objects, unlike the batch so far, rare classes first.

    ENMS and DivProto (Wu et al., "Entropy-based active learning for object detection with
    progressive diversity constraint", CVPR 2022). ENMS sums the binary entropies of the boxes left
    when each drops those of its class that look like it. DivProto walks images by that sum and
    takes those whose class prototypes (entropy-weighted mean features) differ from the batch's; the
    rarest ``alpha`` of the classes get ``beta`` of the budget. The paper's exact equations were not
    available to us: steps and settings follow its abstract and a third-party implementation, and
    the reduction of similarities over classes is a guess (the smallest, so that one class with
    something new is enough). First walk: images that show a rare class with a score over
    ``t_inter`` whose equal share of the budget is still open (an image uses up its whole cost of
    the share of each rare class it shows) and whose similarity is under ``t_intra``. Second walk,
    ours: all others under ``t_intra``. Then the rest by entropy. Cost: a pass over the store for
    the sums and one or a few more for prototypes, O(D) for each box and kept box of its class and
    image, and for each class of a visited image and picked image. Failure mode: crowded images
    first; similarity is only as good as the object features.

    Args:
        t_enms: Cosine similarity above which a box of one class and image is dropped.
        t_intra: Cosine similarity with the batch from which an image is put off.
        t_inter: Score above which a rare class counts as shown.
        alpha: Share of classes that are rare, by labelled objects, then by expected ones.
        beta: Share of the budget for rare classes.
    """
    check_number("t_enms of div_proto", t_enms, at_least=-1, at_most=1)
    check_number("t_intra of div_proto", t_intra, at_least=-1, at_most=1)
    for option, value in {"t_inter": t_inter, "alpha": alpha, "beta": beta}.items():
        check_number(f"{option} of div_proto", value, at_most=1)

    def select(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
        if len(candidates) == 0:
            return
        scores = candidates.map(partial(_enms, threshold=t_enms))
        order = np.lexsort((rng.permutation(len(scores)), -scores))
        walk = _Walk(candidates, scores, order=order, t_enms=t_enms, t_intra=t_intra)
        rare = _Rare.of(candidates, t_inter=t_inter, alpha=alpha, amount=beta * budget.amount)
        yield from walk.rare_first(rare, budget.costs(candidates.expected_boxes))
        yield from walk.unlike()
        yield from walk.rest()

    return MeasureSelector(select=select, box_measure=partial(uncertainty.entropy, over="top"))


def _kept(detections: Detections, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Entropies and features of all boxes, and which of them ENMS keeps."""
    features = require_object_features(detections, purpose="div_proto")
    entropy = uncertainty.entropy(detections, over="top")
    labels, image = detections.labels, detections.image_index
    return entropy, features, distinct_boxes(entropy, features, labels, image, threshold=threshold)


def _enms(detections: Detections, *, threshold: float) -> Tensor:
    """(B,) summed entropy of the kept boxes; NaN where a box has no finite feature."""
    entropy, features, kept = _kept(detections, threshold)
    values = (kept * entropy).masked_fill(~features.isfinite().all(dim=1), torch.nan)
    return aggregate(values, detections)


class _Prototypes(NamedTuple):
    labels: list[int]
    features: Floats


def _prototypes(detections: Detections, *, threshold: float) -> list[_Prototypes]:
    """Class prototypes of each of the B images, unit length."""
    entropy, features, kept = _kept(detections, threshold)
    image, labels, mean = class_prototypes(
        entropy[kept], features[kept], detections.labels[kept], detections.image_index[kept]
    )
    edges = torch.searchsorted(image, torch.arange(len(detections) + 1, device=image.device))
    names, vectors = labels.tolist(), mean.cpu().numpy()
    return [
        _Prototypes(names[start:stop], vectors[start:stop])
        for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    ]


class _Rare:
    """What is left of each rare class's share of the budget, and which images show one.

    Args:
        image: (S,) candidates, ascending.
        labels: (S,) a rare class that each shows.
        share: (C,) in the budget's unit, 0 for classes that are not rare.
    """

    def __init__(
        self, image: NDArray[np.int64], labels: NDArray[np.int64], share: NDArray[np.float64]
    ) -> None:
        self._image = image
        self._labels = labels
        self._open = share
        self._left = float(share.sum())

    @staticmethod
    def of(candidates: Candidates, *, t_inter: float, alpha: float, amount: float) -> _Rare:
        """The rarest classes share ``amount`` equally."""
        number = len(candidates.class_names)
        expected = np.zeros(number)
        images, labels = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for index, detections in candidates.chunks():
            label, score = detections.labels.cpu().numpy(), detections.scores.cpu().numpy()
            expected += np.bincount(label, score, minlength=number)
            shown = score > t_inter
            images.append(index[detections.image_index.cpu().numpy()[shown]])
            labels.append(label[shown])
        code = np.unique(np.concatenate(images) * number + np.concatenate(labels))
        by_frequency = np.lexsort((expected, candidates.labeled.class_counts))
        rarest = by_frequency[: int(np.ceil(alpha * number - 1e-9))]
        share = np.zeros(number)
        share[rarest] = amount / max(1, len(rarest))
        code = code[share[code % number] > 0]
        return _Rare(code // number, code % number, share)

    @property
    def images(self) -> NDArray[np.int64]:
        """Candidates that show a rare class."""
        return np.unique(self._image)

    @property
    def exhausted(self) -> bool:
        """Whether the rare classes' part of the budget is used up."""
        return self._left <= 0

    def wanted(self, index: int) -> list[int]:
        """Rare classes that candidate ``index`` shows and whose share is still open."""
        return [label for label in self._shown(index).tolist() if self._open[label] > 0]

    def spend(self, index: int, cost: float) -> None:
        """Count a picked image against the shares of the rare classes it shows."""
        self._open[self._shown(index)] -= cost
        self._left -= cost

    def _shown(self, index: int) -> NDArray[np.int64]:
        start, stop = np.searchsorted(self._image, [index, index + 1])
        return self._labels[start:stop]


class _Walk:
    """Goes through the candidates by entropy and remembers what the batch looks like."""

    def __init__(
        self,
        candidates: Candidates,
        scores: NDArray[np.float64],
        *,
        order: NDArray[np.int64],
        t_enms: float,
        t_intra: float,
    ) -> None:
        self._candidates = candidates
        self._scores = scores
        self._order = order
        self._t_enms = t_enms
        self._t_intra = t_intra
        self._offered = np.zeros(len(order), dtype=bool)
        self._batch: defaultdict[int, GrowingRows] = defaultdict(GrowingRows)
        self._put_off: dict[int, str] = {}

    def rare_first(self, rare: _Rare, costs: NDArray[np.float64]) -> Order:
        """Images unlike the batch that show a rare class which is still wanted."""
        names = self._candidates.class_names
        for index, prototypes in self._read(self._order[np.isin(self._order, rare.images)]):
            if rare.exhausted:
                break
            wanted = rare.wanted(index)
            if wanted and (alike := self._similarity(prototypes)) < self._t_intra:
                seen = ", ".join(names[label] for label in wanted[:_CLASSES_NAMED])
                taken = yield self._choice(index, f"shows rare {seen}, {_likeness(alike)}")
                if taken:
                    self._add(prototypes)
                    rare.spend(index, float(costs[index]))

    def unlike(self) -> Order:
        """Images with boxes that are unlike the batch."""
        left = self._order[~self._offered[self._order]]
        for index, prototypes in self._read(left):
            if not prototypes.labels:
                continue
            alike = self._similarity(prototypes)
            if alike >= self._t_intra:
                self._put_off[index] = _likeness(alike)
                continue
            taken = yield self._choice(index, _likeness(alike))
            if taken:
                self._add(prototypes)

    def rest(self) -> Order:
        """All others."""
        for index in self._order[~self._offered[self._order]].tolist():
            yield self._choice(index, self._put_off.get(index, "no box to compare by"))

    def _choice(self, index: int, why: str) -> Choice:
        self._offered[index] = True
        score = float(self._scores[index])
        return Choice(index, score, f"entropy {score:.3g} summed over distinct boxes; {why}")

    def _read(self, index: NDArray[np.int64]) -> Iterator[tuple[int, _Prototypes]]:
        """Prototypes of the images ``index``, in blocks that grow: few passes over the store."""
        start, size = 0, _FIRST_BLOCK
        while start < len(index):
            block = index[start : start + size]
            detections = self._candidates.take(block)
            yield from zip(
                block.tolist(), _prototypes(detections, threshold=self._t_enms), strict=True
            )
            start, size = start + size, min(2 * size, _LAST_BLOCK)

    def _similarity(self, prototypes: _Prototypes) -> float:
        """Of the largest similarities with the batch class by class, the smallest; -1 if new."""
        largest = [
            float((self._batch[label].since() @ feature).max()) if label in self._batch else -1.0
            for label, feature in zip(prototypes.labels, prototypes.features, strict=True)
        ]
        return min(largest)

    def _add(self, prototypes: _Prototypes) -> None:
        for label, feature in zip(prototypes.labels, prototypes.features, strict=True):
            self._batch[label].append(feature)


def _likeness(similarity: float) -> str:
    if similarity <= -1:
        return "with a class that the batch lacks"
    return f"similarity {round(similarity, 2) + 0.0:.2f} with the batch"  # no "-0.00"
