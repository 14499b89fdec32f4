"""Strategies that look at how unsure the detector is about where boxes end."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from detal.features import Aggregation, EmptyPolicy, entropy, localisation
from detal.strategies.scored import ToImage, by_boxes, check_choice
from detal.strategies.strategy import BoxMeasure, MeasureSelector
from detal.structures import Detections

__all__ = ["box_spread", "cluster_spread", "localisation_tightness"]

Times = Literal["score", "entropy", "nothing"]


def box_spread(
    *,
    times: Times = "score",
    aggregation: Aggregation = "sum",
    k: int = 5,
    empty: EmptyPolicy = "score",
    empty_score: float = 0.0,
) -> MeasureSelector:
    """Images with boxes whose sides the detector itself is unsure of.

    The standard deviation of each side over the distribution-focal bins (Li et al., "Generalized
    focal loss", NeurIPS 2020), as a share of the box (`detal.features.localisation.box_spread`);
    the use in selection is ours. YOLOv8, 9, 11 and 12 have the bins; others get a ConfigError that
    names an alternative. Cost: one pass over the store. Failure mode: small, blurred and truncated
    objects are always uncertain, whatever is labelled; alone it cannot tell a dog from a cat.

    Args:
        times: What each box's spread is multiplied with: its ``score``, so that boxes that are
            probably nothing count little; the ``entropy`` of its class scores; or ``nothing``.
        aggregation: From boxes to the image: ``sum``, ``mean``, ``max`` or ``top_k_mean``.
        k: Boxes in ``top_k_mean``.
        empty: Images without detections come ``first``, ``last`` or get ``empty_score``.
        empty_score: See ``empty``.
    """
    to_image = ToImage(aggregation, k, empty, empty_score)
    return _spread(localisation.box_spread, "box spread", times, to_image)


def cluster_spread(
    *,
    times: Times = "score",
    aggregation: Aggregation = "sum",
    k: int = 5,
    empty: EmptyPolicy = "score",
    empty_score: float = 0.0,
) -> MeasureSelector:
    """Images with boxes about whose sides the suppressed boxes disagree.

    The score-weighted standard deviation of each side among a kept box and those that suppression
    merged into it, as a share of the box (`detal.features.localisation.cluster_spread`); it needs
    nothing from the detector but more than one box per object, and so works with all that are
    suppressed. Cost: one pass over the store. Failure mode: neighbouring objects of a class that
    suppression merges look like one unsure box; a lone box looks sure; a high score threshold
    leaves few boxes to disagree. The options are those of `box_spread`.
    """
    to_image = ToImage(aggregation, k, empty, empty_score)
    return _spread(localisation.cluster_spread, "cluster spread", times, to_image)


def localisation_tightness(
    *,
    aggregation: Aggregation = "max",
    k: int = 5,
    empty: EmptyPolicy = "score",
    empty_score: float = 0.0,
) -> MeasureSelector:
    """Images with boxes whose class and place do not go together.

    Kao et al., "Localization-aware active learning for object detection" (ACCV 2018): tightness is
    the IoU of a two-stage detector's box with the proposal it was refined from, and a box is the
    more informative the larger ``1 - |tightness + score - 1|`` is: sure of the class but loose, or
    tight but unsure what it is (`detal.features.localisation.tightness_conflict`). An image counts
    as its most informative box. Faster R-CNN only; other detectors get a ConfigError that names an
    alternative. Cost: one pass over the store. Failure mode: a detector in its first rounds moves
    all its proposals, so that every sure box looks loose. The options are those of `box_spread`.
    """
    to_image = ToImage(aggregation, k, empty, empty_score)
    measure = localisation.tightness_conflict
    name = "conflict of class and tightness"
    return by_boxes(lambda candidates, rng: measure, name, to_image, box_measure=measure)


def _spread(spread: BoxMeasure, name: str, times: Times, to_image: ToImage) -> MeasureSelector:
    check_choice("factor of the spread", times, get_args(Times))

    def measure(detections: Detections) -> Tensor:
        values = spread(detections)
        if times == "score":
            return values * detections.scores
        return values * entropy(detections) if times == "entropy" else values

    what = name if times == "nothing" else f"{name} times {times}"
    return by_boxes(lambda candidates, rng: measure, what, to_image, box_measure=measure)
