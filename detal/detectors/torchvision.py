"""torchvision's detectors: Faster R-CNN, RetinaNet, FCOS, SSD and SSDlite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import detection

from detal.detectors.detector import Detector
from detal.detectors.torchvision_detector import Family, TorchvisionDetector
from detal.detectors.torchvision_heads import (
    dense_candidates,
    ssd_candidates,
    two_stage_candidates,
)
from detal.detectors.weights import fingerprint, read_state_dict, resolve_device
from detal.errors import DetectorError, unknown_name
from detal.seeding import seed_torch

__all__ = ["TORCHVISION_ARCHITECTURES", "build_torchvision", "load_torchvision"]

_TWO_STAGE = Family("softmax", two_stage_candidates)
_DENSE = Family("sigmoid", dense_candidates)
_SSD = Family("softmax", ssd_candidates)

TORCHVISION_ARCHITECTURES = {
    "fasterrcnn_resnet50_fpn": _TWO_STAGE,
    "fasterrcnn_resnet50_fpn_v2": _TWO_STAGE,
    "fasterrcnn_mobilenet_v3_large_fpn": _TWO_STAGE,
    "fasterrcnn_mobilenet_v3_large_320_fpn": _TWO_STAGE,
    "retinanet_resnet50_fpn": _DENSE,
    "retinanet_resnet50_fpn_v2": _DENSE,
    "fcos_resnet50_fpn": _DENSE,
    "ssd300_vgg16": _SSD,
    "ssdlite320_mobilenet_v3_large": _SSD,
}


def load_torchvision(  # noqa: PLR0913 - what a user may choose, by keyword
    architecture: str,
    *,
    weights: str | Path | None,
    class_names: Sequence[str],
    device: str = "auto",
    image_size: int | None = None,
    score_threshold: float = 0.05,
    nms_iou: float | None = None,
    max_detections: int = 300,
    half: bool | None = None,
) -> Detector:
    """Load a torchvision detector.

    The checkpoint is a state dict, plain or under ``model``; it is read without running code. As in
    torchvision, class 0 of the network is background (softmax) or unused (RetinaNet, FCOS), so it
    has C + 1 outputs; RetinaNet and FCOS trained on labels 0..C-1 with C outputs are read too.

    Object features wider than 256 and image features wider than 512 are projected down
    (`detal.detectors.projection`).

    Args:
        architecture: One of ``TORCHVISION_ARCHITECTURES``.
        weights: Checkpoint; None: random weights.
        class_names: C names in label order, without background.
        device: ``auto``, ``cpu``, ``cuda[:i]`` or ``mps``.
        image_size: Short side of the network input in pixels, the limit of the long side scales
            along; None: the architecture's own. SSD and SSDlite have one size.
        score_threshold: Boxes are kept if their score is greater, in [0, 1].
        nms_iou: Overlap above which the weaker box of a class is dropped; None: the architecture's.
        max_detections: Boxes kept per image.
        half: Half precision; None: on CUDA. It has an effect on CUDA only.

    Raises:
        DetectorError: If the model cannot be loaded or does not fit the classes.
    """
    _check_architecture(architecture)
    names = tuple(class_names)
    if not names:
        raise DetectorError(f"{architecture} needs at least one class name")
    family = TORCHVISION_ARCHITECTURES[architecture]
    target = resolve_device(device)
    state = None if weights is None else read_state_dict(Path(weights))
    outputs = len(names) + 1
    if state is not None:
        outputs = _check_outputs(architecture, state, names, where=str(weights))
    model = _build(architecture, outputs)
    if state is not None:
        _fill(model, state, where=str(weights), architecture=architecture)
    _resize(model, architecture, image_size)
    return TorchvisionDetector(
        model.eval().requires_grad_(requires_grad=False).to(target),
        family=family,
        architecture=architecture,
        class_names=names,
        drop_first=family is _DENSE and outputs == len(names) + 1,
        fingerprint=fingerprint(model),
        device=target,
        half=target.type == "cuda" and half is not False,
        score_threshold=score_threshold,
        nms_iou=_own_nms_iou(model) if nms_iou is None else nms_iou,
        max_detections=max_detections,
    )


def build_torchvision(
    architecture: str, *, num_classes: int, image_size: int | None = None, seed: int = 0
) -> nn.Module:
    """A torchvision detector with random weights, for training.

    Args:
        architecture: One of ``TORCHVISION_ARCHITECTURES``.
        num_classes: C, without background; the network gets C + 1 outputs.
        image_size: As in `load_torchvision`.
        seed: Of the weights.

    Raises:
        DetectorError: If the architecture is unknown or has another fixed size.
    """
    _check_architecture(architecture)
    model: nn.Module = _build(architecture, num_classes + 1, seed=seed)
    _resize(model, architecture, image_size)
    return model


def _check_architecture(name: str) -> None:
    if name not in TORCHVISION_ARCHITECTURES:
        raise DetectorError(
            unknown_name("torchvision architecture", name, TORCHVISION_ARCHITECTURES)
        )


def _build(architecture: str, outputs: int, *, seed: int = 0) -> Any:
    with torch.random.fork_rng(devices=[]):
        seed_torch(seed)
        return getattr(detection, architecture)(
            weights=None, weights_backbone=None, num_classes=outputs
        )


def _check_outputs(
    architecture: str, state: dict[str, Tensor], names: tuple[str, ...], *, where: str
) -> int:
    """Class outputs of the checkpoint.

    Raises:
        DetectorError: If they do not fit the class names.
    """
    found = _count_outputs(architecture, state)
    allowed = {len(names) + 1}
    if TORCHVISION_ARCHITECTURES[architecture] is _DENSE:
        allowed.add(len(names))
    if found is None:
        raise DetectorError(
            f"{where} is not a checkpoint of {architecture}: it has no classification layer of "
            f"that name (its tensors start with {', '.join(list(state)[:3])})"
        )
    if found not in allowed:
        raise DetectorError(
            f"{where} has {found} class outputs including background, but {len(names)} class names "
            f"are given ({', '.join(names[:5])}{', …' if len(names) > 5 else ''}): it needs "
            f"{found - 1}"
        )
    return found


def _count_outputs(architecture: str, state: dict[str, Tensor]) -> int | None:
    if architecture.startswith("fasterrcnn"):
        bias = state.get("roi_heads.box_predictor.cls_score.bias")
        return None if bias is None else len(bias)
    prefix = "head.classification_head."
    biases = [
        len(value)
        for name, value in state.items()
        if name.startswith((f"{prefix}cls_logits.bias", f"{prefix}module_list.0"))
        and name.endswith("bias")
    ]
    if not biases:
        return None
    anchors = {"retinanet": 9, "fcos": 1, "ssd300": 4, "ssdlite320": 6}
    per_place = anchors[architecture.split("_")[0]]
    return biases[-1] // per_place


def _fill(model: Any, state: dict[str, Tensor], *, where: str, architecture: str) -> None:
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:3]]
        raise DetectorError(
            f"{where} does not fit {architecture}: {' '.join(lines)[:300]}"
        ) from error


def _resize(model: Any, architecture: str, image_size: int | None) -> None:
    transform = model.transform
    if image_size is None:
        return
    if transform.fixed_size is not None:
        if tuple(transform.fixed_size) != (image_size, image_size):
            raise DetectorError(
                f"{architecture} has the fixed input size {transform.fixed_size[0]}, got "
                f"image_size={image_size}; leave it out"
            )
        return
    ratio = transform.max_size / transform.min_size[-1]
    transform.min_size = (image_size,)
    transform.max_size = math.ceil(image_size * ratio)


def _own_nms_iou(model: Any) -> float:
    owner = model.roi_heads if hasattr(model, "roi_heads") else model
    return float(owner.nms_thresh)
