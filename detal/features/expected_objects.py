"""How many objects of each class an image is expected to teach.

Shapes: P images, B of them in a chunk, N detections, C classes, R (image, class) pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detal.structures import Detections

__all__ = ["Bundles", "Informativeness", "expected_objects", "sum_amounts"]

Informativeness = Literal["entropy", "none"]


@dataclass(frozen=True, eq=False)
class Bundles:
    """Expected objects by image and class, packed: only pairs that occur, 16 bytes each.

    Attributes:
        offsets: (P + 1,) int64 rows of each image.
        labels: (R,) int64 classes, distinct within an image.
        amounts: (R,) float64 expected objects, weighted by what they would teach.
    """

    offsets: NDArray[np.int64]
    labels: NDArray[np.int64]
    amounts: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def rows(self, index: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of the images ``index`` (n,), and the position 0..n-1 of the image of each."""
        counts = np.diff(self.offsets)[index]
        place = np.repeat(np.arange(len(index)), counts)
        first = np.repeat(self.offsets[:-1][index] - (np.cumsum(counts) - counts), counts)
        return np.arange(len(place)) + first, place

    def take(self, index: NDArray[np.int64]) -> Bundles:
        """The images ``index`` (n,) only, in that order."""
        rows, _ = self.rows(index)
        counts = np.diff(self.offsets)[index]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return Bundles(offsets, self.labels[rows], self.amounts[rows])

    def supply(self, num_classes: int) -> NDArray[np.float64]:
        """(C,) objects of each class in all images."""
        total = np.bincount(self.labels, self.amounts, minlength=num_classes)
        return np.asarray(total, dtype=np.float64)


def expected_objects(
    chunks: Iterable[tuple[NDArray[np.int64], Detections]],
    *,
    num_images: int,
    informativeness: Informativeness = "none",
    calibrate: Callable[[Tensor], Tensor] | None = None,
) -> Bundles:
    """Sum each image's detections by class, each as likely an object as its score says.

    With ``entropy`` a detection counts in full at a score of one half and less the surer it is
    either way: what the detector knows for sure teaches little (binary entropy in bits).

    Args:
        chunks: Index (B,) and detections of B images at a time, each image once.
        num_images: P.
        informativeness: ``none`` (plain expected counts) or ``entropy``.
        calibrate: From class probabilities (N, C) to calibrated ones; none by default.
    """

    def weigh(detections: Detections) -> Tensor:
        score = _scores(detections, calibrate)
        return score if informativeness == "none" else score * _binary_entropy(score)

    return sum_amounts(
        ((index, detections, weigh(detections)) for index, detections in chunks),
        num_images=num_images,
    )


def sum_amounts(
    chunks: Iterable[tuple[NDArray[np.int64], Detections, Tensor]], *, num_images: int
) -> Bundles:
    """Sum what each detection counts by image and class.

    Args:
        chunks: Index (B,), detections and amounts of B images at a time, each image once; of each
            detection the objects of its own class that it counts as (N,), or of each class (N, C).
        num_images: P.
    """
    parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for index, detections, weights in chunks:
        if detections.num_boxes:
            row, labels, amounts = _totals(detections, weights.double())
            parts.append((index[row], labels, amounts))
    images, labels, amounts = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(images, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(images, minlength=num_images))])
    return Bundles(offsets=offsets.astype(np.int64), labels=labels[order], amounts=amounts[order])


def _totals(
    detections: Detections, weights: Tensor
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Image 0..B-1, class and sum of the weights of each pair that occurs, by image and class."""
    classes = detections.num_classes
    if weights.ndim == 2:
        total = weights.new_zeros(len(detections), classes)
        total.index_add_(0, detections.image_index, weights)
        image, label = (part.cpu().numpy() for part in total.nonzero(as_tuple=True))
        return image, label, total[total != 0].cpu().numpy()
    cell = detections.image_index * classes + detections.labels
    cells, place = np.unique(cell.cpu().numpy(), return_inverse=True)
    amounts = np.bincount(place, weights=weights.cpu().numpy())
    return cells // classes, cells % classes, amounts.astype(np.float64)


def _scores(detections: Detections, calibrate: Callable[[Tensor], Tensor] | None) -> Tensor:
    """(N,) float64 probability of each detection's own class."""
    if calibrate is None:
        return detections.scores.double()
    own = detections.labels[:, None]
    return calibrate(detections.probs()).gather(1, own)[:, 0].double()


def _binary_entropy(p: Tensor) -> Tensor:
    """Entropy of a yes-no question in bits, in [0, 1]."""
    nats: Tensor = -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p))
    return nats / math.log(2)
