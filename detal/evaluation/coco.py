"""COCO's figures by pycocotools: the reference, and what is reported.

The only module that imports pycocotools.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detal.boxes import xyxy_to_xywh
from detal.evaluation.metrics import CocoMetrics, nan_mean
from detal.evaluation.predictions import Predictions, check_pair
from detal.structures import Annotations

__all__ = ["coco_metrics"]


def coco_metrics(
    annotations: Annotations,
    predictions: Predictions,
    *,
    class_names: Sequence[str],
    images: Sequence[int] | NDArray[Any] | None = None,
) -> CocoMetrics:
    """COCO's figures of one set of predictions.

    Image sizes are not needed: boxes are compared in pixels.

    Args:
        annotations: Ground truth of P images.
        predictions: Scored boxes of the same P images, in the same order.
        class_names: C names; the labels index into them.
        images: Indices of the images to evaluate on, each counted once; all by default.

    Raises:
        DataError: If images or labels of the two do not agree.
    """
    check_pair(annotations, predictions, num_classes=len(class_names))
    chosen = range(len(annotations)) if images is None else np.unique(np.asarray(images, int))
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(
            _index(len(annotations), class_names, _truth(annotations)),
            _index(len(annotations), class_names, _results(predictions)),
            "bbox",
        )
        evaluation.params.imgIds = [int(i) for i in chosen]
        evaluation.evaluate()
        evaluation.accumulate()
    # (T, R, C, A, M) and (T, C, A, M); -1 where a class has no ground truth
    precision = _nan(evaluation.eval["precision"])
    recall = _nan(evaluation.eval["recall"])
    return CocoMetrics(
        mean_ap=nan_mean(precision[..., 0, 2]),
        ap50=nan_mean(precision[0, ..., 0, 2]),
        ap75=nan_mean(precision[5, ..., 0, 2]),
        ap_small=nan_mean(precision[..., 1, 2]),
        ap_medium=nan_mean(precision[..., 2, 2]),
        ap_large=nan_mean(precision[..., 3, 2]),
        ar1=nan_mean(recall[..., 0, 0]),
        ar10=nan_mean(recall[..., 0, 1]),
        ar100=nan_mean(recall[..., 0, 2]),
        class_ap=precision[..., 0, 2].mean(axis=(0, 1)),
        class_ap50=precision[0, ..., 0, 2].mean(axis=0),
    )


def _index(num_images: int, class_names: Sequence[str], annotations: list[dict[str, Any]]) -> COCO:
    # Built by hand and not by loadRes, which fails on an empty list of results.
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i} for i in range(num_images)],
        "categories": [{"id": c, "name": name} for c, name in enumerate(class_names)],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def _truth(annotations: Annotations) -> list[dict[str, Any]]:
    columns = zip(
        annotations.image_index.tolist(),
        annotations.labels.tolist(),
        xyxy_to_xywh(annotations.boxes).tolist(),
        annotations.areas.tolist(),
        annotations.is_crowd.tolist(),
        strict=True,
    )
    return [
        # Ids of our own, from 1: pycocotools takes a match with annotation 0 for no match.
        {"id": i, "image_id": image, "category_id": c, "bbox": b, "area": a, "iscrowd": int(crowd)}
        for i, (image, c, b, a, crowd) in enumerate(columns, start=1)
    ]


def _results(predictions: Predictions) -> list[dict[str, Any]]:
    boxes_xywh = xyxy_to_xywh(predictions.boxes)
    columns = zip(
        predictions.image_index.tolist(),
        predictions.labels.tolist(),
        boxes_xywh.tolist(),
        (boxes_xywh[:, 2] * boxes_xywh[:, 3]).tolist(),
        predictions.scores.tolist(),
        strict=True,
    )
    return [
        {"id": i, "image_id": image, "category_id": c, "bbox": b, "area": a, "score": s}
        for i, (image, c, b, a, s) in enumerate(columns, start=1)
    ]


def _nan(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(values < 0, np.nan, values)
