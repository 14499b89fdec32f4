"""COCO's detection figures as values, whichever engine computed them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "AREA_RANGES",
    "IOU_THRESHOLDS",
    "RECALL_THRESHOLDS",
    "CocoMetrics",
    "nan_mean",
    "rare_classes",
]

IOU_THRESHOLDS: NDArray[np.float64] = np.linspace(0.5, 0.95, 10)
RECALL_THRESHOLDS: NDArray[np.float64] = np.linspace(0.0, 1.0, 101)

AREA_RANGES: dict[str, tuple[float, float]] = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""COCO's area ranges in square pixels, both ends included."""


@dataclass(frozen=True, eq=False)
class CocoMetrics:
    """COCO's figures in [0, 1]; NaN where there is no ground truth to measure against.

    Attributes:
        mean_ap: AP averaged over IoU 0.50:0.05:0.95 and classes ("mAP").
        ap50: AP at IoU 0.50, averaged over classes.
        ap75: AP at IoU 0.75, averaged over classes.
        ap_small: ``mean_ap`` of objects under 32² square pixels.
        ap_medium: ``mean_ap`` of objects from 32² to 96² square pixels.
        ap_large: ``mean_ap`` of objects over 96² square pixels.
        ar1: Recall with 1 detection an image and class, averaged over IoU and classes.
        ar10: The same with 10 detections.
        ar100: The same with 100 detections.
        class_ap: (C,) AP of each class over IoU 0.50:0.05:0.95.
        class_ap50: (C,) AP of each class at IoU 0.50.
    """

    mean_ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ar1: float
    ar10: float
    ar100: float
    class_ap: NDArray[np.float64] = field(repr=False)
    class_ap50: NDArray[np.float64] = field(repr=False)

    def mean_of(self, classes: NDArray[np.int64]) -> float:
        """AP averaged over some classes (indices); those without ground truth are left out."""
        return nan_mean(self.class_ap[classes])

    def to_dict(self) -> dict[str, Any]:
        """All figures as JSON values, None in place of NaN."""
        return {
            name: [_none(v) for v in value] if isinstance(value, np.ndarray) else _none(value)
            for name, value in vars(self).items()
        }


def rare_classes(class_counts: NDArray[Any], *, share: float = 1 / 3) -> NDArray[np.int64]:
    """The classes with the fewest labels, fewest first; ties in class order.

    Args:
        class_counts: (C,) labels of each class in whatever set defines rarity.
        share: Share of the C classes, rounded up: at least one class if there is any.
    """
    order = np.argsort(np.asarray(class_counts), kind="stable")
    return order[: int(np.ceil(len(order) * share - 1e-9))]


def nan_mean(values: NDArray[Any]) -> float:
    """Mean of what is not NaN; NaN if nothing is left."""
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if kept.size else float("nan")


def _none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
