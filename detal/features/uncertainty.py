"""How unsure a detector is about each kept box, and how many objects it expects.

Pure functions over packed detections, on the CPU or on CUDA; the result lies on the device of the
detections. Higher is always more informative. N detections, B images, C classes.

A class score means different things in different heads, so every measure says what it does for
independent ``sigmoid`` scores (YOLO, RetinaNet) and for a ``softmax`` with background (Faster
R-CNN).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from detal.structures import Detections

__all__ = [
    "EntropyOver",
    "Rivals",
    "entropy",
    "expected_boxes",
    "expected_class_counts",
    "least_confidence",
    "margin",
]

EntropyOver = Literal["auto", "top", "classes"]
Rivals = Literal["background", "classes"]


def entropy(detections: Detections, *, over: EntropyOver = "auto") -> Tensor:
    """Entropy of each box's class scores, in nats.

    ``top`` is the binary entropy of the box's score, in [0, ln 2]: PPAL and ENMS/DivProto use it.
    ``classes`` is, for sigmoid scores, the sum over the classes of their binary entropies, in
    [0, C ln 2] (with many classes the tiny scores of absent ones add up); for softmax scores it is
    the categorical entropy over classes and background, in [0, ln(C + 1)]. ``auto`` is ``top`` for
    sigmoid and ``classes`` for softmax scores.

    Returns:
        (N,) float32.
    """
    softmax = detections.score_kind == "softmax"
    if over == "top" or (over == "auto" and not softmax):
        score = detections.scores.float()
        return _entr(score) + _entr(1 - score)
    logits = detections.logits.float()
    if softmax:
        return _entr(logits.softmax(dim=1)).sum(dim=1)
    # sigmoid(-x) is 1 - sigmoid(x) without its rounding near 1.
    return (_entr(logits.sigmoid()) + _entr((-logits).sigmoid())).sum(dim=1)


def _entr(probs: Tensor) -> Tensor:
    """-p ln p, 0 at 0."""
    return -torch.xlogy(probs, probs)


def margin(detections: Detections, *, rivals: Rivals = "background") -> Tensor:
    """One minus the lead of the best hypothesis over the second best, in [0, 1].

    Hypotheses with ``background``: softmax, the classes and background; sigmoid, the two best
    classes and "none of the best class" (1 - p1), so that one class alone gives 1 - |2 p - 1|.
    With ``classes`` only the classes compete, which is Brust et al.'s "1-vs-2" (unsquared); the
    rival of a lone class then has probability 0.

    Returns:
        (N,) float32.
    """
    best = _hypotheses(detections, rivals).topk(2, dim=1).values
    return 1 - (best[:, 0] - best[:, 1])


def least_confidence(detections: Detections, *, rivals: Rivals = "background") -> Tensor:
    """One minus the probability of the best hypothesis, in [0, 1].

    With ``background`` a box that is surely nothing is a sure box: min(p, 1 - p) for sigmoid
    scores, one minus the largest of classes and background for softmax. With ``classes`` it is one
    minus the best class probability (Lightly's least confidence): every weak box counts as
    informative, so the detector's score threshold decides the result.

    Returns:
        (N,) float32.
    """
    return 1 - _hypotheses(detections, rivals).amax(dim=1)


def _hypotheses(detections: Detections, rivals: Rivals) -> Tensor:
    """(N, 2 or more) probabilities of what a box may be; columns are not in order."""
    if detections.score_kind == "softmax" and rivals == "background":
        return detections.logits.float().softmax(dim=1)
    probs = detections.probs()
    best = probs.topk(min(2, probs.shape[1]), dim=1).values
    none = 1 - best[:, :1] if rivals == "background" else torch.zeros_like(best[:, :1])
    return torch.cat([best, none], dim=1)


def expected_boxes(detections: Detections) -> Tensor:
    """(B,) float64 objects expected in each image: the sum of its scores; 0 without detections."""
    total = torch.zeros(detections.num_images, dtype=torch.float64, device=detections.scores.device)
    return total.index_add_(0, detections.image_index, detections.scores.double())


def expected_class_counts(detections: Detections) -> Tensor:
    """(B, C) float64 objects of each class expected in each image; rows sum to `expected_boxes`.

    A detection adds its score to its own label only: where suppression runs per class an object
    that may be two things is kept twice, and spreading each over all classes would count it twice.
    """
    shape = (detections.num_images, detections.num_classes)
    flat = torch.zeros(shape[0] * shape[1], dtype=torch.float64, device=detections.scores.device)
    cell = detections.image_index * shape[1] + detections.labels
    return flat.index_add_(0, cell, detections.scores.double()).view(shape)
