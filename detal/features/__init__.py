"""Numbers per box and per image, read off the detections."""

from detal.features.aggregate import (
    AGGREGATIONS,
    EMPTY_POLICIES,
    Aggregation,
    EmptyPolicy,
    aggregate,
)
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
    "EmptyPolicy",
    "EntropyOver",
    "Rivals",
    "aggregate",
    "entropy",
    "expected_boxes",
    "expected_class_counts",
    "least_confidence",
    "margin",
]
