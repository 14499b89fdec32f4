"""A loaded torchvision model as a `Detector`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detal.detectors.detector import Prepared
from detal.detectors.projection import projection
from detal.detectors.suppression import cluster_spread, suppress
from detal.detectors.torchvision_heads import Candidates
from detal.errors import DetectorError
from detal.structures import Detections, ScoreKind

__all__ = ["Family", "TorchvisionDetector"]

_OBJECT_WIDTH = 256
_IMAGE_WIDTH = 512


class Family(NamedTuple):
    """A kind of detector: what its scores are, and how its candidates are found."""

    score_kind: ScoreKind
    candidates: Callable[[Any, Any, float], Candidates]


class TorchvisionDetector:
    """See `detal.detectors.Detector`; `detal.detectors.load_torchvision` makes them.

    Args:
        model: The torchvision model in eval mode.
        family: Which kind it is.
        architecture: Its name.
        class_names: C names.
        drop_first: The first of its sigmoid outputs stands for no class.
        fingerprint: Hash of the weights.
        device: Where the model is.
        half: Autocast to half precision.
        score_threshold: Boxes are kept if their score is greater.
        nms_iou: Overlap above which the weaker box of a class is dropped.
        max_detections: Boxes kept per image.
    """

    def __init__(  # noqa: PLR0913 - one value each, set once by the loader
        self,
        model: Any,
        *,
        family: Family,
        architecture: str,
        class_names: tuple[str, ...],
        drop_first: bool,
        fingerprint: str,
        device: torch.device,
        half: bool,
        score_threshold: float,
        nms_iou: float,
        max_detections: int,
    ) -> None:
        self.class_names = class_names
        self.score_kind = family.score_kind
        self.fingerprint = fingerprint
        self.device = device
        size = model.transform.fixed_size or (
            model.transform.min_size[-1],
            model.transform.max_size,
        )
        self.settings: dict[str, Any] = {
            "detector": "torchvision",
            "architecture": architecture,
            "image_size": list(size),
            "score_threshold": score_threshold,
            "nms_iou": nms_iou,
            "max_detections": max_detections,
            "precision": "fp16" if half else "fp32",
        }
        self._model = model
        self._family = family
        self._drop_first = drop_first
        self._half = half
        self._empty: Detections | None = None

    def prepare(self, pixels: NDArray[np.uint8], path: str) -> Prepared:
        """Take one decoded RGB image (H, W, 3) as it is; torchvision resizes on the device."""
        size_hw = (pixels.shape[0], pixels.shape[1])
        return Prepared(
            path=path,
            tensor=pixels.transpose(2, 0, 1),
            size_hw=size_hw,
            batch_key=self._padded_hw(*size_hw),
        )

    def _padded_hw(self, height: int, width: int) -> tuple[int, int]:
        """Size of the padded network input, so that images that share it need no other padding."""
        transform = self._model.transform
        if transform.fixed_size is not None:
            return int(transform.fixed_size[1]), int(transform.fixed_size[0])
        short, long = min(height, width), max(height, width)
        scale = min(transform.min_size[-1] / short, transform.max_size / long)
        step = int(transform.size_divisible)
        padded = [math.ceil(math.floor(side * scale) / step) * step for side in (height, width)]
        return padded[0], padded[1]

    @torch.inference_mode()
    def predict(self, batch: Sequence[Prepared]) -> Detections:
        """Detections of one batch, on the CPU.

        Raises:
            DetectorError: If the network's output is not finite.
        """
        if not batch:
            return self._nothing()
        images = [self._upload(item.tensor) for item in batch]
        with torch.autocast("cuda", dtype=torch.float16, enabled=self._half):
            inputs, _ = self._model.transform(images)
            found = self._family.candidates(self._model, inputs, self.settings["score_threshold"])
        return self._finish(found, batch, inputs.image_sizes)

    def _upload(self, pixels: NDArray[np.uint8]) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(pixels))
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True).float().div_(255)

    def _finish(
        self, found: Candidates, batch: Sequence[Prepared], sizes_hw: list[tuple[int, int]]
    ) -> Detections:
        pooled = torch.cat([level.float().mean(dim=(2, 3)) for level in found.maps], dim=1)
        _check_finite(pooled, torch.arange(len(batch)), batch)
        found = self._without_first(found)
        iou = self.settings["nms_iou"]
        groups = {"images": found.images, "labels": found.labels, "iou_threshold": iou}
        limit = self.settings["max_detections"]
        keep = suppress(found.boxes, found.scores, max_detections=limit, **groups)
        spread = cluster_spread(found.boxes, found.scores, keep=keep, **groups)
        rows, images = found.rows[keep], found.images[keep].cpu()
        scale = torch.tensor(
            [
                [item.size_hw[1] / w, item.size_hw[0] / h] * 2
                for item, (h, w) in zip(batch, sizes_hw, strict=True)
            ]
        )[images]
        logits = found.logits[rows].cpu()
        _check_finite(logits, images, batch)
        return Detections(
            offsets=torch.searchsorted(images, torch.arange(len(batch) + 1)),
            boxes=found.boxes[keep].cpu() * scale,
            scores=found.scores[keep].cpu(),
            labels=found.labels[keep].cpu(),
            logits=logits,
            score_kind=self.score_kind,
            cluster_spread=spread.cpu() * scale,
            tightness=None if found.tightness is None else found.tightness[keep].cpu(),
            object_features=_narrow(found.object_features(rows).cpu(), _OBJECT_WIDTH),
            image_features=_narrow(pooled.cpu(), _IMAGE_WIDTH),
        )

    def _without_first(self, found: Candidates) -> Candidates:
        """Candidates without the sigmoid output that stands for no class."""
        if not self._drop_first:
            return found
        real = (found.labels > 0).nonzero()[:, 0]
        return found._replace(
            images=found.images[real],
            rows=found.rows[real],
            labels=found.labels[real] - 1,
            scores=found.scores[real],
            boxes=found.boxes[real],
            logits=found.logits[:, 1:],
        )

    def _nothing(self) -> Detections:
        """No images, every field as wide as `predict` makes it: learned from a black image once."""
        if self._empty is None:
            black = np.zeros((64, 64, 3), dtype=np.uint8)
            self._empty = self.predict([self.prepare(black, "a black image")]).take([])
        return self._empty


def _narrow(features: Tensor, limit: int) -> Tensor:
    matrix = projection(features.shape[1], limit=limit)
    return features if matrix is None else features @ matrix


def _check_finite(rows: Tensor, images: Tensor, batch: Sequence[Prepared]) -> None:
    bad = (~torch.isfinite(rows).all(dim=1)).nonzero()
    if len(bad):
        path = batch[int(images[bad[0, 0]])].path
        raise DetectorError(
            f"the network's output must be finite, it is not for {path}: the weights are damaged, "
            "or half precision overflows (detector.half=false)"
        )
