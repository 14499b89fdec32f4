"""Detectors: YOLO (ultralytics), torchvision's, or predictions from a file.

Importing this loads neither ultralytics nor a model.
"""

from __future__ import annotations

from detal.detectors.detector import Detector, Prepared
from detal.detectors.features_only import FeaturesOnly
from detal.detectors.predictions import load_predictions
from detal.detectors.torchvision import build_torchvision, load_torchvision
from detal.detectors.views import VIEWS, view_of
from detal.detectors.yolo import import_ultralytics, load_yolo

__all__ = [
    "VIEWS",
    "Detector",
    "FeaturesOnly",
    "Prepared",
    "build_torchvision",
    "import_ultralytics",
    "load_predictions",
    "load_torchvision",
    "load_yolo",
    "view_of",
]
