"""How much the boxes of each class should count.

C classes, N detections, M ground-truth boxes of labelled images.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detal.features.matching import match_detections
from detal.structures import Annotations, Detections

__all__ = ["class_quality", "difficulty_weights", "inverse_frequency_weights"]


def inverse_frequency_weights(counts: NDArray[Any]) -> NDArray[np.float64]:
    """(C,) weights inverse to how many objects of each class are labelled.

    ``(mean + s) / (count + s)`` with ``s = max(1, mean / 10)``: a class of mean frequency weighs 1,
    one that was never labelled at most eleven times that.

    Args:
        counts: (C,) labelled objects, >= 0.
    """
    counts = np.asarray(counts, dtype=np.float64)
    mean = float(counts.mean()) if len(counts) else 0.0
    smoothing = max(1.0, mean / 10)
    return np.asarray((mean + smoothing) / (counts + smoothing))


def class_quality(
    detections: Detections, annotations: Annotations, *, xi: float = 0.6, iou_threshold: float = 0.5
) -> Tensor:
    """How well the objects of each class are found: the mean of p^xi * IoU^(1 - xi).

    PPAL's quality (Yang et al., CVPR 2024): p is the probability that the detection gives the
    object's true class. PPAL averages it over positive anchors while it trains; without a hook into
    the user's training this looks once, after training, at the labelled images' detections, matched
    whatever their class. An object that was missed has quality 0. As the images were trained on,
    the figure flatters; it is the order of the classes that the weights need.

    Args:
        detections: Of the labelled images.
        annotations: Of the same images, in the detector's label order.
        xi: Share of the class probability, in [0, 1].
        iou_threshold: Overlap from which a detection has found an object.

    Returns:
        (C,) float64 in [0, 1]; 0 for classes without objects.
    """
    matches = match_detections(
        detections, annotations, iou_threshold=iou_threshold, class_aware=False
    )
    rows = matches.found.nonzero()[:, 0]
    label = matches.label[rows]
    prob = detections.probs(rows).gather(1, label[:, None])[:, 0].double()
    quality = prob.pow(xi) * matches.iou[rows].double().pow(1 - xi)
    count = torch.from_numpy(annotations.class_counts(detections.num_classes)).to(label.device)
    total = quality.new_zeros(detections.num_classes).index_add_(0, label, quality)
    return total / count.clamp_min(1)


def difficulty_weights(quality: Tensor, *, alpha: float = 0.3, beta: float = 0.2) -> Tensor:
    """(C,) PPAL's class weights from `class_quality` (C,), in [1, 1 + beta].

    ``1 + alpha * beta * ln(b * (1 - quality) + 1)`` with ``b = e^(1 / alpha) - 1``: they rise
    steeply where a class begins to be hard and level off; a class that is never found weighs
    ``1 + beta``.
    """
    b = math.exp(1 / alpha) - 1
    return 1 + alpha * beta * torch.log(b * (1 - quality) + 1)
