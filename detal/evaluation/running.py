"""mAP of a set of images that changes a little at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detal.errors import DataError
from detal.evaluation.area_view import area_view
from detal.evaluation.blocks import ap_of_view
from detal.evaluation.match_table import MatchTable, rescored
from detal.evaluation.metrics import nan_mean
from detal.evaluation.subsets import image_weights

__all__ = ["RunningAP"]

Array = NDArray[Any]


class RunningAP:
    """AP per class, kept up to date as images come and go or a few scores change.

    Only the curves of classes that occur in the images, or among the detections, are computed
    again, each in full: time is linear in the detections of these classes in the whole table. An
    image with common classes therefore saves little over `batch_mean_ap` of the new set, one with
    rare classes nearly all. New scores sort and match only what they touch, but copy the table's
    arrays and index them anew, O(N).

    Attributes:
        table: The match table with the current scores.
        weights: (P,) how often each image counts.
        class_ap: (C, T) AP of each class and IoU threshold; NaN without ground truth.
    """

    def __init__(
        self,
        table: MatchTable,
        images: Sequence[int] | Array | None = None,
        *,
        area: str = "all",
    ) -> None:
        """Start from a set of images (all by default; one that occurs k times counts k times)."""
        self.table = table
        self._area = area
        everything = np.arange(table.num_images) if images is None else np.asarray(images)
        self.weights = image_weights([everything], num_images=table.num_images)[0]
        self.class_ap = ap_of_view(area_view(table, area), self.weights[None])

    @property
    def mean_ap(self) -> float:
        """Mean over IoU thresholds and the classes with ground truth; NaN if there are none."""
        return nan_mean(self.class_ap)

    def add(self, images: Sequence[int] | Array) -> None:
        """Let images count once more each; one that occurs k times, k times more.

        Raises:
            DataError: If an index is not in 0..P-1.
        """
        self._change(image_weights([images], num_images=self.table.num_images)[0])

    def remove(self, images: Sequence[int] | Array) -> None:
        """The reverse of `add`.

        Raises:
            DataError: If an image does not count that often; nothing is changed then.
        """
        self._change(-image_weights([images], num_images=self.table.num_images)[0])

    def rescore(self, detections: Sequence[int] | Array, scores: Array) -> None:
        """Give some detections new scores.

        Args:
            detections: (k,) distinct places in the predictions.
            scores: (k,) finite scores.

        Raises:
            DataError: If they do not fit.
        """
        detections = np.asarray(detections, dtype=np.int64)
        self.table = rescored(self.table, scores, detections=detections)
        self._refresh(np.unique(self.table.matcher.label[detections]))

    def _change(self, change: Array) -> None:
        weights = self.weights + change
        if weights.min(initial=0) < 0:
            image = int(np.argmin(weights))
            raise DataError(f"image {image} counts {self.weights[image]} times: remove no more")
        self.weights = weights
        self._refresh(_classes_in(self.table, np.flatnonzero(change)))

    def _refresh(self, classes: Array) -> None:
        view = area_view(self.table, self._area).of_classes(classes)
        ap = ap_of_view(view, self.weights[None])
        self.class_ap = self.class_ap.copy()
        self.class_ap[classes] = ap


def _classes_in(table: MatchTable, images: Array) -> NDArray[np.int64]:
    """Classes of the detections and of the ground truth of some images, rising."""
    chosen = np.zeros(table.num_images, dtype=bool)
    chosen[images] = True
    found = table.matcher.label[chosen[table.matcher.image]]
    return np.unique(np.concatenate([found, table.truth_label[chosen[table.truth_image]]]))
