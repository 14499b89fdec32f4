"""How good detections are: COCO's figures, and the table that computes them fast."""

from detal.evaluation.coco import coco_metrics
from detal.evaluation.match_table import MatchTable, build_match_table, rescored
from detal.evaluation.metrics import CocoMetrics, rare_classes
from detal.evaluation.predictions import Predictions
from detal.evaluation.subsets import (
    batch_class_ap,
    batch_class_recall,
    batch_mean_ap,
    image_weights,
)

__all__ = [
    "CocoMetrics",
    "MatchTable",
    "Predictions",
    "batch_class_ap",
    "batch_class_recall",
    "batch_mean_ap",
    "build_match_table",
    "coco_metrics",
    "image_weights",
    "rare_classes",
    "rescored",
]
