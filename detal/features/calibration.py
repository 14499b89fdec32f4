"""From a detector's class probabilities to the frequency with which they are right.

N detections, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from detal.features.matching import Matches
from detal.structures import Detections

__all__ = ["Calibration", "fit_calibration"]

_LARGEST_LOGIT = 13.8
"""Probabilities are kept within about one millionth of 0 and 1."""
_ITERATIONS = 100


@dataclass(frozen=True, eq=False)
class Calibration:
    """P(the object is of class c | detector's probability p) = sigmoid(slope logit(p) + shift_c).

    Attributes:
        slope: >= 0; 1 leaves confidence as it is, less makes it milder.
        shift: (C,) float64, added to each class's logit.
    """

    slope: float
    shift: Tensor

    @staticmethod
    def identity(num_classes: int) -> Calibration:
        """Takes the detector at its word."""
        return Calibration(slope=1.0, shift=torch.zeros(num_classes, dtype=torch.float64))

    def __call__(self, probs: Tensor) -> Tensor:
        """(N, C) float32 calibrated probabilities; (N, C) class probabilities go in."""
        shift = self.shift.to(device=probs.device, dtype=torch.float32)
        return (_logit(probs.float()) * self.slope + shift).sigmoid()


def fit_calibration(detections: Detections, matches: Matches) -> Calibration:
    """Platt scaling on labelled images: one slope, and one shift per class, drawn to the pool's.

    What is fitted is whether a detection found an object of its own class, given the probability
    that it states for that class; detections on crowds are left out. The fit is the most probable
    one under normal priors of unit deviation (in logits): slope and common shift around "leave it
    as it is", each class's shift around the common one. So few detections move little, none give
    the identity, and a class that was never seen gets the common shift.
    Isotonic regression would follow odd curves better, but needs more detections, is constant
    outside what it saw and ties scores.

    The detector was trained on the labelled images, so it is right there more often than it will be
    on the pool: fit on images held out from training where there are some.

    Args:
        detections: Of labelled images.
        matches: Of them with their ground truth, class-aware.
    """
    rows = (~matches.ignored).nonzero()[:, 0]
    label = detections.labels[rows]
    x = _logit(_own_probs(detections, rows)).double()
    y = matches.found[rows].double()
    slope, shift = _fit(x, y, label, detections.num_classes)
    if slope < 0:  # scores that mislead say nothing
        slope, shift = 0.0, _fit(torch.zeros_like(x), y, label, detections.num_classes)[1]
    return Calibration(slope=slope, shift=shift)


def _own_probs(detections: Detections, rows: Tensor) -> Tensor:
    """(k,) probability of its own label that each of the chosen detections states."""
    logits, label = detections.logits[rows].float(), detections.labels[rows, None]
    if detections.score_kind == "sigmoid":
        return logits.gather(1, label)[:, 0].sigmoid()
    return logits.softmax(dim=1).gather(1, label)[:, 0]


def _logit(probs: Tensor) -> Tensor:
    return torch.logit(probs).clamp(-_LARGEST_LOGIT, _LARGEST_LOGIT)


def _fit(x: Tensor, y: Tensor, label: Tensor, num_classes: int) -> tuple[float, Tensor]:
    """Most probable slope and (C,) shifts of ``y`` (n,) in {0, 1} given ``x`` (n,); convex."""
    # slope - 1, common shift, own shifts: the prior is a unit normal in each of them.
    values = x.new_zeros(num_classes + 2, requires_grad=True)
    optimiser = torch.optim.LBFGS([values], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        z = (1 + values[0]) * x + values[1] + values[2:][label]
        total = (softplus(z) - y * z).sum() + values.square().sum() / 2
        (values.grad,) = torch.autograd.grad(total, values)
        return total

    with torch.enable_grad():
        optimiser.step(loss)  # type: ignore[no-untyped-call]
    fitted = values.detach()
    return 1 + float(fitted[0]), (fitted[1] + fitted[2:]).cpu()
