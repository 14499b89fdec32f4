"""How unsure a detector is about where each kept box ends.

Pure functions over packed detections; the result lies on the device of the detections. N
detections. Deviations are divided by the box's own width or height, so that five pixels mean more
on a small box.
"""

from __future__ import annotations

import torch
from torch import Tensor

from detal.errors import ConfigError
from detal.structures import Detections

__all__ = ["box_spread", "cluster_spread", "tightness_conflict"]

_SMALLEST_SIDE_PX = 1.0


def box_spread(detections: Detections) -> Tensor:
    """Mean over the four sides of the stated standard deviation, as a share of the box.

    The deviation is that of the distribution-focal bins (YOLOv8, 9, 11, 12); left and right are
    divided by the width, top and bottom by the height, each at least one pixel.

    Returns:
        (N,) float32, >= 0.

    Raises:
        ConfigError: If the detector states none, naming what to use instead.
    """
    if detections.box_spread is None:
        return _without(
            detections,
            "`box_spread` needs a detector that predicts a distribution for each box side (YOLOv8, "
            "9, 11 or 12), and this one does not: use `cluster_spread`, `entropy` or `margin`",
        )
    return _relative(detections.box_spread, detections.boxes)


def cluster_spread(detections: Detections) -> Tensor:
    """Mean over the four sides of the deviation among the suppressed boxes, as a share of the box.

    Non-maximum suppression merges overlapping boxes of a class into the best one; where they
    disagree about a side, the detector is unsure of it. A lone box has spread 0, which says nothing
    about it.

    Returns:
        (N,) float32, >= 0.

    Raises:
        ConfigError: If there was no suppression, naming what to use instead.
    """
    if detections.cluster_spread is None:
        return _without(
            detections,
            "`cluster_spread` needs the boxes that suppression removed, and this detector has none "
            "(predictions from a file, or a head without suppression): use `entropy`, `margin` or, "
            "with YOLOv8, 9, 11 or 12, `box_spread`",
        )
    return _relative(detections.cluster_spread, detections.boxes)


def tightness_conflict(detections: Detections) -> Tensor:
    """1 - |tightness + score - 1|: large where a box is sure and loose, or tight and unsure.

    Tightness is the IoU of a box with the proposal it was refined from.

    Returns:
        (N,) float32 in [0, 1].

    Raises:
        ConfigError: If the detector has no proposals, naming what to use instead.
    """
    if detections.tightness is None:
        return _without(
            detections,
            "`localisation_tightness` needs a detector in two stages (Faster R-CNN), and this one "
            "has no proposals: use `cluster_spread`, `entropy` or, with YOLOv8, 9, 11 or 12, "
            "`box_spread`",
        )
    return 1 - (detections.tightness.float() + detections.scores.float() - 1).abs()


def _relative(spread: Tensor, boxes: Tensor) -> Tensor:
    sides = (boxes[:, 2:] - boxes[:, :2]).float().clamp_min(_SMALLEST_SIDE_PX)
    return (spread.float() / sides.repeat(1, 2)).mean(dim=1)


def _without(detections: Detections, message: str) -> Tensor:
    """Nothing for no boxes, whatever their detector; else the error."""
    if detections.num_boxes:
        raise ConfigError(message)
    return torch.zeros(0, device=detections.boxes.device)
