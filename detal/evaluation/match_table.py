"""The match table: mAP of any subset of images from one matching, equal to pycocotools.

A detection's match depends on its own image only, so it is computed once. The figures of a set of
images are then a selection of rows and a cumulative sum per class.

Shapes: P images, C classes, N detections kept, M ground-truth boxes, A area ranges
(``AREA_RANGES``), T IoU thresholds (``IOU_THRESHOLDS``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detal.errors import ConfigError, DataError, unknown_name
from detal.evaluation.matching import TRUE_POSITIVE, detection_order, ignored_truth, match
from detal.evaluation.metrics import (
    AREA_RANGES,
    IOU_THRESHOLDS,
    RECALL_THRESHOLDS,
    CocoMetrics,
    nan_mean,
)
from detal.evaluation.predictions import Predictions, check_pair
from detal.structures import Annotations

__all__ = ["MatchTable", "build_match_table", "class_ap", "class_recall", "mean_ap", "metrics"]

Array = NDArray[Any]
Images = Sequence[int] | Array | None


@dataclass(frozen=True, eq=False)
class MatchTable:
    """Every detection's match, sorted as the curves need it: class, falling score, image, rank.

    Attributes:
        num_images: P.
        num_classes: C.
        image: (N,) int32 image of each detection.
        label: (N,) int32 class of each detection, not decreasing.
        rank: (N,) int32 place by score among the detections of its image and class, from 0.
        score: (N,) the scores, not increasing within a class.
        outcome: (A, T, N) int8: 1 matched, 0 ignored, -1 false positive.
        tied: (N,) int32, not decreasing: equal where class, score and image are equal.
        truth_image: (M,) int32 image of each ground-truth box.
        truth_label: (M,) int32 class of each ground-truth box.
        truth_ignored: (A, M) True where a box does not count.
    """

    num_images: int
    num_classes: int
    image: Array
    label: Array
    rank: Array
    score: Array
    outcome: NDArray[np.int8]
    tied: Array
    truth_image: Array
    truth_label: Array
    truth_ignored: NDArray[np.bool_]


def build_match_table(
    annotations: Annotations,
    predictions: Predictions,
    *,
    num_classes: int,
    max_detections: int = 100,
) -> MatchTable:
    """Match once; everything below reads the table.

    Args:
        annotations: Ground truth of P images.
        predictions: Scored boxes of the same P images, in the same order.
        num_classes: C.
        max_detections: Detections kept per image and class, best first.

    Raises:
        DataError: If images or labels of the two do not agree.
    """
    check_pair(annotations, predictions, num_classes=num_classes)
    rows, rank = detection_order(predictions, max_detections=max_detections)
    outcome = match(annotations, predictions, rows)
    image, label = predictions.image_index[rows], predictions.labels[rows]
    score = predictions.scores[rows]
    # Rows come by image, class and rank, so a stable sort leaves ties in pycocotools' order.
    order = np.lexsort((-score.astype(np.float64), label))
    image, label, score = image[order], label[order], score[order]
    tied = np.zeros(len(rows), dtype=np.int32)
    tied[1:] = np.cumsum((np.diff(label) != 0) | (np.diff(score) != 0) | (np.diff(image) != 0))
    return MatchTable(
        num_images=len(annotations),
        num_classes=num_classes,
        image=image.astype(np.int32),
        label=label.astype(np.int32),
        rank=rank[order].astype(np.int32),
        score=score,
        outcome=np.ascontiguousarray(outcome[:, :, order]),
        tied=tied,
        truth_image=annotations.image_index.astype(np.int32),
        truth_label=annotations.labels.astype(np.int32),
        truth_ignored=ignored_truth(annotations),
    )


def mean_ap(table: MatchTable, images: Images = None, *, area: str = "all") -> float:
    """AP averaged over IoU 0.50:0.05:0.95 and the classes that have ground truth.

    Args:
        table: The match table.
        images: Image indices; one that occurs k times counts k times. All images by default.
        area: A name of ``AREA_RANGES``.

    Returns:
        mAP in [0, 1]; NaN if no class has ground truth.
    """
    return nan_mean(class_ap(table, images, area=area))


def class_ap(table: MatchTable, images: Images = None, *, area: str = "all") -> Array:
    """(C, T) AP of each class and IoU threshold; NaN where a class has no ground truth."""
    a = _area_index(area)
    copies = _copies(table, images)
    positives = _positives(table, copies, a)
    rows = _rows(table, copies)
    label, outcome = table.label[rows], table.outcome[a][:, rows]
    needed = _needed(positives)  # (C, 101)
    ap = np.empty((table.num_classes, len(IOU_THRESHOLDS)))
    for t in range(len(IOU_THRESHOLDS)):
        ap[:, t] = _average_precision(outcome[t], label, needed, table.num_classes)
    ap[positives == 0] = np.nan
    return ap


def class_recall(
    table: MatchTable, images: Images = None, *, area: str = "all", max_detections: int = 100
) -> Array:
    """(C, T) recall of each class with its best ``max_detections`` detections in each image."""
    a = _area_index(area)
    copies = _copies(table, images)
    positives = _positives(table, copies, a).astype(np.float64)
    rows = np.flatnonzero((table.rank < max_detections) & (copies[table.image] > 0))
    weight = copies[table.image[rows]]
    found = [
        np.bincount(
            table.label[rows], weights=weight * (hit == TRUE_POSITIVE), minlength=table.num_classes
        )
        for hit in table.outcome[a][:, rows]
    ]
    positives[positives == 0] = np.nan
    return np.asarray(np.stack(found, axis=1) / positives[:, None])


def metrics(table: MatchTable, images: Images = None) -> CocoMetrics:
    """All of COCO's figures, as `coco_metrics` gives them (table built with 100 detections)."""
    ap = class_ap(table, images)
    return CocoMetrics(
        mean_ap=nan_mean(ap),
        ap50=nan_mean(ap[:, 0]),
        ap75=nan_mean(ap[:, 5]),
        ap_small=mean_ap(table, images, area="small"),
        ap_medium=mean_ap(table, images, area="medium"),
        ap_large=mean_ap(table, images, area="large"),
        ar1=nan_mean(class_recall(table, images, max_detections=1)),
        ar10=nan_mean(class_recall(table, images, max_detections=10)),
        ar100=nan_mean(class_recall(table, images, max_detections=100)),
        class_ap=ap.mean(axis=1),
        class_ap50=ap[:, 0],
    )


def _area_index(area: str) -> int:
    if area not in AREA_RANGES:
        raise ConfigError(unknown_name("area range", area, AREA_RANGES))
    return list(AREA_RANGES).index(area)


def _copies(table: MatchTable, images: Images) -> NDArray[np.int64]:
    """(P,) how often each image counts."""
    if images is None:
        return np.ones(table.num_images, dtype=np.int64)
    index = np.asarray(images, dtype=np.int64).reshape(-1)
    if len(index) and not (index.min() >= 0 and index.max() < table.num_images):
        wrong = index[(index < 0) | (index >= table.num_images)][0]
        raise DataError(f"image indices must lie in 0..{table.num_images - 1}, got {wrong}")
    return np.bincount(index, minlength=table.num_images)


def _positives(table: MatchTable, copies: Array, a: int) -> NDArray[np.int64]:
    """(C,) ground-truth boxes that count."""
    weight = copies[table.truth_image] * ~table.truth_ignored[a]
    total = np.bincount(table.truth_label, weights=weight, minlength=table.num_classes)
    return total.astype(np.int64)


def _rows(table: MatchTable, copies: Array) -> NDArray[np.int64]:
    """Detections of the chosen images, in the table's order, repeated as often as they count."""
    weight = copies[table.image]
    rows = np.repeat(np.arange(len(weight)), weight)
    if weight.max(initial=0) < 2:
        return rows
    # Copies of an image stand one after another, as if it were in the dataset twice: equal scores
    # of one copy come before those of the next.
    first = np.cumsum(weight) - weight
    copy = np.arange(len(rows)) - first[rows]
    return rows[np.lexsort((copy, table.tied[rows]))]


def _needed(positives: Array) -> NDArray[np.int64]:
    """(C, 101) fewest true positives that reach each recall threshold, at least 1."""
    n = np.maximum(positives, 1)[:, None]
    k = np.ceil(RECALL_THRESHOLDS * n)
    # The test that counts is k / n >= threshold in floating point, as pycocotools makes it.
    k -= (k - 1) / n >= RECALL_THRESHOLDS
    k += k / n < RECALL_THRESHOLDS
    return np.maximum(k, 1).astype(np.int64)


def _average_precision(
    outcome: Array, label: Array, needed: Array, num_classes: int
) -> NDArray[np.float64]:
    """(C,) AP at one IoU threshold.

    Precision is read at true positives only: interpolation takes the best precision at or after a
    recall, and that is never at a false positive.
    """
    hits = np.flatnonzero(outcome == TRUE_POSITIVE)
    hit_label = label[hits]
    per_class = np.bincount(hit_label, minlength=num_classes)
    first = np.cumsum(per_class) - per_class
    if len(hits) == 0:
        return np.zeros(num_classes)
    before = np.cumsum(outcome != 0)  # detections that count, up to each row
    class_start = np.searchsorted(label, np.arange(num_classes))
    before_class = np.concatenate([[0], before])[class_start]
    true = np.arange(len(hits)) - first[hit_label] + 1.0
    false = before[hits] - before_class[hit_label] - true
    precision = true / (false + true + np.spacing(1))
    # Running maximum from the right, kept within classes by a step that grows towards the left
    # end; what the step costs in precision is below 1e-12 for thousands of classes.
    step = 2.0 * (num_classes - hit_label)
    best = np.maximum.accumulate((precision + step)[::-1])[::-1] - step
    at = first[:, None] + needed - 1
    reached = needed <= per_class[:, None]
    return np.asarray(np.where(reached, best[np.where(reached, at, 0)], 0.0).mean(axis=1))
