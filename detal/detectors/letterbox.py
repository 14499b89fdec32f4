"""Resize and pad an image as YOLO's own predictor does for a single image."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Letterboxed", "letterbox"]

_GRAY = 114


class Letterboxed(NamedTuple):
    """How an image lies in the network's input: ``network = image * gain + pad``."""

    gain_x: float
    gain_y: float
    pad_x: int
    pad_y: int


def letterbox(
    pixels: NDArray[np.uint8], *, size_hw: tuple[int, int], stride: int
) -> tuple[NDArray[np.uint8], Letterboxed]:
    """Scale an image into ``size_hw``, keep its shape, pad each side up to a stride multiple only.

    Args:
        pixels: (H, W, 3) uint8.
        size_hw: Greatest height and width, multiples of ``stride``.
        stride: Coarsest stride of the network.

    Returns:
        (h, w, 3) uint8 and where the image lies in it.
    """
    height, width = pixels.shape[:2]
    scale = min(size_hw[0] / height, size_hw[1] / width)
    new_w, new_h = max(round(width * scale), 1), max(round(height * scale), 1)
    if (new_h, new_w) != (height, width):
        pixels = np.asarray(
            cv2.resize(pixels, (new_w, new_h), interpolation=cv2.INTER_LINEAR), dtype=np.uint8
        )
    half_w = ((size_hw[1] - new_w) % stride) / 2
    half_h = ((size_hw[0] - new_h) % stride) / 2
    # The odd pixel goes right and below: round(x - 0.1) before, round(x + 0.1) after.
    left, right = round(half_w - 0.1), round(half_w + 0.1)
    top, bottom = round(half_h - 0.1), round(half_h + 0.1)
    if left or right or top or bottom:
        padded: Any = cv2.copyMakeBorder(
            pixels, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(_GRAY,) * 3
        )
        pixels = np.asarray(padded, dtype=np.uint8)
    return pixels, Letterboxed(new_w / width, new_h / height, left, top)
