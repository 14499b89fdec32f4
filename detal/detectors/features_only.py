"""Any detector, for its image features alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from detal.detectors.detector import Detector, Prepared
from detal.errors import DetectorError
from detal.structures import Detections, ScoreKind

__all__ = ["FeaturesOnly"]


class FeaturesOnly:
    """Finds nothing and gives the image features of another detector, whatever its classes are.

    For the first rounds, when there is no detector of one's own classes yet.

    Args:
        detector: Where the features come from.
        class_names: C names, of the dataset.

    Raises:
        DetectorError: If that detector gives no image features.
    """

    def __init__(self, detector: Detector, *, class_names: tuple[str, ...]) -> None:
        if detector.predict([]).image_features is None:
            raise DetectorError(
                "features_only needs a detector that gives image features: use type yolo or "
                "torchvision"
            )
        self._detector = detector
        self.class_names = class_names
        self.score_kind: ScoreKind = detector.score_kind
        self.settings: dict[str, Any] = {**detector.settings, "features_only": True}
        self.fingerprint = detector.fingerprint
        self.device: torch.device = detector.device

    def prepare(self, pixels: NDArray[np.uint8], path: str) -> Prepared:
        """As the other detector does."""
        return self._detector.prepare(pixels, path)

    def predict(self, batch: Sequence[Prepared]) -> Detections:
        """No boxes."""
        return Detections.empty(
            len(batch),
            num_classes=len(self.class_names),
            score_kind=self.score_kind,
            image_features=self._detector.predict(batch).image_features,
        )
