"""Trust of candidates: how many objects that teach each of them is expected to hold.

For the strategy `trustset`, and as a term for tables and agents. P candidates.
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from detal.errors import ConfigError
from detal.features.expected_objects import Bundles, expected_objects, sum_by_class
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
    "fit_trust_of",
    "membership_where_known",
    "trust_of_candidates",
    "trusted_objects",
    "trusted_share",
]

log = logging.getLogger(__name__)

_DEFAULTS = TrustSetOptions()
_LEAST_BOXES = 1e-9


def fit_trust_of(
    candidates: Candidates,
    *,
    rng: np.random.Generator,
    options: TrustSetOptions = _DEFAULTS,
    curves: CategoryCurves | None = None,
) -> TrustModel | None:
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
        The model, or None (with a warning) if there are too few objects to learn from.

    Raises:
        ConfigError: If nothing is labelled.
    """
    _, seen, truth = _known(candidates)
    trust_set = _trust_set(candidates, seen, truth, options=options, curves=curves)
    rows = training_rows(seen, truth, trust_set, rng=rng)
    if not rows.enough:
        log.warning(
            "too few labelled objects are found to learn trust from (%d of the TrustSet): "
            "scores, weighted by their entropy, stand in for it",
            int(trust_set.member.sum()),
        )
        return None
    return fit_trust(rows)


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


def membership_where_known(
    candidates: Candidates, *, options: TrustSetOptions = _DEFAULTS
) -> tuple[Labeled, NDArray[np.float64]]:
    """The L labelled images that `fit_trust_of` learns on, and what of each is in the TrustSet.

    Returns:
        The images, and (L,) the share of their objects that are members; 0 without objects.

    Raises:
        ConfigError: If nothing is labelled.
    """
    labeled, seen, truth = _known(candidates)
    trust_set = _trust_set(candidates, seen, truth, options=options)
    image = truth.image_index
    members = np.bincount(image, weights=trust_set.member, minlength=len(truth))
    return labeled, members / np.maximum(np.bincount(image, minlength=len(truth)), 1)


def trusted_share(
    candidates: Candidates, *, rng: np.random.Generator, options: TrustSetOptions = _DEFAULTS
) -> NDArray[np.float64]:
    """(P,) share in 0..1 of the objects expected in each candidate that teach."""
    trusted = trust_of_candidates(candidates, rng=rng, options=options)
    return np.clip(trusted / np.maximum(candidates.expected_boxes, _LEAST_BOXES), 0, 1)


def trusted_objects(
    candidates: Candidates,
    *,
    rng: np.random.Generator,
    options: TrustSetOptions = _DEFAULTS,
    curves: CategoryCurves | None = None,
) -> Bundles:
    """Expected objects that teach, by image and class: the summed trust of the detections.

    Arguments and errors as in `fit_trust_of`.

    Raises:
        DataError: If what trust is read off is not a number, naming the image.
    """
    model = fit_trust_of(candidates, rng=rng, options=options, curves=curves)
    if model is None:
        bundles = expected_objects(
            candidates.chunks(), num_images=len(candidates), informativeness="entropy"
        )
    else:
        bundles = sum_by_class(candidates.chunks(), num_images=len(candidates), weigh=model)
    bad = np.zeros(len(candidates), dtype=bool)
    bad[_image_of(bundles)[~np.isfinite(bundles.amounts)]] = True
    candidates.refuse(bad, "trust must be a number; NaN or infinity was found")
    return bundles


def trust_of_candidates(
    candidates: Candidates,
    *,
    rng: np.random.Generator,
    options: TrustSetOptions = _DEFAULTS,
) -> NDArray[np.float64]:
    """(P,) objects that teach, expected in each candidate, >= 0; see `trusted_objects`."""
    bundles = trusted_objects(candidates, rng=rng, options=options)
    total = np.bincount(_image_of(bundles), weights=bundles.amounts, minlength=len(candidates))
    return np.asarray(total, dtype=np.float64)


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
