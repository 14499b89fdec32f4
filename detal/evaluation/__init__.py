"""How good detections are: COCO's figures, and the table that computes them fast."""

from detal.evaluation.coco import coco_metrics
from detal.evaluation.match_table import MatchTable, build_match_table
from detal.evaluation.metrics import CocoMetrics, rare_classes
from detal.evaluation.predictions import Predictions

__all__ = [
    "CocoMetrics",
    "MatchTable",
    "Predictions",
    "build_match_table",
    "coco_metrics",
    "rare_classes",
]
