"""How wrong a detector is about each labelled image.

B images, N detections, M ground-truth boxes, C classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from detal.features.matching import match_detections
from detal.structures import Annotations, Detections

__all__ = ["detection_loss"]

_MISSED_LOSS = -math.log(0.01)
_LARGEST_LOGIT = 13.8


def detection_loss(
    detections: Detections, annotations: Annotations, *, iou_threshold: float = 0.5
) -> Tensor:
    """Each image's detection loss, from its kept detections.

    Detections are matched to objects whatever their class (`match_detections`). Class part: the
    cross-entropy of every detection with the class of its object, or background (sigmoid scores:
    summed over the classes), and for an object that was missed that of a box which gives it a
    probability of 0.01. Box part: 1 - IoU per object, 1 for a missed one. Both are summed and
    divided by the image's objects, or by 1 if it has none. Detections on crowds do not count, and
    no probability counts as less than a millionth.

    Returns:
        (B,) float64, >= 0 and finite.
    """
    matches = match_detections(
        detections, annotations, iou_threshold=iou_threshold, class_aware=False
    )
    wrong = _class_loss(detections, matches.label) + torch.where(
        matches.found, 1 - matches.iou, 0.0
    )
    wrong = wrong.double().masked_fill(matches.ignored, 0.0)
    total = wrong.new_zeros(len(detections)).index_add_(0, detections.image_index, wrong)
    image = torch.from_numpy(annotations.image_index).to(total.device)
    objects = ~torch.from_numpy(annotations.is_crowd).to(total.device)
    total.index_add_(0, image, matches.missed.double() * (_MISSED_LOSS + 1))
    count = total.new_zeros(len(detections)).index_add_(0, image, objects.double())
    return total / count.clamp_min(1)


def _class_loss(detections: Detections, label: Tensor) -> Tensor:
    """(N,) cross-entropy with class ``label`` (N,), -1 for background."""
    logits = detections.logits.float()
    if detections.score_kind == "softmax":
        target = torch.where(label < 0, logits.shape[1] - 1, label)
        log_prob = logits.log_softmax(dim=1).gather(1, target[:, None])[:, 0]
        return -log_prob.clamp_min(-_LARGEST_LOGIT)
    logits = logits.clamp(-_LARGEST_LOGIT, _LARGEST_LOGIT)
    own = logits.gather(1, label.clamp_min(0)[:, None])[:, 0]
    return softplus(logits).sum(dim=1) - torch.where(label < 0, 0.0, own)
