"""Augmented views: a detector that looks at a changed image and answers in pixels of the original.

A view keeps the size of the image, so that views share batches like the images themselves, and is
an affine map: a (2, 3) matrix from points of the image to points of the view, where a point is
measured from the corner of the first pixel, as box coordinates are.

Shapes: B images, N detections.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detal.detectors.detector import Detector, Prepared
from detal.errors import ConfigError, unknown_name
from detal.seeding import generator
from detal.structures import Detections, ScoreKind

__all__ = ["VIEWS", "View", "view_of"]

Pixels = NDArray[np.uint8]
Matrix = NDArray[np.float64]

# What detectors pad with: the network has learned that there is nothing.
_GRAY = 114
_PATCHES = 2
_PATCH_SIDES = (0.05, 0.2)
_DOWNSCALE = 0.8
_DEGREES = 5.0
_SMALLEST_SIDE = 1.0


@dataclass(frozen=True)
class View:
    """One way to look at an image once more.

    Attributes:
        augment: From (H, W, 3) RGB pixels to the (H, W, 3) pixels of the view and the (2, 3) matrix
            from image to view. The same pixels always give the same view.
        settings: Its parameters, for the store's key.
    """

    augment: Callable[[Pixels], tuple[Pixels, Matrix]]
    settings: dict[str, Any] = field(default_factory=dict)


def _flip(pixels: Pixels) -> tuple[Pixels, Matrix]:
    width = pixels.shape[1]
    return np.ascontiguousarray(pixels[:, ::-1]), np.array([[-1.0, 0, width], [0, 1, 0]])


def _cutout(pixels: Pixels) -> tuple[Pixels, Matrix]:
    """Black patches at places that depend on the pixels alone."""
    rng = generator(0, "cutout", zlib.crc32(np.ascontiguousarray(pixels).data))
    size_hw = np.array(pixels.shape[:2])
    cut = pixels.copy()
    for _ in range(_PATCHES):
        sides = rng.uniform(*_PATCH_SIDES, size=2) * size_hw
        start = rng.uniform(0, size_hw - sides)
        top, left, bottom, right = np.concatenate([start, start + sides]).astype(int)
        cut[top:bottom, left:right] = 0
    return cut, np.eye(2, 3)


def _downscale(pixels: Pixels) -> tuple[Pixels, Matrix]:
    """The image made smaller, in the upper left of a grey canvas of its size."""
    height, width = pixels.shape[:2]
    small_w, small_h = max(int(width * _DOWNSCALE), 1), max(int(height * _DOWNSCALE), 1)
    canvas = np.full_like(pixels, _GRAY)
    canvas[:small_h, :small_w] = cv2.resize(
        pixels, (small_w, small_h), interpolation=cv2.INTER_AREA
    )
    return canvas, np.array([[small_w / width, 0, 0], [0, small_h / height, 0]])


def _rotate(pixels: Pixels) -> tuple[Pixels, Matrix]:
    """The image turned counter-clockwise about its centre, and shrunk so that no corner is lost."""
    height, width = pixels.shape[:2]
    cos, sin = math.cos(math.radians(_DEGREES)), math.sin(math.radians(_DEGREES))
    shrink_x = width / (width * cos + height * sin)
    shrink_y = height / (height * cos + width * sin)
    linear = np.array([[shrink_x * cos, shrink_x * sin], [-shrink_y * sin, shrink_y * cos]])
    centre = np.array([width / 2, height / 2])
    matrix = np.column_stack([linear, centre - linear @ centre])
    # OpenCV measures points from the centre of the first pixel.
    shifted = np.column_stack([linear, matrix @ [0.5, 0.5, 1] - 0.5])
    turned = cv2.warpAffine(
        pixels, shifted, (width, height), flags=cv2.INTER_LINEAR, borderValue=(_GRAY,) * 3
    )
    return np.asarray(turned, dtype=np.uint8), matrix


VIEWS: dict[str, View] = {
    "flip": View(_flip),
    "cutout": View(_cutout, {"patches": _PATCHES, "sides": list(_PATCH_SIDES)}),
    "downscale": View(_downscale, {"ratio": _DOWNSCALE}),
    "rotate": View(_rotate, {"degrees": _DEGREES}),
}
"""Name -> view, with the parameters of CALD's released code (Yu et al., CVPR-W 2022). It differs in
two: its patches are drawn again until one covers 10 to 40 % of a box, while ours are drawn before
anything is detected; and its smaller image is scaled up again by the detector, while ours stays
small, on a canvas."""


def view_of(detector: Detector, name: str) -> Detector:
    """The same detector, looking at a view of each image.

    Its boxes are in pixels of the original image: the box whose enclosing box in the view is the
    one found there (exact for all but rotations, for which it is the inverse of how CALD turns
    boxes), clipped to the image. Scores, logits and image features stay; spreads and object
    features are left out: sides mix under rotation, nothing reads them, and a store of views stays
    small.

    Args:
        detector: What looks.
        name: One of ``VIEWS``.

    Raises:
        ConfigError: If the view is unknown or the detector reads no pixels.
    """
    if name not in VIEWS:
        raise ConfigError(unknown_name("view", name, VIEWS))
    if detector.settings.get("detector") == "predictions":
        raise ConfigError(
            f"the view {name!r} needs a detector that can look at a changed image, predictions "
            "from a file cannot: use a detector with weights, or a strategy without views "
            "(entropy, margin)"
        )
    return _ViewDetector(detector, name, VIEWS[name])


class _Placed(NamedTuple):
    """The inner detector's transform of a view, and the view's own."""

    inner: Any
    to_view: Matrix


class _ViewDetector:
    """See `detal.detectors.Detector`."""

    def __init__(self, inner: Detector, name: str, view: View) -> None:
        self.class_names: tuple[str, ...] = inner.class_names
        self.score_kind: ScoreKind = inner.score_kind
        self.settings: dict[str, Any] = {**inner.settings, "view": {"name": name, **view.settings}}
        self.fingerprint: str = inner.fingerprint
        self.device: torch.device = inner.device
        self._inner = inner
        self._view = view

    def prepare(self, pixels: NDArray[np.uint8], path: str) -> Prepared:
        """Make the view of one decoded RGB image (H, W, 3) ready for the network."""
        seen, to_view = self._view.augment(pixels)
        prepared = self._inner.prepare(seen, path)
        return replace(prepared, transform=_Placed(prepared.transform, to_view))

    def predict(self, batch: Sequence[Prepared]) -> Detections:
        """Detections of one batch of views, on the CPU, boxes in pixels of the images.

        Raises:
            DetectorError: If the network's output is not finite.
        """
        inner = [replace(item, transform=item.transform.inner) for item in batch]
        found = self._inner.predict(inner)
        boxes = _to_image(
            found.boxes,
            found.image_index,
            to_view=np.array([item.transform.to_view for item in batch]).reshape(-1, 2, 3),
            size_wh=np.array([item.size_hw[::-1] for item in batch]).reshape(-1, 2),
        )
        return replace(
            found,
            boxes=boxes,
            box_spread=None,
            cluster_spread=None,
            object_features=None,
            mutual_information=None,
            tightness=None,
        )


def _to_image(
    boxes: Tensor, images: Tensor, *, to_view: NDArray[np.float64], size_wh: NDArray[np.int64]
) -> Tensor:
    """(N, 4) boxes of views in pixels of the original images.

    Args:
        boxes: (N, 4) xyxy in the views.
        images: (N,) image of each.
        to_view: (B, 2, 3) from image to view.
        size_wh: (B, 2) of the images.
    """
    linear = to_view[:, :, :2]
    back = torch.from_numpy(np.linalg.inv(linear))[images]
    # A box of size s has an enclosing box of size |linear| s in the view.
    shrink = torch.from_numpy(np.linalg.inv(np.abs(linear)))[images]
    offset = torch.from_numpy(to_view[:, :, 2])[images]
    limit = torch.from_numpy(size_wh)[images].double()
    low, high = boxes.double().view(-1, 2, 2).unbind(1)
    centre = (back @ ((low + high) / 2 - offset)[:, :, None])[:, :, 0]
    # A box too slender to be the turned view of any stays one pixel across.
    size = (shrink @ (high - low)[:, :, None])[:, :, 0]
    size = torch.maximum(size, (high - low).clamp_max(_SMALLEST_SIDE))
    corners = torch.cat([centre - size / 2, centre + size / 2], dim=1)
    return torch.minimum(corners.clamp_min(0), limit.repeat(1, 2)).float()
