"""Trust of candidates: how many objects that teach each of them is expected to hold.

For the strategy `trustset`, and as a term for tables and agents. P candidates.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detal.errors import ConfigError
from detal.features.expected_objects import Bundles, expected_objects, sum_amounts
from detal.reward import CategoryCurves
from detal.strategies.candidates import Candidates, Labeled
from detal.structures import Annotations, Detections
from detal.trustset import (
    Judge,
    TrustModel,
    TrustSet,
    TrustSetOptions,
    build_trust_set,
    distrusted,
    find_suspicious,
    fit_trust,
    matched_features,
    score_objects,
    training_rows,
)

__all__ = [
    "Expected",
    "Trust",
    "expect_objects",
    "fit_trust_of",
    "membership_where_known",
    "trusted_share",
]

log = logging.getLogger(__name__)

_DEFAULTS = TrustSetOptions()
_LEAST_BOXES = 1e-9


class Trust(NamedTuple):
    """What detections of the pool are worth, learned where objects are known.

    Attributes:
        trusted: Which of them found an object of the TrustSet.
        found: Which of them found an object at all.
    """

    trusted: TrustModel
    found: TrustModel


class Expected(NamedTuple):
    """What the candidates hold.

    Attributes:
        teaching: Expected objects by image and class, weighted by what they would teach; in units
            of an average labelled object of the class.
        boxes: (P,) expected objects, >= 0.
    """

    teaching: Bundles
    boxes: NDArray[np.float64]


def fit_trust_of(
    candidates: Candidates,
    *,
    rng: np.random.Generator,
    options: TrustSetOptions = _DEFAULTS,
    curves: CategoryCurves | None = None,
) -> Trust | None:
    """Fit trust on what is labelled beside the candidates.

    On the reference set where there is one: the detector was not trained on it, so its scores are
    those it has on the pool. Otherwise on the labelled images, of which the detector is surer than
    of the pool; trust then ranks alike but comes out too low or too high.

    Args:
        candidates: The pool with what is labelled.
        rng: Deals images out to folds.
        options: Of the TrustSet.
        curves: For ``balance: slope``; prior curves by default.

    Returns:
        The models, or None (with a warning) if there are too few objects to learn from.

    Raises:
        ConfigError: If nothing is labelled.
    """
    _, seen, truth = _known(candidates)
    trust_set = _trust_set(candidates, seen, truth, options=options, curves=curves)
    trusted = training_rows(seen, truth, trust_set, rng=rng)
    if not trusted.enough:
        log.warning(
            "too few labelled objects are found to learn trust from (%d of the TrustSet): "
            "scores, weighted by their entropy, stand in for it",
            int(trust_set.member.sum()),
        )
        return None
    found = training_rows(seen, truth, replace(trust_set, member=~truth.is_crowd), rng=rng)
    return Trust(fit_trust(trusted), fit_trust(found))


def _trust_set(
    candidates: Candidates,
    seen: Detections,
    truth: Annotations,
    *,
    options: TrustSetOptions,
    curves: CategoryCurves | None = None,
) -> TrustSet:
    num_classes = len(candidates.class_names)
    judges = [Judge(seen)]
    slopes = (curves or CategoryCurves.prior(num_classes)).slope(
        candidates.labeled.class_counts.astype(np.float64)
    )
    return build_trust_set(
        score_objects(judges, truth),
        truth,
        num_classes=num_classes,
        options=options,
        slopes=slopes,
        features=matched_features(seen, truth),
        distrusted=distrusted(find_suspicious(judges, truth), num_objects=len(truth.labels)),
    )


def membership_where_known(candidates: Candidates) -> tuple[Labeled, NDArray[np.float64]]:
    """The L labelled images that `fit_trust_of` learns on, and what of each is in the TrustSet.

    Returns:
        The images, and (L,) the share of their objects that are members; 0 without objects.

    Raises:
        ConfigError: If nothing is labelled.
    """
    labeled, seen, truth = _known(candidates)
    trust_set = _trust_set(candidates, seen, truth, options=_DEFAULTS)
    image = truth.image_index
    members = np.bincount(image, weights=trust_set.member, minlength=len(truth))
    return labeled, members / np.maximum(np.bincount(image, minlength=len(truth)), 1)


def trusted_share(candidates: Candidates, *, rng: np.random.Generator) -> NDArray[np.float64]:
    """(P,) share in 0..1 of the objects expected in each candidate that teach."""
    expected = expect_objects(candidates, rng=rng)
    teaching = expected.teaching
    total = np.bincount(_image_of(teaching), teaching.amounts, minlength=len(candidates))
    return np.clip(total / np.maximum(expected.boxes, _LEAST_BOXES), 0, 1)


def expect_objects(
    candidates: Candidates,
    *,
    rng: np.random.Generator,
    options: TrustSetOptions = _DEFAULTS,
    curves: CategoryCurves | None = None,
) -> Expected:
    """What the candidates hold and would teach, as far as the labelled objects tell.

    Of a class of which n objects are labelled, an object counts as a part n / (n + onset) by trust
    and for the rest as the object that it is: as long as there are few, all teach, and which are
    hard is hardly known; the more there are, the more only those of the TrustSet do (as of scarce
    and abundant data in Sorscher et al., "Beyond neural scaling laws", NeurIPS 2022). Arguments and
    errors as in `fit_trust_of`.

    Raises:
        DataError: If what trust is read off is not a number, naming the image.
    """
    curves = curves or CategoryCurves.prior(len(candidates.class_names))
    models = fit_trust_of(candidates, rng=rng, options=options, curves=curves)
    if models is None:
        teaching = expected_objects(
            candidates.chunks(), num_images=len(candidates), informativeness="entropy"
        )
        boxes = candidates.expected_boxes
    else:
        counts = torch.from_numpy(candidates.labeled.class_counts).double()
        teaching, boxes = _read(candidates, models, counts / (counts + curves.onset))
    bad = np.zeros(len(candidates), dtype=bool)
    bad[_image_of(teaching)[~np.isfinite(teaching.amounts)]] = True
    candidates.refuse(bad, "trust must be a number; NaN or infinity was found")
    return Expected(teaching, boxes)


def _read(
    candidates: Candidates, models: Trust, by_trust: Tensor
) -> tuple[Bundles, NDArray[np.float64]]:
    """Teaching objects and boxes of the candidates; ``by_trust`` (C,) in [0, 1]."""
    boxes = np.zeros(len(candidates))

    def amounts() -> Iterator[tuple[NDArray[np.int64], Detections, Tensor]]:
        for index, detections in candidates.chunks():
            found = models.found.objects(detections)
            total = found.new_zeros(len(detections))
            boxes[index] = total.index_add_(0, detections.image_index, found.sum(dim=1)).numpy()
            trusted = models.trusted.objects(detections)
            yield index, detections, (1 - by_trust) * found + by_trust * trusted

    return sum_amounts(amounts(), num_images=len(candidates)), boxes


def _image_of(bundles: Bundles) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(bundles)), np.diff(bundles.offsets))


def _known(candidates: Candidates) -> tuple[Labeled, Detections, Annotations]:
    for labeled in (candidates.reference, candidates.labeled):
        known = None if labeled is None else _outputs(labeled)
        if labeled is not None and known is not None:
            return labeled, *known
    raise ConfigError(
        "trust needs labelled images, and there are none: use `entropy`, or `core_set` for the "
        "first batch"
    )


def _outputs(labeled: Labeled) -> tuple[Detections, Annotations] | None:
    if labeled.detections is None or labeled.annotations is None or not len(labeled.annotations):
        return None
    return labeled.detections(), labeled.annotations
