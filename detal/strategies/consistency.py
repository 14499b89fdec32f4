"""Strategies that look at each image more than once and compare what the detector says."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import partial
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detal.errors import ConfigError
from detal.features import Aggregation, EmptyPolicy
from detal.features.pairing import (
    absent_logits,
    box_change,
    evenly_spaced,
    jensen_shannon,
    matched_consistency,
    partners,
    symmetric_kl,
)
from detal.strategies.candidates import Candidates, Labeled
from detal.strategies.coverage import affordable
from detal.strategies.fill import Choice, Order
from detal.strategies.passes import map_passes
from detal.strategies.scored import ToImage, check_choice, check_count, highest_first
from detal.strategies.strategy import MeasureSelector, Needs
from detal.structures import Budget, Detections

__all__ = ["cald", "flip_inconsistency"]

Classes = Literal["labelled", "uniform", "ignored"]
Empty = Literal["first", "last"]

_NO_CLASS = math.inf


def cald(
    *,
    views: Sequence[str] = ("flip", "cutout", "downscale", "rotate"),
    base_point: float = 1.3,
    max_boxes: int = 50,
    shortlist: float = 1.2,
    classes: Classes = "labelled",
    empty: Empty = "first",
) -> MeasureSelector:
    """Images on which the detector says something else once they are flipped, cut, shrunk, turned.

    CALD (Yu et al., "Consistency-based active learning for object detection", CVPR-W 2022), with
    the numbers of its released code. Each box is compared with the one that overlaps it most in the
    view: m = IoU + (1 - JS) (max p + max q) / 2; a view's consistency is the least distance of any
    box's m from ``base_point``, 0 if nothing is found in it; the image's is the mean over views.
    The score is the greatest possible mean less that, so that higher is more informative. Of
    ``shortlist`` times what the budget buys, those come first whose classes differ most from the
    labelled ones: Jensen-Shannon divergence between the softmax of each class's best score (mean
    over all passes) and the softmax of the labelled objects per image; as in the released code it
    is not updated within the batch. Departures: boxes are compared in the original image; patches
    are cut without regard for boxes, and the shrunk image is not scaled up again
    (`detal.detectors.VIEWS`); sigmoid scores are divided by their sum for JS; equal images come in
    random order.

    Cost: one more forward pass over the whole pool per view, four by default, of images decoded
    once; then O(P) with the IoU of all pairs of boxes in an image. Failure mode: rewards what the
    views themselves make hard (small objects when shrunk, slender ones when turned) and, with
    ``empty: first``, images in which there is nothing.

    Args:
        views: Names of views, at least one.
        base_point: What m is compared with, in [0, 2].
        max_boxes: Boxes of an image that take part, evenly spaced in the order of scores, >= 2.
        shortlist: Images that go into the class stage, as a multiple of what the budget buys, >= 1.
        classes: The class stage: images unlike what is ``labelled``; those that together with it
            come nearest to ``uniform`` classes; or ``ignored``: by consistency alone.
        empty: Images without detections come ``first`` (as published) or ``last``.
    """
    names = tuple([views] if isinstance(views, str) else views)
    _check_cald(names, base_point, max_boxes, shortlist)
    check_choice("class stage", classes, get_args(Classes))
    check_choice("policy for images without detections", empty, get_args(Empty))
    consistency = partial(_consistency, base_point=base_point, max_boxes=max_boxes)
    greatest = max(base_point, 2 - base_point)
    of_empty = greatest if empty == "first" else -math.inf

    def measure(detections: Detections, others: Sequence[Detections]) -> Tensor:
        each = [consistency(detections, other) for other in others]
        score = greatest - torch.stack(each).mean(dim=0)
        return score.masked_fill(detections.counts == 0, of_empty)

    def select(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
        if not len(candidates):
            return
        scores = map_passes(candidates, names, measure)
        order = highest_first(scores, rng, name="inconsistency")
        if classes != "ignored":
            some = int(shortlist * affordable(candidates, budget))
            best = list(itertools.islice(order, min(some, int(np.isfinite(scores).sum()))))
            stage = _ClassStage(names, max_boxes, classes)
            for choice in stage.reorder(candidates, best):  # noqa: UP028 - a list takes no answer
                yield choice
        yield from order

    return MeasureSelector(select=select, needs=Needs(views=names))


def _check_cald(
    views: tuple[str, ...], base_point: float, max_boxes: int, shortlist: float
) -> None:
    if not views or len(set(views)) != len(views):
        raise ConfigError(f"views must be different names, at least one, got {list(views)}")
    if not 0 <= base_point <= 2:
        raise ConfigError(f"base_point must be in [0, 2], got {base_point}")
    check_count("max_boxes", max_boxes)
    if max_boxes < 2:
        raise ConfigError(f"max_boxes must be at least 2, the first and the last, got {max_boxes}")
    if not 1 <= shortlist < math.inf:
        raise ConfigError(f"shortlist must be a number >= 1, got {shortlist}")


def _consistency(
    detections: Detections, other: Detections, *, base_point: float, max_boxes: int
) -> Tensor:
    """(B,) float64, 0 where either pass found nothing."""
    some = evenly_spaced(detections, most=max_boxes)
    distance = (matched_consistency(some, other) - base_point).abs().double()
    least = torch.full((len(some),), math.inf, dtype=torch.float64, device=distance.device)
    least = least.scatter_reduce(0, some.image_index, distance, "amin")
    return least.masked_fill((detections.counts == 0) | (other.counts == 0), 0.0)


class _ClassStage:
    """CALD's second stage: by how an image's classes relate to what is labelled."""

    def __init__(self, views: tuple[str, ...], max_boxes: int, classes: Classes) -> None:
        self._views = views
        self._max_boxes = max_boxes
        self._classes = classes

    def reorder(self, candidates: Candidates, shortlist: list[Choice]) -> list[Choice]:
        """The choices in the order of the class stage; those without any class come first."""
        if not shortlist:
            return []
        index = np.array([choice.candidate for choice in shortlist], dtype=np.int64)
        rows = np.argsort(index)
        gain = np.empty(len(index))
        gain[rows] = map_passes(
            candidates.subset(index[rows]),
            self._views,
            partial(self._gain, labeled=_objects_per_image(candidates.labeled)),
        )
        what = "classes unlike the labelled" if self._classes == "labelled" else "missing classes"
        return [
            shortlist[place]._replace(why=f"{shortlist[place].why}; {_about(what, gain[place])}")
            for place in np.argsort(-gain, kind="stable").tolist()
        ]

    def _gain(
        self, detections: Detections, others: Sequence[Detections], *, labeled: NDArray[np.float64]
    ) -> Tensor:
        """(B,) what to maximise; infinite for images without detections."""
        first = evenly_spaced(detections, most=self._max_boxes)
        best = torch.stack([_best_scores(seen) for seen in (first, *others)]).mean(dim=0)
        known = torch.from_numpy(labeled).to(best.device)
        if self._classes == "uniform":
            even = torch.full_like(known, 1 / len(known))
            # The divergence is ln 2 at most.
            gain = math.log(2) - jensen_shannon((best + known).softmax(dim=1), even)
        else:
            gain = jensen_shannon(best.softmax(dim=1), known.softmax(dim=0))
        return gain.masked_fill(detections.counts == 0, _NO_CLASS)


def _about(what: str, gain: float) -> str:
    return f"{what} {gain:.3g}" if np.isfinite(gain) else "no class at all"


def _objects_per_image(labeled: Labeled) -> NDArray[np.float64]:
    """(C,) mean labelled objects of each class per image."""
    return labeled.class_counts / max(labeled.num_images, 1)


def _best_scores(detections: Detections) -> Tensor:
    """(B, C) float64 best score of each class in each image, 0 without any."""
    shape = (detections.num_images, detections.num_classes)
    cell = detections.image_index * shape[1] + detections.labels
    best = torch.zeros(shape[0] * shape[1], dtype=torch.float64, device=cell.device)
    return best.scatter_reduce(0, cell, detections.scores.double(), "amax").view(shape)


def flip_inconsistency(
    *,
    box_weight: float = 1.0,
    min_iou: float = 0.5,
    aggregation: Aggregation = "max",
    k: int = 5,
    empty: EmptyPolicy = "score",
    empty_score: float = 0.0,
) -> MeasureSelector:
    """Images on whose mirror image the detector sees other classes or other boxes.

    The consistency loss of CSD (Jeong et al., NeurIPS 2019) as a score, as AL-SSL uses its class
    part (Elezi et al., "Not all labels are equal", CVPR 2022): half the sum of the two
    Kullback-Leibler divergences between matched class distributions, the largest of the image, here
    plus CSD's mean squared change of the box, times the box's score in the place of CSD's mask of
    background. Departures: boxes are matched by IoU after suppression, not by anchor; for sigmoid
    scores the divergence is summed over the classes' two outcomes; a box that nothing overlaps in
    the mirror image is compared with a detection of 1 % in every class. Boxes seen in the mirror
    image alone do not count.

    Cost: one more forward pass over the whole pool, of images decoded once. Failure mode: things
    that are not symmetric (text, digits, traffic signs) differ by their nature when flipped; a sure
    box that is lost when flipped outweighs many doubtful ones.

    Args:
        box_weight: Weight of the change of the box, >= 0; 0 is AL-SSL's score.
        min_iou: Overlap that makes two boxes a match, in (0, 1].
        aggregation: From boxes to the image: ``sum``, ``mean``, ``max`` or ``top_k_mean``.
        k: Boxes in ``top_k_mean``.
        empty: Images without detections come ``first``, ``last`` or get ``empty_score``.
        empty_score: See ``empty``.
    """
    if not 0 <= box_weight < math.inf:
        raise ConfigError(f"box_weight must be a number >= 0, got {box_weight}")
    if not 0 < min_iou <= 1:
        raise ConfigError(f"min_iou must be in (0, 1], got {min_iou}")
    to_image = ToImage(aggregation, k, empty, empty_score)

    def measure(detections: Detections, others: Sequence[Detections]) -> Tensor:
        values = _inconsistency(detections, others[0], box_weight=box_weight, min_iou=min_iou)
        return to_image(values, detections)

    def select(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
        if len(candidates):
            values = map_passes(candidates, ("flip",), measure)
            yield from highest_first(values, rng, name=f"{to_image.label} flip inconsistency")

    return MeasureSelector(select=select, needs=Needs(views=("flip",)))


def _inconsistency(
    detections: Detections, other: Detections, *, box_weight: float, min_iou: float
) -> Tensor:
    """(N,) float32, >= 0."""
    softmax = detections.score_kind == "softmax"
    row, iou = partners(detections, other)
    matched = (row >= 0) & ~(iou < min_iou)
    theirs = absent_logits(detections.logits, softmax=softmax)
    theirs[matched] = other.logits[row[matched]].float()
    change = torch.zeros_like(iou)
    change[matched] = box_change(detections.boxes[matched], other.boxes[row[matched]])
    classes = symmetric_kl(detections.logits, theirs, softmax=softmax)
    return classes + box_weight * detections.scores * change
