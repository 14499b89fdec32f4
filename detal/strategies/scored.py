"""Strategies that give every image a number and take the highest: a measure and `highest_first`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from detal.errors import ConfigError, unknown_name
from detal.features import (
    Aggregation,
    EmptyPolicy,
    EntropyOver,
    Rivals,
    aggregate,
    uncertainty,
)
from detal.features.aggregate import check_options
from detal.strategies.candidates import Candidates
from detal.strategies.fill import Choice, Order
from detal.strategies.strategy import BoxMeasure, MeasureSelector
from detal.structures import Budget, Detections

__all__ = ["box_count", "entropy", "highest_first", "least_confidence", "margin", "random"]


def random() -> MeasureSelector:
    """Every image is as likely as any other.

    What every other strategy has to beat, at equal cost. Cost: none. Failure mode: on a long-tailed
    pool most of the batch shows what is labelled plenty already.
    """
    return MeasureSelector(select=_shuffled)


def entropy(
    *,
    over: EntropyOver = "auto",
    aggregation: Aggregation = "sum",
    k: int = 5,
    empty: EmptyPolicy = "score",
    empty_score: float = 0.0,
) -> MeasureSelector:
    """Images whose boxes have class scores of high entropy (`detal.features.entropy`).

    Prefers boxes with scores around one half or spread over classes. Summed over boxes, as PPAL
    (Yang et al., CVPR 2024) and YMIR do, it prefers crowded images and is about as good as random
    at equal boxes; averaged (blad) it prefers images with few, doubtful boxes. Cost: one pass over
    the store. Failure mode: takes near-identical hard images, and images that are hard because they
    are bad.

    Args:
        over: ``top`` (binary entropy of the box's score), ``classes`` or ``auto``.
        aggregation: From boxes to the image: ``sum``, ``mean``, ``max`` or ``top_k_mean``.
        k: Boxes in ``top_k_mean``.
        empty: Images without detections come ``first``, ``last`` or get ``empty_score``.
        empty_score: See ``empty``.
    """
    _check_choice("entropy scope", over, get_args(EntropyOver))
    measure = partial(uncertainty.entropy, over=over)
    return _uncertainty(
        measure, "entropy", aggregation=aggregation, k=k, empty=empty, empty_score=empty_score
    )


def margin(
    *,
    rivals: Rivals = "background",
    aggregation: Aggregation = "sum",
    k: int = 5,
    empty: EmptyPolicy = "score",
    empty_score: float = 0.0,
) -> MeasureSelector:
    """Images with boxes whose two best hypotheses are close (`detal.features.margin`).

    Prefers boxes at the border between two classes, or between a class and nothing (Brust et al.,
    "Active learning for deep object detection", 2018). Blind to how much the other classes get,
    which makes it steadier than entropy with many classes. Cost and failure mode as for entropy.

    Args:
        rivals: ``background`` counts "nothing there" as a hypothesis, ``classes`` does not.
        aggregation: From boxes to the image: ``sum``, ``mean``, ``max`` or ``top_k_mean``.
        k: Boxes in ``top_k_mean``.
        empty: Images without detections come ``first``, ``last`` or get ``empty_score``.
        empty_score: See ``empty``.
    """
    _check_choice("kind of rivals", rivals, get_args(Rivals))
    measure = partial(uncertainty.margin, rivals=rivals)
    return _uncertainty(
        measure, "margin", aggregation=aggregation, k=k, empty=empty, empty_score=empty_score
    )


def least_confidence(
    *,
    rivals: Rivals = "background",
    aggregation: Aggregation = "sum",
    k: int = 5,
    empty: EmptyPolicy = "score",
    empty_score: float = 0.0,
) -> MeasureSelector:
    """Images with boxes of which the detector is unsure what they are.

    One minus the probability of the best hypothesis (Lewis & Gale 1994; LightlyOne's scorers for
    detection; `detal.features.least_confidence`). With ``rivals: classes`` every weak box counts in
    full, so that the detector's score threshold decides the ranking. Cost and failure mode as for
    entropy.

    Args:
        rivals: ``background`` counts "nothing there" as a hypothesis, ``classes`` does not.
        aggregation: From boxes to the image: ``sum``, ``mean``, ``max`` or ``top_k_mean``.
        k: Boxes in ``top_k_mean``.
        empty: Images without detections come ``first``, ``last`` or get ``empty_score``.
        empty_score: See ``empty``.
    """
    _check_choice("kind of rivals", rivals, get_args(Rivals))
    measure = partial(uncertainty.least_confidence, rivals=rivals)
    return _uncertainty(
        measure,
        "least confidence",
        aggregation=aggregation,
        k=k,
        empty=empty,
        empty_score=empty_score,
    )


def box_count() -> MeasureSelector:
    """Images with the most expected objects (the sum of scores).

    The control that shows what a budget in images rewards: blad (Lyu et al., CVPR 2023) found that
    it beats published methods at equal images and loses to random at equal boxes. Cost: none beyond
    the expected boxes that are there anyway. Failure mode: crowds of the commonest class.
    """

    def select(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
        return highest_first(candidates.expected_boxes, rng, name="expected boxes")

    return MeasureSelector(select=select)


def highest_first(values: NDArray[np.float64], rng: np.random.Generator, *, name: str) -> Order:
    """Candidates by descending value; images of equal value in a random order.

    Ties are drawn, not taken by id, because ids run along videos and cameras, and a pool may hold
    thousands of images of equal value (those without detections).

    Args:
        values: (P,) numbers; +inf comes first, -inf last.
        rng: Breaks ties.
        name: What the value is, for the reason.
    """
    order = np.lexsort((rng.permutation(len(values)), -values))
    for rank, index in enumerate(order.tolist(), start=1):
        value = float(values[index])
        what = f"{name} {value:.3g}" if np.isfinite(value) else f"{name} undefined"
        yield Choice(index, value, f"{what}, rank {rank} of {len(values)}")


def _shuffled(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
    for index in rng.permutation(len(candidates)).tolist():
        yield Choice(index, float("nan"), "drawn at random")


def _uncertainty(box_measure: BoxMeasure, name: str, **options: Any) -> MeasureSelector:
    how = options.pop("aggregation")
    check_options(how=how, **options)
    to_image: Callable[[Tensor, Detections], Tensor] = partial(aggregate, how=how, **options)
    label = {"sum": "summed", "mean": "mean", "max": "largest"}.get(how, f"top-{options['k']} mean")

    def select(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
        values = candidates.map(lambda detections: to_image(box_measure(detections), detections))
        return highest_first(values, rng, name=f"{label} {name}")

    return MeasureSelector(select=select, box_measure=box_measure)


def _check_choice(kind: str, value: str, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise ConfigError(unknown_name(kind, str(value), valid))
