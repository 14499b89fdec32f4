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
_ITERATIONS = 100
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
    """

    detections: Detections
    target: Tensor
    used: Tensor
    fold: Tensor

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
    """

    observables: Observables
    weight: Tensor
    intercept: Tensor

    def __call__(self, detections: Detections) -> Tensor:
        """(N,) float64 trust of each detection, in [0, 1]."""
        logit = self.observables(detections) @ self.weight + self.intercept[detections.labels]
        # Equal detections get equal trust, in whatever chunk they come.
        return logit.sigmoid().round(decimals=_DECIMALS)


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
    return Rows(detections, member[matches.truth], ~matches.ignored, fold)


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
    return TrustModel(observables, weight, intercept)


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
    """Most probable weights (F,) and intercepts (C,) on the detections ``used`` (N,); convex."""
    x, y = design[used], rows.target[used].double()
    label = rows.detections.labels[used]
    columns, classes = x.shape[1], rows.detections.num_classes
    # Weights, common intercept, what each class's differs from it by.
    values = x.new_zeros(columns + 1 + classes, requires_grad=True)
    optimiser = torch.optim.LBFGS([values], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        z = x @ values[:columns] + values[columns] + values[columns + 1 :][label]
        prior = (values[:columns] / deviation).square().sum() + values[columns + 1 :].square().sum()
        total: Tensor = (softplus(z) - y * z).sum() + prior / 2
        (values.grad,) = torch.autograd.grad(total, values)
        return total

    with torch.enable_grad():
        optimiser.step(loss)  # type: ignore[no-untyped-call]
    fitted = values.detach()
    return fitted[:columns], fitted[columns] + fitted[columns + 1 :]
