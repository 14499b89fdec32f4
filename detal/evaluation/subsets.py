"""COCO's figures of many sets of images at once, read from a match table.

Every set is a row of ``weights`` (S, P): how often each image counts. An image with weight k
counts as k copies one after another in the dataset.

For S sets, N detections and E matches per set and IoU threshold: time O(S (N + T E)) with a small
constant on N when no weight exceeds 1 (a bit per detection and set), memory O(8 N + 8 T E).

Shapes: S sets, P images, C classes, N detections, T IoU thresholds, B sets of a block, H detections
that are matched or ignored somewhere, G = B * C curves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detal.errors import DataError
from detal.evaluation.area_view import area_view
from detal.evaluation.blocks import BLOCK, ap_of_view, recall_of_view
from detal.evaluation.device import device_ap, device_recall, device_view
from detal.evaluation.match_table import MatchTable, rescored
from detal.evaluation.metrics import IOU_THRESHOLDS, CocoMetrics, nan_mean

__all__ = [
    "batch_class_ap",
    "batch_class_recall",
    "batch_mean_ap",
    "class_ap",
    "class_recall",
    "image_weights",
    "mean_ap",
    "metrics",
    "rescored_class_ap",
]

Array = NDArray[Any]
Images = Sequence[int] | Array | None

_DEVICE_BLOCK = 64
_MAX_CURVES = 24_000  # sets at a time times classes


def image_weights(subsets: Sequence[Sequence[int] | Array], *, num_images: int) -> Array:
    """(S, P) how often each image occurs in each list of image indices.

    Raises:
        DataError: If an index is not in 0..P-1.
    """
    weights = np.zeros((len(subsets), num_images), dtype=np.int64)
    for row, subset in zip(weights, subsets, strict=True):
        index = np.asarray(subset, dtype=np.int64).reshape(-1)
        if len(index) and not (index.min() >= 0 and index.max() < num_images):
            wrong = index[(index < 0) | (index >= num_images)][0]
            raise DataError(f"image indices must lie in 0..{num_images - 1}, got {wrong}")
        row += np.bincount(index, minlength=num_images)
    return weights


def batch_mean_ap(
    table: MatchTable,
    weights: Array,
    *,
    area: str = "all",
    workers: int = 1,
    device: str | None = None,
) -> NDArray[np.float64]:
    """(S,) AP averaged over IoU 0.50:0.05:0.95 and the classes with ground truth ("mAP").

    Args:
        table: The match table.
        weights: (S, P) how often each image counts, integers >= 0 or bool.
        area: A name of ``AREA_RANGES``.
        workers: Threads that share the sets.
        device: A torch device with float64 such as ``"cuda"``, without ``workers``; NumPy by
            default. The table is copied there in each call.

    Returns:
        mAP in [0, 1]; NaN for a set in which no class has ground truth.
    """
    return _means(batch_class_ap(table, weights, area=area, workers=workers, device=device))


def batch_class_ap(
    table: MatchTable,
    weights: Array,
    *,
    area: str = "all",
    workers: int = 1,
    device: str | None = None,
) -> NDArray[np.float64]:
    """(S, C, T) AP of each class and IoU threshold; NaN where a class has no ground truth.

    AP50 and AP75 are the means over classes of ``[..., 0]`` and ``[..., 5]``. Arguments as for
    `batch_mean_ap`.
    """
    view = area_view(table, area)
    if device is None:
        return _blockwise(lambda part: ap_of_view(view, part), table, weights, BLOCK, workers)
    there = device_view(view, device)
    return _blockwise(lambda part: device_ap(there, part), table, weights, _DEVICE_BLOCK)


def batch_class_recall(
    table: MatchTable,
    weights: Array,
    *,
    area: str = "all",
    max_detections: int = 100,
    workers: int = 1,
    device: str | None = None,
) -> NDArray[np.float64]:
    """(S, C, T) recall with the best ``max_detections`` detections of each image and class.

    NaN where a class has no ground truth. Other arguments as for `batch_mean_ap`.
    """
    view = area_view(table, area).best(max_detections)
    if device is None:
        return _blockwise(lambda part: recall_of_view(view, part), table, weights, BLOCK, workers)
    there = device_view(view, device)
    return _blockwise(lambda part: device_recall(there, part), table, weights, _DEVICE_BLOCK)


def rescored_class_ap(
    table: MatchTable,
    scores: Array,
    images: Images = None,
    *,
    area: str = "all",
    workers: int = 1,
    device: str | None = None,
) -> NDArray[np.float64]:
    """(S, C, T) AP of the same detections under S other sets of scores.

    Each is sorted anew, O(N), and the images and classes whose order changed are matched again;
    see `rescored`, which also gives the other figures. Both are done in NumPy on any device.

    Args:
        table: The match table.
        scores: (S, N) scores in the order of the predictions.
        images: Image indices; one that occurs k times counts k times. All images by default.
        area: A name of ``AREA_RANGES``.
        workers: Threads that share the sets of scores.
        device: A torch device for the curves; NumPy by default.

    Raises:
        DataError: If scores are not finite, or not (S, N).
    """
    weights = _one(table, images)

    def figure(row: Array) -> Array:
        view = area_view(rescored(table, row), area)
        if device is None:
            return ap_of_view(view, weights)
        return device_ap(device_view(view, device), weights)

    parts = _parallel(figure, list(np.asarray(scores)), workers)
    shape = (len(scores), table.num_classes, len(IOU_THRESHOLDS))
    return np.concatenate([np.zeros((0, shape[2])), *parts]).reshape(shape)


def mean_ap(table: MatchTable, images: Images = None, *, area: str = "all") -> float:
    """AP of one set of images, averaged over IoU and classes ("mAP").

    Args:
        table: The match table.
        images: Image indices; one that occurs k times counts k times. All images by default.
        area: A name of ``AREA_RANGES``.
    """
    return float(batch_mean_ap(table, _one(table, images), area=area)[0])


def class_ap(table: MatchTable, images: Images = None, *, area: str = "all") -> Array:
    """(C, T) AP of each class and IoU threshold; NaN where a class has no ground truth."""
    return np.asarray(batch_class_ap(table, _one(table, images), area=area)[0])


def class_recall(
    table: MatchTable, images: Images = None, *, area: str = "all", max_detections: int = 100
) -> Array:
    """(C, T) recall of each class with its best ``max_detections`` detections in each image."""
    weights = _one(table, images)
    recall = batch_class_recall(table, weights, area=area, max_detections=max_detections)
    return np.asarray(recall[0])


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


def _blockwise(
    figure: Callable[[Array], Array],
    table: MatchTable,
    weights: Array,
    block: int,
    workers: int = 1,
) -> NDArray[np.float64]:
    """(S, C, T) of a function that gives (B * C, T) for a block of B sets."""
    weights = _checked(weights, num_images=table.num_images)
    # Fewer sets at a time where curves are many: their number costs the running maximum digits.
    size = int(np.clip(_MAX_CURVES // max(table.num_classes, 1), 1, block))
    blocks = [weights[begin : begin + size] for begin in range(0, len(weights), size)]
    parts = _parallel(figure, blocks, workers)
    shape = (len(weights), table.num_classes, len(IOU_THRESHOLDS))
    return np.concatenate([np.zeros((0, shape[2])), *parts]).reshape(shape)


def _parallel(figure: Callable[[Array], Array], parts: list[Array], workers: int) -> list[Array]:
    if workers <= 1:
        return [figure(part) for part in parts]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(figure, parts))


def _checked(weights: Array, *, num_images: int) -> Array:
    """The (S, P) weights as non-negative integers or bool.

    Raises:
        DataError: If they are anything else.
    """
    weights = np.asarray(weights)
    if weights.ndim != 2 or weights.shape[1] != num_images:
        raise DataError(f"weights must be (S, {num_images}), got {weights.shape}")
    if weights.dtype.kind not in "biu" or weights.min(initial=0) < 0:
        raise DataError(
            f"weights must be integers >= 0 or bool, got {weights.dtype} from "
            f"{weights.min(initial=0)}"
        )
    return weights if weights.dtype == np.bool_ else weights.astype(np.int64, copy=False)


def _one(table: MatchTable, images: Images) -> Array:
    """(1, P) weights of one set."""
    if images is None:
        return np.ones((1, table.num_images), dtype=np.bool_)
    return image_weights([np.asarray(images)], num_images=table.num_images)


def _means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(S,) mean of what is not NaN in each (C, T); NaN where nothing is left."""
    known = ~np.isnan(values)
    total = np.where(known, values, 0.0).sum(axis=(1, 2))
    number = known.sum(axis=(1, 2))
    mean: NDArray[np.float64] = np.full(len(values), np.nan)
    np.divide(total, number, out=mean, where=number > 0)
    return mean
