"""What the writers write: a batch with its images and the boxes to start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from detal.datasets.dataset import Dataset
from detal.datasets.images import image_size
from detal.errors import DataError
from detal.structures import Detections, Selection

__all__ = ["PIXEL_DIGITS", "SCORE_DIGITS", "Batch", "Image"]

PIXEL_DIGITS = 2
"""Decimals of a box in pixels; all formats state the same box."""
SCORE_DIGITS = 4
"""Decimals of a box's score."""


@dataclass(frozen=True)
class Image:
    """One selected image.

    Attributes:
        image_id: Its id in the source.
        path: Absolute path of its file.
        width: In pixels, as decoded.
        height: In pixels, as decoded.
        group: Sequence, video or camera, or None.
    """

    image_id: str
    path: str
    width: int
    height: int
    group: str | None


@dataclass(frozen=True, eq=False)
class Batch:
    """A selection, its K images and their pre-annotations, all in the selection's order.

    Attributes:
        selection: The K images chosen.
        images: The K images.
        detections: Pre-annotations of the K images: boxes of at least the minimum score, clipped to
            the image and rounded to 0.01 px; boxes without area left are dropped.
        expected_boxes: (K,) sum of all scores, before the minimum.
        class_names: C names, in label order.
        category_ids: C distinct ids, as the source numbers its classes.
        integer_ids: The image ids are integers in the source.
    """

    selection: Selection
    images: tuple[Image, ...]
    detections: Detections
    expected_boxes: NDArray[np.float64]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    integer_ids: bool

    @staticmethod
    def of(
        selection: Selection,
        *,
        dataset: Dataset,
        detections: Detections,
        class_names: Sequence[str],
        category_ids: Sequence[int],
        min_score: float = 0.25,
    ) -> Batch:
        """Gather what belongs to the selected images.

        Args:
            selection: The K images chosen.
            dataset: The pool they come from.
            detections: Of the K images, in the selection's order, on the CPU.
            class_names: C names, in the detector's label order.
            category_ids: C distinct ids.
            min_score: Predicted boxes below are not offered.

        Raises:
            DataError: If the parts do not fit together, or an image file is missing.
        """
        if len(detections) != len(selection):
            raise DataError(
                f"detections must be those of the {len(selection)} selected images, got "
                f"{len(detections)} images"
            )
        if len(class_names) != len(set(category_ids)) or len(class_names) != len(category_ids):
            raise DataError(
                f"each of the {len(class_names)} classes must have a category id of its own, got "
                f"{list(category_ids)}"
            )
        images = _images(dataset, selection)
        expected = np.zeros(len(images))
        np.add.at(expected, detections.image_index.numpy(), detections.scores.double().numpy())
        return Batch(
            selection=selection,
            images=images,
            detections=_offered(detections, images, min_score),
            expected_boxes=expected,
            class_names=tuple(class_names),
            category_ids=tuple(category_ids),
            integer_ids=dataset.integer_ids,
        )

    def __len__(self) -> int:
        return len(self.images)


def _images(dataset: Dataset, selection: Selection) -> tuple[Image, ...]:
    rows = dataset.images[dataset.index_of(selection.image_ids)]
    columns = rows.select("image_id", "path", "width", "height", "group")
    images = []
    for image_id, path, width, height, group in columns.iter_rows():
        if width is None or height is None:
            width, height = image_size(path)
        images.append(Image(image_id, path, width, height, group))
    return tuple(images)


def _offered(detections: Detections, images: tuple[Image, ...], min_score: float) -> Detections:
    sizes = torch.tensor([[i.width, i.height, i.width, i.height] for i in images] or [[0.0] * 4])
    limits = sizes.to(torch.float32)[: len(images)][detections.image_index]
    boxes = detections.boxes.float().clamp(min=0).minimum(limits).round(decimals=PIXEL_DIGITS)
    keep = (boxes[:, 2:] > boxes[:, :2]).all(dim=1) & (detections.scores >= min_score)
    kept_before = torch.cat([torch.zeros(1, dtype=torch.int64), keep.long().cumsum(0)])
    return Detections(
        offsets=kept_before[detections.offsets],
        boxes=boxes[keep],
        scores=detections.scores[keep],
        labels=detections.labels[keep],
        logits=detections.logits[keep],
        score_kind=detections.score_kind,
    )
