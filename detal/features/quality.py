"""How an image looks, whatever is in it: measured on its pixels when they are decoded anyway."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["QUALITY_COLUMNS", "Quality", "image_quality"]

_LONG_SIDE = 320


class Quality(NamedTuple):
    """What is measured on one image.

    Attributes:
        sharpness: Variance of the Laplacian of the grey image (Pech-Pacheco et al., "Diatom
            autofocusing in brightfield microscopy", 2000), >= 0; below about 50 most photographs
            look blurred. Noise and compression artefacts count as sharp.
        luminance: Mean grey value, 0 (black) to 255 (white).
        contrast: Standard deviation of the grey values, 0 to 127.5.
    """

    sharpness: float
    luminance: float
    contrast: float


QUALITY_COLUMNS = Quality._fields


def image_quality(pixels: NDArray[np.uint8]) -> Quality:
    """Measure one image on its grey version, reduced to at most 320 pixels on the long side.

    It is reduced by a whole number, by averaging, which costs a tenth of any other factor. Blur
    that is finer than that is not seen, and sensor noise hardly; compare sharpness between images
    of about one size.

    Args:
        pixels: (H, W, 3) uint8 RGB, at least one pixel.
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    factor = min(-(-max(height, width) // _LONG_SIDE), height, width)
    if factor > 1:
        size_wh = width // factor, height // factor
        whole = grey[: size_wh[1] * factor, : size_wh[0] * factor]
        grey = cv2.resize(whole, size_wh, interpolation=cv2.INTER_AREA)
    luminance, contrast = (float(value.item()) for value in cv2.meanStdDev(grey))
    # 8-bit sums of the 3 x 3 kernel fit into 16 bits.
    _, spread = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))
    return Quality(sharpness=float(spread.item()) ** 2, luminance=luminance, contrast=contrast)
