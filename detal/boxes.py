"""Box formats at the edges; inside the package boxes are xyxy in absolute pixels.

Geometry proper (IoU, NMS) is torchvision.ops; these are the conversions that readers and writers
need, on NumPy arrays. Shapes: N boxes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["cxcywhn_to_xyxy", "invalid_boxes", "xywh_to_xyxy", "xyxy_to_cxcywhn", "xyxy_to_xywh"]

Array = NDArray[Any]


def xywh_to_xyxy(boxes_xywh: Array) -> Array:
    """(N, 4) left, top, width, height to (N, 4) xyxy, same unit."""
    boxes = np.asarray(boxes_xywh, dtype=np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def xyxy_to_xywh(boxes: Array) -> Array:
    """(N, 4) xyxy to (N, 4) left, top, width, height, same unit."""
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def cxcywhn_to_xyxy(boxes_cxcywhn: Array, *, width: int, height: int) -> Array:
    """(N, 4) centre x, centre y, width, height in [0, 1] to (N, 4) xyxy in pixels."""
    boxes = np.asarray(boxes_cxcywhn, dtype=np.float64).reshape(-1, 4)
    half = boxes[:, 2:] / 2
    corners = np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
    return corners * np.array([width, height, width, height], dtype=np.float64)


def xyxy_to_cxcywhn(boxes: Array, *, width: int, height: int) -> Array:
    """(N, 4) xyxy in pixels to (N, 4) centre x, centre y, width, height in [0, 1]."""
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    boxes = boxes / np.array([width, height, width, height], dtype=np.float64)
    size = boxes[:, 2:] - boxes[:, :2]
    return np.concatenate([boxes[:, :2] + size / 2, size], axis=1)


def invalid_boxes(boxes: Array) -> NDArray[np.bool_]:
    """(N,) True where an xyxy box is not finite or has no positive width and height."""
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    finite = np.isfinite(boxes).all(axis=1)
    with np.errstate(invalid="ignore"):
        positive = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    return np.asarray(~(finite & positive))
