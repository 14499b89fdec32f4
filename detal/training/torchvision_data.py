"""A detal dataset as torchvision's detectors train on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from detal.datasets.dataset import Dataset
from detal.datasets.images import read_image
from detal.errors import DataError

__all__ = ["Sample", "TorchvisionDataset", "collate", "training_transform"]

Target = dict[str, Tensor]
Sample = tuple[Tensor, Target]


class TorchvisionDataset(torch.utils.data.Dataset[Sample]):
    """Images with targets in torchvision's format.

    An item is ``(image, target)``: the image (3, H, W) float32 in [0, 1]; ``boxes`` (n, 4) float32
    xyxy in pixels, ``labels`` (n,) int64 from 1 (0 is the background), ``image_id`` (index in the
    dataset), ``area`` (n,) float32 and ``iscrowd`` (n,) int64. Images without objects have n = 0.

    Args:
        dataset: An annotated dataset.
        transform: Maps ``(image, target)``, with the image uint8 and boxes as tv_tensors, to what
            the detector takes; by default nothing is changed. ``area`` is then that of the boxes.

    Raises:
        DataError: If the dataset has no annotations.
    """

    def __init__(
        self, dataset: Dataset, *, transform: Callable[[Any, Any], Any] | None = None
    ) -> None:
        if dataset.annotations is None:
            raise DataError(f"{dataset.name} must have annotations to be trained on")
        self.dataset = dataset
        self.annotations = dataset.annotations
        self.paths = dataset.images["path"].to_list()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        index = range(len(self))[index]
        pixels = torch.from_numpy(read_image(self.paths[index]).pixels).permute(2, 0, 1)
        image, target = tv_tensors.Image(pixels), self._target(index, tuple(pixels.shape[1:]))
        if self.transform is not None:
            image, target = self.transform(image, target)
            boxes = target["boxes"]
            target["area"] = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        image, target = _TO_FLOAT(image, target)
        return image, target

    def _target(self, index: int, size_hw: tuple[int, ...]) -> Target:
        found = self.annotations
        rows = slice(int(found.offsets[index]), int(found.offsets[index + 1]))
        return {
            "boxes": tv_tensors.BoundingBoxes(
                torch.from_numpy(found.boxes[rows].copy()), format="XYXY", canvas_size=size_hw
            ),
            "labels": torch.from_numpy(found.labels[rows] + 1),
            "image_id": torch.tensor(index),
            "area": torch.from_numpy(found.areas[rows].astype(np.float32)),
            "iscrowd": torch.from_numpy(found.is_crowd[rows].astype(np.int64)),
        }


_TO_FLOAT = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.ToPureTensor()])


def training_transform(
    *,
    flip: float = 0.5,
    scale: tuple[float, float] = (0.6, 1.4),
    translate: float = 0.1,
    colour: float = 0.3,
) -> Callable[[Any, Any], Any]:
    """Augmentation for training: mirror, shift and scale, colour; boxes that vanish are dropped.

    Args:
        flip: Probability of a horizontal mirror image.
        scale: Smallest and largest factor on the content's size; the canvas keeps its size.
        translate: Largest shift as a share of the canvas.
        colour: Strength of the change of brightness, contrast and saturation, 0 for none.
    """
    transform: Callable[[Any, Any], Any] = v2.Compose(
        [
            v2.RandomHorizontalFlip(flip),
            v2.RandomAffine(degrees=0, translate=(translate, translate), scale=scale, fill=114),
            v2.ColorJitter(colour, colour, colour, hue=colour / 10),
            v2.SanitizeBoundingBoxes(min_size=2.0, labels_getter=_columns),
        ]
    )
    return transform


def collate(samples: list[Sample]) -> tuple[list[Tensor], list[Target]]:
    """Images and targets of a batch, as torchvision's detectors take them."""
    images, targets = zip(*samples, strict=True)
    return list(images), list(targets)


def _columns(sample: tuple[Any, Target]) -> tuple[Tensor, ...]:
    """What has one row per box besides the boxes."""
    target = sample[1]
    return target["labels"], target["area"], target["iscrowd"]
