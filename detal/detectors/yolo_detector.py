"""A loaded YOLO model as a `Detector`; knows nothing of the library the model came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detal.detectors.detector import Prepared
from detal.detectors.letterbox import Letterboxed, letterbox
from detal.detectors.suppression import cluster_spread, suppress, top_per_image
from detal.detectors.yolo_head import HeadOutput, OpenHead, rows_at
from detal.errors import DetectorError
from detal.structures import Detections, ScoreKind

__all__ = ["YoloDetector"]

# The networks were trained without: half would drown what they know.
_DROPOUT_RATE = 0.2
_PRECISIONS = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}


class _Candidates(NamedTuple):
    """Anchors above the score threshold, by image."""

    images: Tensor
    anchors: Tensor
    logits: Tensor
    scores: Tensor
    labels: Tensor


class YoloDetector:
    """See `detal.detectors.Detector`; `detal.detectors.load_yolo` makes them.

    Args:
        model: Calling it with (B, 3, H, W) in [0, 1] gives a `HeadOutput`; its last layer is the
            `OpenHead`.
        class_names: C names.
        fingerprint: Hash of the weights.
        device: Where the model is.
        dtype: What the model computes in.
        size_hw: Greatest network input.
        end_to_end: The head needs no suppression (one-to-one).
        score_threshold: Boxes are kept if their best class score is greater.
        nms_iou: Overlap above which the weaker box of a class is dropped.
        max_detections: Boxes kept per image.
        dropout_samples: Times the last classification layer runs with dropout for each kept box; 0
            gives no mutual information.
    """

    score_kind: ScoreKind = "sigmoid"

    def __init__(  # noqa: PLR0913 - one value each, set once by the loader
        self,
        model: nn.Module,
        *,
        class_names: tuple[str, ...],
        fingerprint: str,
        device: torch.device,
        dtype: torch.dtype,
        size_hw: tuple[int, int],
        end_to_end: bool,
        score_threshold: float,
        nms_iou: float,
        max_detections: int,
        dropout_samples: int = 0,
    ) -> None:
        self.class_names = class_names
        self.fingerprint = fingerprint
        self.device = device
        self.settings: dict[str, Any] = {
            "detector": "yolo",
            "image_size_hw": list(size_hw),
            "head": "one2one" if end_to_end else "one2many",
            "score_threshold": score_threshold,
            "nms_iou": nms_iou,
            "max_detections": max_detections,
            "precision": _PRECISIONS[dtype],
        }
        if dropout_samples:
            self.settings["dropout"] = {"samples": dropout_samples, "rate": _DROPOUT_RATE}
        self._model = model.to(memory_format=torch.channels_last)
        self._head = cast("OpenHead", list(cast("nn.Sequential", model.model))[-1])
        self._size_hw = size_hw
        self._stride = max(int(max(self._head.strides)), 32)
        self._dtype = dtype

    def prepare(self, pixels: NDArray[np.uint8], path: str) -> Prepared:
        """Letterbox one decoded RGB image (H, W, 3)."""
        boxed, transform = letterbox(pixels, size_hw=self._size_hw, stride=self._stride)
        return Prepared(
            path=path,
            tensor=boxed.transpose(2, 0, 1),
            size_hw=(pixels.shape[0], pixels.shape[1]),
            transform=transform,
            batch_key=boxed.shape,
        )

    @torch.inference_mode()
    def predict(self, batch: Sequence[Prepared]) -> Detections:
        """Detections of one batch, on the CPU.

        Raises:
            DetectorError: If the network's output is not finite.
        """
        if not batch:
            return self._nothing()
        output: HeadOutput = self._model(self._stack(batch))
        found = self._candidates(output, batch)
        boxes, spread = self._head.boxes(output, found.images, found.anchors)
        keep, cluster = self._keep(found, boxes)
        to_image = _to_image(batch, found.images[keep])
        images = found.images[keep].cpu()
        offsets = torch.searchsorted(images, torch.arange(len(batch) + 1))
        rows = (found.images[keep], found.anchors[keep])
        features = rows_at(output.class_maps, *rows)
        dropout = self.settings.get("dropout")
        shared = self._head.mutual_information(output, *rows, **dropout) if dropout else None
        result = Detections(
            offsets=offsets,
            boxes=to_image.boxes(boxes[keep].cpu()),
            scores=found.scores[keep].cpu(),
            labels=found.labels[keep].cpu(),
            logits=found.logits[keep].cpu(),
            score_kind=self.score_kind,
            box_spread=None if spread is None else spread[keep].cpu() / to_image.gain,
            cluster_spread=None if cluster is None else cluster.cpu() / to_image.gain,
            object_features=features.cpu(),
            image_features=output.pooled.cpu(),
            mutual_information=None if shared is None else shared.cpu(),
        )
        _check_finite(result, batch)
        return result

    def _stack(self, batch: Sequence[Prepared]) -> Tensor:
        """(B, 3, H, W) in [0, 1], channels last, on the device."""
        pixels = torch.from_numpy(np.stack([item.tensor.transpose(1, 2, 0) for item in batch]))
        if self.device.type == "cuda":
            pixels = pixels.pin_memory()
        pixels = pixels.to(self.device, non_blocking=True).permute(0, 3, 1, 2)
        return pixels.to(self._dtype).div_(255)

    def _candidates(self, output: HeadOutput, batch: Sequence[Prepared]) -> _Candidates:
        best = torch.cat([level.amax(dim=1).flatten(1) for level in output.logits], dim=1).float()
        finite = torch.isfinite(best).all(dim=1)
        if not finite.all():
            raise _not_finite(batch, int((~finite).nonzero()[0, 0]))
        images, anchors = (best.sigmoid() > self.settings["score_threshold"]).nonzero(as_tuple=True)
        logits = rows_at(output.logits, images, anchors)
        top, labels = logits.max(dim=1)
        return _Candidates(images, anchors, logits, top.sigmoid(), labels)

    def _keep(self, found: _Candidates, boxes: Tensor) -> tuple[Tensor, Tensor | None]:
        """Rows to keep, by image and best first, and their cluster spread in network pixels."""
        limit = self.settings["max_detections"]
        if self.settings["head"] == "one2one":
            everything = torch.arange(len(boxes), device=boxes.device)
            return top_per_image(everything, found.scores, images=found.images, limit=limit), None
        iou = self.settings["nms_iou"]
        groups = {"images": found.images, "labels": found.labels, "iou_threshold": iou}
        keep = suppress(boxes, found.scores, max_detections=limit, **groups)
        return keep, cluster_spread(boxes, found.scores, keep=keep, **groups)

    def _nothing(self) -> Detections:
        """No images, every field as wide as `predict` makes it."""
        head = self._head
        end_to_end = self.settings["head"] == "one2one"
        return Detections(
            offsets=torch.zeros(1, dtype=torch.int64),
            boxes=torch.zeros(0, 4),
            scores=torch.zeros(0),
            labels=torch.zeros(0, dtype=torch.int64),
            logits=torch.zeros(0, head.num_classes),
            score_kind=self.score_kind,
            box_spread=None if head.num_bins == 1 else torch.zeros(0, 4),
            cluster_spread=None if end_to_end else torch.zeros(0, 4),
            object_features=torch.zeros(0, head.feature_width),
            image_features=torch.zeros(0, head.pooled_width),
            mutual_information=torch.zeros(0) if "dropout" in self.settings else None,
        )


class _ToImage(NamedTuple):
    """Per detection: ``network = image * gain + pad``, and the image's size; (n, 4) xyxy each."""

    gain: Tensor
    pad: Tensor
    size: Tensor

    def boxes(self, boxes: Tensor) -> Tensor:
        """(n, 4) boxes in network pixels to image pixels, clipped to the image."""
        boxes = (boxes - self.pad) / self.gain
        return torch.minimum(boxes.clamp_min(0), self.size)


def _to_image(batch: Sequence[Prepared], images: Tensor) -> _ToImage:
    placed = [cast("Letterboxed", item.transform) for item in batch]
    rows = images.cpu()
    values = torch.tensor(
        [
            [*(p.gain_x, p.gain_y), *(p.pad_x, p.pad_y), item.size_hw[1], item.size_hw[0]]
            for p, item in zip(placed, batch, strict=True)
        ],
        dtype=torch.float32,
    )[rows]
    gain, pad, size = (values[:, i : i + 2].repeat(1, 2) for i in (0, 2, 4))
    return _ToImage(gain=gain, pad=pad, size=size)


def _not_finite(batch: Sequence[Prepared], image: int) -> DetectorError:
    return DetectorError(
        f"the network's output must be finite, it is not for {batch[image].path}: the weights are "
        "damaged, or half precision overflows (detector.half=false)"
    )


def _check_finite(result: Detections, batch: Sequence[Prepared]) -> None:
    fields = (result.boxes, result.logits, result.object_features)
    for rows in (field for field in fields if field is not None):
        bad = (~torch.isfinite(rows).all(dim=1)).nonzero()
        if len(bad):
            raise _not_finite(batch, int(result.image_index[bad[0, 0]]))
