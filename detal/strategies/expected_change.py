"""Strategies that ask how much the detector would change if an image's boxes were learned.

All look at the last classification layer only (`detal.features.change`), and expect the answers
that the scores promise, calibrated on the labelled images.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from detal.features import (
    Aggregation,
    Calibration,
    EmptyPolicy,
    References,
    change,
    fit_calibration,
    match_detections,
)
from detal.features.change import Kernel, Output, Risk
from detal.strategies.candidates import Candidates
from detal.strategies.scored import ToImage, by_boxes, check_choice, check_count
from detal.strategies.strategy import BoxMeasure, MeasureSelector
from detal.structures import Detections

__all__ = ["emoc", "expected_error_reduction", "expected_gradient_length"]


def expected_gradient_length(
    *,
    aggregation: Aggregation = "sum",
    k: int = 5,
    empty: EmptyPolicy = "score",
    empty_score: float = 0.0,
) -> MeasureSelector:
    """Images with boxes that are expected to pull hard at the last layer.

    Settles, Craven & Ray, "Multiple-instance active learning", NeurIPS 2007, at the last
    classification layer: the norm of each box's gradient, ||p - y|| ||h||, expected over the answer
    (`detal.features.change.gradient_length`). Summed over an image's boxes it bounds the norm of
    the image's gradient. Box regression and deeper layers are left out. Cost: one pass over the
    store and the labelled images, O(N (C + D)) for N boxes. Failure mode: boxes of large features
    and outliers have long gradients that change nothing for other images; otherwise close to
    entropy, crowds included.

    Args:
        aggregation: From boxes to the image: ``sum``, ``mean``, ``max`` or ``top_k_mean``.
        k: Boxes in ``top_k_mean``.
        empty: Images without detections come ``first``, ``last`` or get ``empty_score``.
        empty_score: See ``empty``.
    """

    def prepare(candidates: Candidates, rng: np.random.Generator) -> BoxMeasure:
        return partial(change.gradient_length, calibration=_calibration(candidates))

    to_image = ToImage(aggregation, k, empty, empty_score)
    return by_boxes(prepare, "expected gradient length", to_image)


def emoc(
    *,
    output: Output = "scores",
    kernel: Kernel = "linear",
    references: int = 512,
    aggregation: Aggregation = "sum",
    k: int = 5,
    empty: EmptyPolicy = "score",
    empty_score: float = 0.0,
) -> MeasureSelector:
    """Images whose boxes, once learned, are expected to change the output elsewhere most.

    Expected model output change (Freytag, Rodner & Denzler, ECCV 2014; for deep networks Käding et
    al., 2016) in a last-layer approximation of our own, as theirs could not be read: the summed
    change of the class scores of a sample of detections, <h_u, h_r> times the expected |p - y|
    (`detal.features.change.output_change`). Prefers doubtful boxes that look like many others. The
    changes of an image's boxes are added as if they never cancelled. Cost: two passes over the
    store and one over the labelled images; N R (C + D) multiplications for N boxes and R
    references. Failure mode: it saturates: near-duplicates all promise the same change, so use
    ``dedup.distance``; and what looks like nothing known promises none.

    Args:
        output: Whose change counts: ``scores`` or ``logits``.
        kernel: ``linear`` (one gradient step) or ``cosine`` (leaves the features' norms out).
        references: R, the detections that the change is measured on, >= 1, drawn with probability
            proportional to their score from up to as many labelled and unlabelled images.
        aggregation: From boxes to the image: ``sum``, ``mean``, ``max`` or ``top_k_mean``.
        k: Boxes in ``top_k_mean``.
        empty: Images without detections come ``first``, ``last`` or get ``empty_score``.
        empty_score: See ``empty``.
    """
    check_choice("output", output, get_args(Output))
    check_choice("kernel", kernel, get_args(Kernel))
    measure = partial(change.output_change, output=output, kernel=kernel)
    prepare = _with_references(measure, references, "`emoc`")
    to_image = ToImage(aggregation, k, empty, empty_score)
    return by_boxes(prepare, "expected output change", to_image)


def expected_error_reduction(
    *,
    risk: Risk = "entropy",
    references: int = 512,
    aggregation: Aggregation = "sum",
    k: int = 5,
    empty: EmptyPolicy = "score",
    empty_score: float = 0.0,
) -> MeasureSelector:
    """Images whose boxes, once learned, are expected to make the detector surer elsewhere.

    Roy & McCallum, "Toward optimal active learning through sampling estimation of error reduction",
    ICML 2001, without their retraining: the second-order fall of the references' entropy after a
    step at the last layer (`detal.features.change.error_reduction`). Prefers doubtful boxes that
    look like many other doubtful ones. Cost and failure mode as for `emoc`, whose options
    ``references`` to ``empty_score`` it shares; ``risk`` is ``entropy`` or ``error`` (p (1 - p)).
    """
    check_choice("risk", risk, get_args(Risk))
    measure = partial(change.error_reduction, risk=risk)
    prepare = _with_references(measure, references, "`expected_error_reduction`")
    to_image = ToImage(aggregation, k, empty, empty_score)
    return by_boxes(prepare, "expected error reduction", to_image)


def _with_references(
    measure: Callable[..., torch.Tensor], count: int, purpose: str
) -> Callable[[Candidates, np.random.Generator], BoxMeasure]:
    check_count("references", count)

    def prepare(candidates: Candidates, rng: np.random.Generator) -> BoxMeasure:
        references = _references(candidates, count, rng, purpose)
        if references is None:  # nothing was seen, so there is nothing to measure either
            return lambda seen: torch.zeros_like(seen.scores)
        return partial(measure, references=references, calibration=_calibration(candidates))

    return prepare


def _calibration(candidates: Candidates) -> Calibration:
    labeled = candidates.labeled
    if labeled.detections is None or labeled.annotations is None:
        return Calibration.identity(len(candidates.class_names))
    seen = labeled.detections()
    return fit_calibration(seen, match_detections(seen, labeled.annotations))


def _references(
    candidates: Candidates, count: int, rng: np.random.Generator, purpose: str
) -> References | None:
    """Up to ``count`` detections of as many images, labelled or not, or None if there are none."""
    read = candidates.labeled.detections
    known = None if read is None else read()
    labeled = 0 if known is None else len(known)
    images = np.sort(rng.permutation(labeled + len(candidates))[:count])
    parts = [candidates.take(images[images >= labeled] - labeled)]
    if known is not None:
        parts.append(known.take(torch.from_numpy(images[images < labeled])))
    parts = [part for part in parts if part.num_boxes]
    if not parts:
        return None
    seen = Detections.concat(parts)
    # The smallest of exponential draws over their weights: sampling without replacement.
    turn = rng.exponential(size=seen.num_boxes) / seen.scores.cpu().double().numpy().clip(1e-9)
    # What is not a number is refused where its own image is measured, and named there.
    turn[~_is_finite(seen)] = np.inf
    order = np.argsort(turn, kind="stable")[:count]
    rows = torch.from_numpy(np.sort(order[np.isfinite(turn[order])]))
    return References.of(seen, rows.to(seen.scores.device), purpose=purpose)


def _is_finite(seen: Detections) -> NDArray[np.bool_]:
    """(N,) True where logits and object features are all finite."""
    finite = torch.isfinite(seen.logits).all(dim=1)
    if seen.object_features is not None:
        finite &= torch.isfinite(seen.object_features).all(dim=1)
    return finite.cpu().numpy()
