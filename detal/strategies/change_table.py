"""Greedy on the output change table."""

from __future__ import annotations

import logging

import numpy as np
import torch

from detal.errors import ConfigError
from detal.features import fit_calibration, match_detections
from detal.reward import OutputChangeTable, ReferenceOutputs
from detal.strategies.candidates import Candidates, Labeled
from detal.strategies.fill import Order
from detal.strategies.strategy import MeasureSelector
from detal.strategies.table_greedy import greedy
from detal.structures import Annotations, Budget, Detections

__all__ = ["change_greedy", "output_change_table"]

log = logging.getLogger(__name__)

_MOST_INFLUENCES = 2**27  # half a gigabyte


def change_greedy() -> MeasureSelector:
    """Images that, once learned, are expected to correct most on the reference set per cost.

    Every detection on the reference set is right or wrong; boxes that look like it, and of whose
    class the detector is unsure, are evidence about it, worth less the more there is
    (`detal.reward.output_change`, after expected model output change: Freytag, Rodner & Denzler,
    ECCV 2014; the kernel, the composition and the conversion to mAP are ours). Prefers doubtful
    boxes like those that cost most mAP now, and few of each kind. Needs object features and a
    reference set. Cost: one pass over the store, N R D multiplications for N boxes and R reference
    detections, 4 P R bytes of memory for P candidates, and a lazy greedy with O(R) per gain; where
    P R exceeds 2^27, a random part of the reference images is used. Failure mode: it corrects
    scores only, so objects that the detector misses, in the pool or on the reference set, attract
    nothing; with a small reference set it learns that set's luck.
    """

    def select(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
        if len(candidates) == 0:
            return
        yield from greedy(output_change_table(candidates, rng), candidates, budget, rng)

    return MeasureSelector(select=select)


def output_change_table(
    candidates: Candidates, rng: np.random.Generator, *, most_references: int | None = None
) -> OutputChangeTable:
    """The table of the candidates, beside their reference set; see `change_greedy`.

    Of the reference set, ``most_references`` detections are used at most, and what fits memory.

    Raises:
        ConfigError: If there is no reference set or the detector gives no object features.
        DataError: If a feature or score is not finite, naming the image.
    """
    seen, truth = _reference(candidates)
    calibration = fit_calibration(seen, match_detections(seen, truth))
    most = _MOST_INFLUENCES // len(candidates)
    most = most if most_references is None else min(most, most_references)
    seen, truth = _some_images(seen, truth, most=most, rng=rng)
    table = OutputChangeTable(
        ReferenceOutputs(seen, truth, labeled=_outputs(candidates.labeled)),
        candidates.chunks(),
        num_images=len(candidates),
        calibration=calibration,
        class_names=candidates.class_names,
    )
    finite = np.asarray(np.isfinite(table.influence).all(axis=1))
    candidates.refuse(~finite, "object features and scores must be finite")
    return table


def _reference(candidates: Candidates) -> tuple[Detections, Annotations]:
    known = None if candidates.reference is None else _outputs(candidates.reference)
    if known is None:
        raise ConfigError(
            "change_greedy needs a reference set, labelled images that nothing is trained on: set "
            "`reference`, or use curve_greedy, which needs none"
        )
    if known[0].num_boxes and known[0].object_features is None:
        raise ConfigError(
            "change_greedy needs object features, and this detector gives none: use a detector "
            "with weights, or curve_greedy, which looks at scores only"
        )
    return known


def _outputs(labeled: Labeled) -> tuple[Detections, Annotations] | None:
    if labeled.detections is None or labeled.annotations is None:
        return None
    return labeled.detections(), labeled.annotations


def _some_images(
    detections: Detections, truth: Annotations, *, most: int, rng: np.random.Generator
) -> tuple[Detections, Annotations]:
    """As many of the images, drawn at random, as have ``most`` detections; one with an object."""
    if detections.num_boxes <= most:
        return detections, truth
    order = rng.permutation(len(detections))
    # An image with an object comes first: without any there is no mAP.
    order = order[np.argsort(np.diff(truth.offsets)[order] == 0, kind="stable")]
    total = np.cumsum(detections.counts.cpu().numpy()[order])
    kept = np.sort(order[: max(int(np.searchsorted(total, most, side="right")), 1)])
    log.warning(
        "the output change table uses %d of the %d reference images",
        len(kept),
        len(order),
    )
    return detections.take(torch.from_numpy(kept)), truth.take(kept)
