"""Strategies that give every image a number and take the highest: a measure and `highest_first`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import get_args

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
from detal.strategies.weighting import ClassWeights, check_class_weights, weights_by_label
from detal.structures import Budget, Detections

__all__ = [
    "Prepare",
    "ToImage",
    "box_count",
    "by_boxes",
    "check_choice",
    "check_count",
    "entropy",
    "highest_first",
    "least_confidence",
    "margin",
    "random",
]


Prepare = Callable[[Candidates, np.random.Generator], BoxMeasure]
"""Makes the measure of boxes for these candidates and what is labelled beside them."""


@dataclass(frozen=True)
class ToImage:
    """From one number per box to one per image, as the options of strategies have it.

    Attributes:
        aggregation: ``sum``, ``mean``, ``max`` or ``top_k_mean``.
        k: Boxes in ``top_k_mean``.
        empty: Images without detections come ``first``, ``last`` or get ``empty_score``.
        empty_score: See ``empty``.

    Raises:
        ConfigError: If an option is unknown or out of range.
    """

    aggregation: Aggregation
    k: int
    empty: EmptyPolicy
    empty_score: float

    def __post_init__(self) -> None:
        check_options(
            how=self.aggregation, k=self.k, empty=self.empty, empty_score=self.empty_score
        )

    def __call__(self, values: Tensor, detections: Detections) -> Tensor:
        """(B,) from ``values`` (N,), see `detal.features.aggregate`."""
        return aggregate(
            values,
            detections,
            how=self.aggregation,
            k=self.k,
            empty=self.empty,
            empty_score=self.empty_score,
        )

    @property
    def label(self) -> str:
        """The aggregation in words."""
        words = {"sum": "summed", "mean": "mean", "max": "largest"}
        return words.get(self.aggregation, f"top-{self.k} mean")


def by_boxes(
    prepare: Prepare, name: str, to_image: ToImage, *, box_measure: BoxMeasure | None = None
) -> MeasureSelector:
    """The strategy that measures boxes, adds them up per image and takes the highest.

    Args:
        prepare: Makes the measure; asked once per query, unless there are no candidates.
        name: What is measured, for the reasons.
        to_image: From boxes to the image.
        box_measure: See `MeasureSelector`.
    """

    def select(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
        if len(candidates):
            measure = prepare(candidates, rng)
            values = candidates.map(lambda seen: to_image(measure(seen), seen))
            yield from highest_first(values, rng, name=f"{to_image.label} {name}")

    return MeasureSelector(select=select, box_measure=box_measure)


def random() -> MeasureSelector:
    """Every image is as likely as any other.

    What every other strategy has to beat, at equal cost. Cost: none. Failure mode: on a long-tailed
    pool most of the batch shows what is labelled plenty already.
    """
    return MeasureSelector(select=_shuffled)


def entropy(
    *,
    over: EntropyOver = "auto",
    class_weights: ClassWeights = "none",
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
        class_weights: Multiplies each box's value by the weight of its class: ``none``;
            ``inverse_frequency`` of the labelled counts, smoothed; ``difficulty``, PPAL's weights
            in [1, 1.2] from how well each class is found in the labelled images (PPAL measures that
            during training, see `detal.features.class_quality`); or a weight per class name, 1 for
            those not named: ``{bicycle: 2}``.
        aggregation: From boxes to the image: ``sum``, ``mean``, ``max`` or ``top_k_mean``.
        k: Boxes in ``top_k_mean``.
        empty: Images without detections come ``first``, ``last`` or get ``empty_score``.
        empty_score: See ``empty``.
    """
    check_choice("entropy scope", over, get_args(EntropyOver))
    measure = partial(uncertainty.entropy, over=over)
    to_image = ToImage(aggregation, k, empty, empty_score)
    return _uncertainty(measure, "entropy", to_image, class_weights)


def margin(
    *,
    rivals: Rivals = "background",
    class_weights: ClassWeights = "none",
    aggregation: Aggregation = "sum",
    k: int = 5,
    empty: EmptyPolicy = "score",
    empty_score: float = 0.0,
) -> MeasureSelector:
    """Images with boxes whose two best hypotheses are close (`detal.features.margin`).

    Prefers boxes at the border between two classes, or between a class and nothing (Brust et al.,
    "Active learning for deep object detection", 2018). Blind to how much the other classes get,
    which makes it steadier than entropy with many classes. Cost and failure mode as for entropy.

    Of the options, ``rivals: background`` counts "nothing there" as a hypothesis, ``classes`` does
    not; the others are those of `entropy`.
    """
    check_choice("kind of rivals", rivals, get_args(Rivals))
    measure = partial(uncertainty.margin, rivals=rivals)
    to_image = ToImage(aggregation, k, empty, empty_score)
    return _uncertainty(measure, "margin", to_image, class_weights)


def least_confidence(
    *,
    rivals: Rivals = "background",
    class_weights: ClassWeights = "none",
    aggregation: Aggregation = "sum",
    k: int = 5,
    empty: EmptyPolicy = "score",
    empty_score: float = 0.0,
) -> MeasureSelector:
    """Images with boxes of which the detector is unsure what they are.

    One minus the probability of the best hypothesis (Lewis & Gale 1994; LightlyOne's scorers for
    detection; `detal.features.least_confidence`). With ``rivals: classes`` every weak box counts in
    full, so that the detector's score threshold decides the ranking. Cost and failure mode as for
    entropy; options as for `margin`.
    """
    check_choice("kind of rivals", rivals, get_args(Rivals))
    measure = partial(uncertainty.least_confidence, rivals=rivals)
    to_image = ToImage(aggregation, k, empty, empty_score)
    return _uncertainty(measure, "least confidence", to_image, class_weights)


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
    """Candidates by descending value; images of equal value (to six digits) in a random order.

    Ties are drawn, not taken by id, because ids run along videos and cameras, and a pool may hold
    thousands of images of equal value (those without detections).

    Args:
        values: (P,) numbers; +inf comes first, -inf last.
        rng: Breaks ties.
        name: What the value is, for the reason.
    """
    order = np.lexsort((rng.permutation(len(values)), -_coarse(values)))
    for rank, index in enumerate(order.tolist(), start=1):
        value = float(values[index])
        what = f"{name} {value:.3g}" if np.isfinite(value) else f"{name} undefined"
        yield Choice(index, value, f"{what}, rank {rank} of {len(values)}")


def _coarse(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values to about six digits: what differs beyond is rounding, and depends on chunks."""
    mantissa, exponent = np.frexp(values)
    return np.asarray(np.ldexp(np.round(mantissa * 2**20), exponent - 20))


def _shuffled(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
    for index in rng.permutation(len(candidates)).tolist():
        yield Choice(index, float("nan"), "drawn at random")


def _uncertainty(
    measure: BoxMeasure, name: str, to_image: ToImage, class_weights: ClassWeights
) -> MeasureSelector:
    check_class_weights(class_weights)

    def prepare(candidates: Candidates, rng: np.random.Generator) -> BoxMeasure:
        weights = weights_by_label(candidates, class_weights)
        if weights is None:
            return measure
        return lambda seen: measure(seen) * weights.to(seen.labels.device)[seen.labels]

    return by_boxes(prepare, name, to_image, box_measure=measure)


def check_choice(kind: str, value: str, valid: tuple[str, ...]) -> None:
    """Raise a ConfigError unless ``value`` is one of ``valid``."""
    if value not in valid:
        raise ConfigError(unknown_name(kind, str(value), valid))


def check_count(name: str, value: object) -> None:
    """Raise a ConfigError unless the option ``name`` is an integer >= 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name} must be an integer >= 1, got {value!r}")
