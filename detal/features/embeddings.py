"""What makes a box or an image comparable with others: features, gradients, class mixtures.

Pure functions over packed detections, on the device they lie on. N detections, B images, C classes,
D features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from detal.errors import ConfigError
from detal.structures import Detections

__all__ = ["class_contexts", "class_gradients", "require_object_features"]

_LOWEST_LOG = -1e4


def require_object_features(detections: Detections, *, purpose: str) -> Tensor:
    """(N, D) float32 object features; D is 0 where there are no boxes to have any.

    Args:
        detections: Of B images.
        purpose: What needs them, for the message.

    Raises:
        ConfigError: If the detector gives no object features.
    """
    if detections.object_features is not None:
        return detections.object_features.float()
    if detections.num_boxes == 0:
        return detections.boxes.new_zeros(0, 0)
    raise ConfigError(
        f"`{purpose}` needs a feature for each box, and these detections have none: score the pool "
        "with a detector with weights, or use `cdal` (class probabilities only) or `core_set` "
        "(image features)"
    )


def class_gradients(detections: Detections) -> Tensor:
    """Derivative of the class loss by the logits, were the likeliest answer the true one.

    ``p - y``: for softmax scores y is the likeliest of classes and background; for sigmoid scores
    each class is answered for itself, 1 above p = 0.5, so that a weak box is likeliest nothing
    and has a small gradient. The gradient of the last layer's weights is its outer product with the
    object feature (BADGE, Ash et al., ICLR 2020); nobody has to form that product, as
    ``<a x f, b x g> = <a, b> <f, g>``.

    Returns:
        (N, C) float32 for sigmoid scores, (N, C + 1) for softmax scores, background last.
    """
    logits = detections.logits.float()
    if detections.score_kind == "sigmoid":
        probs = logits.sigmoid()
        return probs.sub_(probs.round())
    probs = logits.softmax(dim=1)
    return probs.scatter_add(1, probs.argmax(dim=1, keepdim=True), -torch.ones_like(probs[:, :1]))


def class_contexts(detections: Detections) -> Tensor:
    """Which classes an image is about, as far as the detector wavers between them.

    CDAL's descriptor (Agarwal et al., ECCV 2020): the softmax over the classes' logits (background
    left out) of each box, averaged over the image with the boxes' entropies as weights. If no box
    has any entropy they count equally; an image without boxes has equal shares of all classes.

    Returns:
        (B, C) float32 that sums to 1 over the classes.
    """
    log_probs = detections.logits[:, : detections.num_classes].float().log_softmax(dim=1)
    probs = log_probs.exp()
    # The bound keeps 0 * -inf from being NaN.
    entropy = -log_probs.clamp_(min=_LOWEST_LOG).mul_(probs).sum(dim=1)
    index = detections.image_index
    shape = (detections.num_images,)
    total = probs.new_zeros(shape).index_add_(0, index, entropy)
    weight = torch.where(total[index] > 0, entropy, 1.0)
    total = probs.new_zeros(shape).index_add_(0, index, weight)
    shares = probs.mul_((weight / total[index])[:, None])
    context = probs.new_zeros(*shape, probs.shape[1]).index_add_(0, index, shares)
    context[detections.counts == 0] = 1 / probs.shape[1]
    return context
