"""Trust: how likely a detection of an unlabelled image is one of those that teach.

Logistic regression from what is observable without labels to "this detection found an object of the
TrustSet", whatever class it took it for: of what teaches, much is taken for another class. Shapes:
B images, N detections, C classes, F observables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softplus

from detal.features import entropy, match_detections
from detal.structures import Annotations, Detections
from detal.trustset.observables import Observables, fit_observables
from detal.trustset.rating import area_under_roc, calibration_error, reliability
from detal.trustset.trust_set import TrustSet

__all__ = ["Rows", "TrustModel", "fit_trust", "rate_trust", "training_rows"]

Flags = NDArray[np.bool_]

_FEWEST = 5
_FOLDS = 5
_DEVIATIONS = (0.1, 0.3, 1.0)
_COMMON_DEVIATION = 10.0
_ITERATIONS = 50
_DECIMALS = 9
_SMALLEST = 1e-6


@dataclass(frozen=True, eq=False)
class Rows:
    """Detections of labelled images, and which of them found a trusted object.

    Attributes:
        detections: Of B images.
        target: (N,) bool.
        used: (N,) bool, False on crowds, which say nothing.
        fold: (N,) 0..K-1; detections of one image (or sequence) share one.
        found: (N,) int64 class of the object that each detection found, or -1.
        per_member: (C,) float64 labelled objects for each trusted one that was found.
    """

    detections: Detections
    target: Tensor
    used: Tensor
    fold: Tensor
    found: Tensor
    per_member: Tensor

    @property
    def enough(self) -> bool:
        """Whether there is something to learn: a few detections of either kind."""
        positives = int((self.target & self.used).sum())
        return min(positives, int(self.used.sum()) - positives) >= _FEWEST


@dataclass(frozen=True, eq=False)
class TrustModel:
    """P(trusted) = sigmoid(observables @ weight + intercept of the class).

    Attributes:
        observables: From detections to rows.
        weight: (F,) float64.
        intercept: (C,) float64; a class with few detections follows the others.
        taken_for: (C, C) float64 what the trusted objects are that a detector takes for each class:
            shares of the true classes, which add up to 1.
        per_member: (C,) float64 labelled objects for each trusted one that was found.
    """

    observables: Observables
    weight: Tensor
    intercept: Tensor
    taken_for: Tensor
    per_member: Tensor

    def __call__(self, detections: Detections) -> Tensor:
        """(N,) float64 trust of each detection, in [0, 1]."""
        logit = self.observables(detections) @ self.weight + self.intercept[detections.labels]
        # Equal detections get equal trust, in whatever chunk they come.
        return logit.sigmoid().round(decimals=_DECIMALS)

    def objects(self, detections: Detections) -> Tensor:
        """(N, C) float64 objects of each true class that a detection is expected to be worth.

        Trust goes to the classes of the objects that detections of its class found, not to the
        class that the detector says: what a weak detector takes for a rare class is mostly another.
        It is counted in labelled objects of average worth, so that over images like the labelled
        ones it adds up to the objects there, whatever share of a class is trusted.
        """
        return self(detections)[:, None] * (self.taken_for * self.per_member)[detections.labels]


def training_rows(
    detections: Detections,
    annotations: Annotations,
    trust_set: TrustSet,
    *,
    rng: np.random.Generator,
    groups: NDArray[np.int64] | None = None,
) -> Rows:
    """Which detections found a trusted object (IoU >= 0.5, one each), and the folds.

    Args:
        detections: Of labelled images, best by a detector that was not trained on them.
        annotations: Their ground truth.
        trust_set: Of the annotations.
        rng: Deals the images out to five folds.
        groups: (B,) sequence of each image, kept in one fold; every image is its own by default.
    """
    matches = match_detections(detections, annotations, class_aware=False)
    member = torch.from_numpy(np.append(trust_set.member, False))
    group = np.arange(len(detections)) if groups is None else groups
    names, place = np.unique(group, return_inverse=True)
    fold_of = rng.permutation(len(names)) % _FOLDS
    fold = torch.from_numpy(fold_of[place])[detections.image_index]
    target = member[matches.truth]
    return Rows(
        detections,
        target=target,
        used=~matches.ignored,
        fold=fold,
        found=matches.label,
        per_member=_per_member(
            annotations.class_counts(detections.num_classes), matches.label[target]
        ),
    )


def _per_member(objects: NDArray[np.int64], members: Tensor) -> Tensor:
    """(C,) objects for each one of the class among ``members``, drawn to the share of them all."""
    number = torch.bincount(members, minlength=len(objects))
    share = len(members) / max(int(objects.sum()), 1)
    return (torch.from_numpy(objects) + 1) / (number + max(share, _SMALLEST)).double()


def fit_trust(rows: Rows, *, only: tuple[str, ...] = ()) -> TrustModel:
    """Fit the model; how strongly it is held back is what predicts the other folds best.

    Weights have normal priors of one of three deviations, class intercepts a unit one around a
    common intercept.

    Args:
        rows: To learn from, of either kind (`Rows.enough`).
        only: Observables to use, see `fit_observables`.
    """
    observables = fit_observables(rows.detections, only=only)
    design = observables(rows.detections)
    weight, intercept = _fit_best(rows, design, rows.used)
    return TrustModel(observables, weight, intercept, _taken_for(rows), rows.per_member)


def rate_trust(rows: Rows, class_names: tuple[str, ...]) -> dict[str, Any]:
    """How well trust, and plain entropy, tell members on images that the fit did not see.

    Every figure is from five-fold cross-validation by image; the strength of the prior is chosen
    within the other folds. ``auc_entropy`` is of the entropy itself, ``ece_entropy`` of a logistic
    regression on the entropy alone. NaN becomes None.

    Returns:
        ``pooled`` (with ``reliability``) and ``classes`` by name: ``detections``, ``positives``
        (those on members), ``auc``, ``ece``, ``auc_entropy``, ``ece_entropy``.
    """
    probs, alone = (_nested(rows, only).numpy() for only in ((), ("entropy",)))
    plain = entropy(rows.detections).double().numpy()
    used, truth = rows.used.numpy(), rows.target.numpy()
    labels = rows.detections.labels.numpy()

    def figures(mask: Flags) -> dict[str, Any]:
        return {
            "detections": int(mask.sum()),
            "positives": int(truth[mask].sum()),
            "auc": _number(area_under_roc(probs[mask], truth[mask])),
            "ece": _number(calibration_error(probs[mask], truth[mask])),
            "auc_entropy": _number(area_under_roc(plain[mask], truth[mask])),
            "ece_entropy": _number(calibration_error(alone[mask], truth[mask])),
        }

    classes = {name: figures(used & (labels == label)) for label, name in enumerate(class_names)}
    pooled = {**figures(used), "reliability": reliability(probs[used], truth[used])}
    return {"pooled": pooled, "classes": classes}


def _taken_for(rows: Rows) -> Tensor:
    """(C, C) shares of the true classes; one object of the class said is taken for granted."""
    counts = torch.eye(rows.detections.num_classes, dtype=torch.float64)
    trusted = rows.target & rows.used
    pairs = (rows.detections.labels[trusted], rows.found[trusted])
    counts.index_put_(pairs, counts.new_ones(()), accumulate=True)
    return counts / counts.sum(dim=1, keepdim=True)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 6)


def _nested(rows: Rows, only: tuple[str, ...]) -> Tensor:
    """(N,) trust of each detection by a model fitted, prior and all, on the other folds."""
    design = fit_observables(rows.detections, only=only)(rows.detections)
    probs = torch.zeros(len(design), dtype=torch.float64)
    for fold in _folds(rows, rows.used):
        held = rows.fold == fold
        fitted = _fit_best(rows, design, rows.used & ~held)
        probs[held] = _predict(rows, design, held, fitted)
    return probs


def _folds(rows: Rows, used: Tensor) -> list[int]:
    return [int(fold) for fold in np.unique(rows.fold[used].numpy())]


def _fit_best(rows: Rows, design: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and intercepts under the prior that predicts held-out folds of ``used`` best."""
    losses = []
    for deviation in _DEVIATIONS:
        total = 0.0
        for fold in _folds(rows, used):
            held = used & (rows.fold == fold)
            fitted = _fit(rows, design, used & ~held, deviation)
            probs = _predict(rows, design, held, fitted).clamp(_SMALLEST, 1 - _SMALLEST)
            truth = rows.target[held]
            total -= float(torch.where(truth, probs, 1 - probs).log().sum())
        losses.append(total)
    return _fit(rows, design, used, _DEVIATIONS[int(np.argmin(losses))])


def _predict(rows: Rows, design: Tensor, which: Tensor, fitted: tuple[Tensor, Tensor]) -> Tensor:
    weight, intercept = fitted
    return (design[which] @ weight + intercept[rows.detections.labels[which]]).sigmoid()


def _fit(rows: Rows, design: Tensor, used: Tensor, deviation: float) -> tuple[Tensor, Tensor]:
    """Most probable weights (F,) and intercepts (C,) on the detections ``used`` (N,); convex.

    Newton's method; as the class intercepts do not touch each other, a step is a system of F + 1
    equations for any number of classes.
    """
    x = torch.cat([design[used], design.new_ones(int(used.sum()), 1)], dim=1)  # (n, F + 1)
    y, label = rows.target[used].double(), rows.detections.labels[used]
    held = torch.full_like(x[:0].sum(dim=0), deviation**-2)
    held[-1] = _COMMON_DEVIATION**-2
    # Weights and common intercept (F + 1,), what each class's intercept differs from it by (C,).
    shared, own = x.new_zeros(x.shape[1]), x.new_zeros(rows.detections.num_classes)

    def loss(shared: Tensor, own: Tensor) -> float:
        z = x @ shared + own[label]
        prior = (held * shared.square()).sum() + own.square().sum()
        return float((softplus(z) - y * z).sum() + prior / 2)

    value = loss(shared, own)
    for _ in range(_ITERATIONS):
        p = (x @ shared + own[label]).sigmoid()
        weight = p * (1 - p)
        slope = x.T @ (p - y) + held * shared
        slope_own = own.index_add(0, label, p - y)
        curved = torch.ones_like(own).index_add_(0, label, weight)
        cross = own.new_zeros(len(own), x.shape[1]).index_add_(0, label, x * weight[:, None])
        ratio = cross / curved[:, None]
        hessian = (x * weight[:, None]).T @ x + held.diag() - cross.T @ ratio
        step = torch.linalg.solve(hessian, slope - ratio.T @ slope_own)
        step_own = slope_own / curved - ratio @ step
        drop = float(slope @ step + slope_own @ step_own)
        size = 1.0
        while loss(shared - size * step, own - size * step_own) > value and size > _SMALLEST:
            size /= 2
        shared, own = shared - size * step, own - size * step_own
        value = loss(shared, own)
        if drop < _SMALLEST**2:
            break
    return shared[:-1], shared[-1] + own
