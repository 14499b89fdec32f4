"""What the scores of a detector are worth, measured where it was not trained."""

from __future__ import annotations

from detal.features import Calibration, fit_calibration, match_detections
from detal.strategies.candidates import Candidates

__all__ = ["reference_calibration"]


def reference_calibration(candidates: Candidates) -> Calibration | None:
    """Fitted on the reference set, or None without one.

    The labelled set is no substitute: the detector was trained on it, and is right there more often
    than on the pool.
    """
    reference = candidates.reference
    if reference is None or reference.detections is None or reference.annotations is None:
        return None
    seen = reference.detections()
    return fit_calibration(seen, match_detections(seen, reference.annotations))
