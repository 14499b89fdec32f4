"""Small pictures for pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from detal.datasets.images import read_image
from detal.datasets.threads import map_in_threads
from detal.errors import DataError

__all__ = ["encode", "thumbnail_side", "thumbnails"]

_QUALITY = 62
_SIDES = ((200, 480), (1_000, 320))
_LEAST_SIDE = 224


def thumbnail_side(images: int) -> int:
    """Longest side in pixels, so that a page of ``images`` stays small enough to be sent."""
    return next((side for most, side in _SIDES if images <= most), _LEAST_SIDE)


def encode(pixels: NDArray[np.uint8], *, longest: int, quality: int = _QUALITY) -> bytes:
    """WebP of an image, its longest side cut to ``longest`` pixels.

    Args:
        pixels: (H, W, 3) RGB.
        longest: Nothing is enlarged.
        quality: 1..100.
    """
    height, width = pixels.shape[:2]
    scale = longest / max(height, width)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, quality])
    return bytes(data)


def thumbnails(
    paths: Sequence[str], *, longest: int, progress: Callable[[int, int], None]
) -> Iterator[bytes | None]:
    """A WebP of each image, in order; None where an image cannot be read any more."""

    def make(path: str) -> bytes | None:
        try:
            return encode(read_image(path).pixels, longest=longest)
        except DataError:
            return None

    for done, data in enumerate(map_in_threads(make, paths), start=1):
        progress(done, len(paths))
        yield data
