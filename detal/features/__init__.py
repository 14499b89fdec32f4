"""Numbers per box and per image, read off the detections."""

from detal.features.aggregate import (
    AGGREGATIONS,
    EMPTY_POLICIES,
    Aggregation,
    EmptyPolicy,
    aggregate,
)
from detal.features.calibration import Calibration, fit_calibration
from detal.features.change import References
from detal.features.class_weights import (
    class_quality,
    difficulty_weights,
    inverse_frequency_weights,
)
from detal.features.detection_loss import detection_loss
from detal.features.matching import Matches, match_detections
from detal.features.uncertainty import (
    EntropyOver,
    Rivals,
    entropy,
    expected_boxes,
    expected_class_counts,
    least_confidence,
    margin,
)

__all__ = [
    "AGGREGATIONS",
    "EMPTY_POLICIES",
    "Aggregation",
    "Calibration",
    "EmptyPolicy",
    "EntropyOver",
    "Matches",
    "References",
    "Rivals",
    "aggregate",
    "class_quality",
    "detection_loss",
    "difficulty_weights",
    "entropy",
    "expected_boxes",
    "expected_class_counts",
    "fit_calibration",
    "inverse_frequency_weights",
    "least_confidence",
    "margin",
    "match_detections",
]
