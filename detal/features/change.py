"""How much a detector would change if it learned a box: its last classification layer, linearised.

The class logits of a box are z = W h, with h its object feature. Learning box u with the answer y
(one class, or background) moves W by the gradient of its loss, (p_u - y) h_u^T, and with it the
logits of any other box r by (p_u - y) <h_u, h_r>. Nothing is labelled, so all is an expectation
over y under the calibrated prediction. What changes below the last layer is not seen, a head with
several last layers (one per level) is treated as if it had one, and features that a detector
projects to fewer dimensions give these products approximately.

For softmax scores the classes are treated one by one, as sigmoid scores with the same
probabilities, except in `gradient_length`, which counts background as the class it is.

Shapes: N detections, R reference detections, C classes, D features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from detal.errors import ConfigError
from detal.features.calibration import Calibration
from detal.structures import Detections

__all__ = [
    "Kernel",
    "Output",
    "References",
    "Risk",
    "error_reduction",
    "expected_residual",
    "gradient_length",
    "object_features",
    "output_change",
]

Output = Literal["scores", "logits"]
Kernel = Literal["linear", "cosine"]
Risk = Literal["entropy", "error"]
_BLOCK = 8192


@dataclass(frozen=True, eq=False)
class References:
    """A sample of detections that stands for what the detector is used on.

    Attributes:
        features: (R, D) float32 object features.
        probs: (R, C) float32 class probabilities.
    """

    features: Tensor
    probs: Tensor

    @staticmethod
    def of(detections: Detections, rows: Tensor, *, purpose: str) -> References:
        """The detections ``rows`` (R,), whose object features ``purpose`` needs.

        Raises:
            ConfigError: If the detector gives no object features.
        """
        features = object_features(detections, purpose)[rows]
        return References(features=features, probs=detections.probs(rows))


def gradient_length(detections: Detections, calibration: Calibration) -> Tensor:
    """Expected norm of the gradient of each box's classification loss at the last layer.

    ``sum_y P(y) ||p - y|| ||h||``: the gradient is the outer product of residual and feature, so
    its norm is a product and is never stored. y runs over the classes and background; for sigmoid
    scores background is y = 0, for softmax scores it is a class of its own.

    Returns:
        (N,) float32, >= 0. O(N (C + D)).

    Raises:
        ConfigError: If the detector gives no object features.
    """
    features = object_features(detections, "`expected_gradient_length`")
    length = features.square().sum(dim=1).sqrt()
    belief = _belief(detections, calibration)
    nothing = 1 - belief.sum(dim=1, keepdim=True)
    probs = detections.probs()
    squared = probs.square().sum(dim=1, keepdim=True)
    if detections.score_kind == "softmax":
        background = 1 - probs.sum(dim=1, keepdim=True)
        squared = squared + background.square()
        of_nothing = squared - 2 * background + 1
    else:
        of_nothing = squared
    # ||p - e_c||^2 = ||p||^2 - 2 p_c + 1
    residual = (belief * (squared - 2 * probs + 1).clamp_min(0).sqrt()).sum(dim=1)
    residual = residual + (nothing.clamp_min(0) * of_nothing.clamp_min(0).sqrt())[:, 0]
    return residual * length


def output_change(
    detections: Detections,
    references: References,
    calibration: Calibration,
    *,
    output: Output = "scores",
    kernel: Kernel = "linear",
) -> Tensor:
    """Expected change of the references' outputs after one gradient step on each box.

    ``mean_r sum_c g_rc E|p_uc - y_c| |k(u, r)|``: the summed absolute change over the classes of
    each reference's scores (``g_rc = p_rc (1 - p_rc)``, the slope of the sigmoid there) or of its
    logits (``g_rc = 1``), with ``E|p_uc - y_c| = q_uc (1 - p_uc) + (1 - q_uc) p_uc`` and q the
    calibrated p. The step length is left out; it would scale all boxes alike.

    Args:
        detections: The boxes that might be learned.
        references: Where the change is measured.
        calibration: What the answer is expected to be.
        output: ``scores`` or ``logits``.
        kernel: ``linear``, the inner product <h_u, h_r> as the last layer has it, or ``cosine``,
            which leaves the norms of the features out.

    Returns:
        (N,) float32, >= 0. O(N R (C + D)) in blocks of 8,192 boxes; a block holds R numbers a box.

    Raises:
        ConfigError: If the detector gives no object features.
    """
    probs = references.probs
    slope = probs * (1 - probs) if output == "scores" else torch.ones_like(probs)
    residual = expected_residual(detections, calibration)
    parts = [
        (block.abs() * (residual[rows] @ slope.T)).mean(dim=1)
        for rows, block in _kernel_blocks(detections, references, kernel, "`emoc`")
    ]
    return torch.cat([residual.new_zeros(0), *parts])


def expected_residual(
    detections: Detections, calibration: Calibration, rows: Tensor | None = None
) -> Tensor:
    """(N, C) ``E|p - y| = q (1 - p) + (1 - q) p`` of each box and class, q the calibrated p.

    With ``rows`` (k,) those of the detections ``rows`` only, (k, C).
    """
    stated = detections.probs(rows)
    belief = _as_one_thing(calibration(stated))
    return belief * (1 - stated) + (1 - belief) * stated


def error_reduction(
    detections: Detections,
    references: References,
    calibration: Calibration,
    *,
    risk: Risk = "entropy",
) -> Tensor:
    """Expected fall of the references' expected error after each box was learned.

    A step moves the score of class c at reference r by ``d = g_rc (y_c - p_uc) k(u, r)`` with
    ``g_rc = p_rc (1 - p_rc)``. To first order nothing is gained: an answer that is expected to
    raise a score was in that score already. What is left is the second order, minus half the
    curvature of the risk times ``E d^2``, which for the entropy (curvature ``-1 / g``) gives
    ``mean_r sum_c g_rc E(y_c - p_uc)^2 k(u, r)^2 / 2`` and for the squared error ``p (1 - p)``
    (curvature -2) the same with ``2 g_rc^2`` for ``g_rc``. k is the cosine, so that a step moves a
    logit by at most one and the expansion holds.

    Args:
        detections: The boxes that might be learned.
        references: Whose error counts.
        calibration: What the answer is expected to be.
        risk: ``entropy`` or ``error``.

    Returns:
        (N,) float32, >= 0. Cost as for `output_change`.

    Raises:
        ConfigError: If the detector gives no object features.
    """
    slope = references.probs * (1 - references.probs)
    gain = slope / 2 if risk == "entropy" else slope.square()
    belief, stated = _belief(detections, calibration), detections.probs()
    residual = belief * (1 - stated).square() + (1 - belief) * stated.square()
    parts = [
        (block.square() * (residual[rows] @ gain.T)).mean(dim=1)
        for rows, block in _kernel_blocks(
            detections, references, "cosine", "`expected_error_reduction`"
        )
    ]
    return torch.cat([residual.new_zeros(0), *parts])


def _belief(detections: Detections, calibration: Calibration) -> Tensor:
    """(N, C) probability that the answer is each class; a box is one thing, so at most 1 a row."""
    return _as_one_thing(calibration(detections.probs()))


def _as_one_thing(belief: Tensor) -> Tensor:
    return belief / belief.sum(dim=1, keepdim=True).clamp_min(1)


def _kernel_blocks(
    detections: Detections, references: References, kernel: Kernel, purpose: str
) -> Iterator[tuple[slice, Tensor]]:
    """Rows of the detections and their kernel values (rows, R)."""
    features, others = object_features(detections, purpose), references.features
    others = normalize(others, dim=1) if kernel == "cosine" else others
    for start in range(0, len(features), _BLOCK):
        rows = slice(start, start + _BLOCK)
        block = features[rows]
        yield rows, (normalize(block, dim=1) if kernel == "cosine" else block) @ others.T


def object_features(detections: Detections, purpose: str) -> Tensor:
    """(N, D) float32 features of the boxes, which ``purpose`` needs.

    Raises:
        ConfigError: If the detector gives none.
    """
    if detections.object_features is not None:
        return detections.object_features.float()
    if detections.num_boxes:
        raise ConfigError(
            f"{purpose} needs object features, and this detector gives none: use a detector with "
            "weights, or `entropy` or `margin`, which look at scores only"
        )
    return torch.zeros(0, 1, device=detections.boxes.device)
