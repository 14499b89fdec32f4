"""What every detector offers."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from detal.structures import Detections, ScoreKind

__all__ = ["Detector", "Prepared"]


@dataclass(frozen=True, eq=False)
class Prepared:
    """One image, ready for the network.

    Attributes:
        path: Where it came from.
        tensor: What the network takes for this image: (3, H, W) uint8 RGB. Zero-sized for a
            detector that reads no pixels.
        size_hw: Height and width of the decoded image in pixels.
        transform: What maps network boxes back to the image; the detector's own business.
        batch_key: Images with equal keys may share a batch; their tensors may still differ in shape
            where the detector resizes them itself.
    """

    path: str
    tensor: NDArray[np.uint8]
    size_hw: tuple[int, int]
    transform: Any = None
    batch_key: Hashable = None


class Detector(Protocol):
    """A trained detector: one forward pass gives everything (`Detections`).

    Attributes:
        class_names: C names, in label order.
        score_kind: How ``logits`` become probabilities.
        settings: What, besides the weights, changes its output (input size, thresholds, precision):
            part of the store's key and of ``run.json``.
        fingerprint: Hash of the weights.
        device: Where the network runs. ``prepare`` may be called from several threads at once
            anywhere, ``predict`` where this is the CPU.
    """

    class_names: tuple[str, ...]
    score_kind: ScoreKind
    settings: dict[str, Any]
    fingerprint: str
    device: torch.device

    def prepare(self, pixels: NDArray[np.uint8], path: str) -> Prepared:
        """Make one decoded RGB image (H, W, 3) ready for the network."""
        ...

    def predict(self, batch: Sequence[Prepared]) -> Detections:
        """Detections of one batch of equal ``batch_key``, on the CPU, boxes in image pixels.

        An empty batch gives no images, with every field as wide as this detector makes it.

        Raises:
            DetectorError: If the network's output is not finite.
        """
        ...
