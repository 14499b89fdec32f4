"""How good probabilities are: do they rank, and do they come true? n predictions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["area_under_roc", "calibration_error", "reliability"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_BINS = 10


def area_under_roc(scores: Floats, truth: Flags) -> float:
    """Probability that a positive scores higher than a negative, ties counting half.

    Args:
        scores: (n,).
        truth: (n,) True for positives.

    Returns:
        In [0, 1]; NaN without positives or without negatives.
    """
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    rank = (ends - (counts - 1) / 2)[place]
    return float((rank[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def reliability(probs: Floats, truth: Flags, *, bins: int = _BINS) -> list[dict[str, float]]:
    """Stated and observed frequency in bins of about equally many predictions, low to high.

    Returns:
        Rows of ``stated`` (mean probability), ``observed`` (share of positives) and ``number``;
        none without predictions.
    """
    order = np.argsort(probs, kind="stable")
    parts = [part for part in np.array_split(order, min(bins, max(len(order), 1))) if len(part)]
    return [
        {
            "stated": float(probs[part].mean()),
            "observed": float(truth[part].mean()),
            "number": float(len(part)),
        }
        for part in parts
    ]


def calibration_error(probs: Floats, truth: Flags, *, bins: int = _BINS) -> float:
    """Expected calibration error: mean distance of stated and observed frequency over the bins.

    Bins hold equally many predictions (see `reliability`); NaN without predictions.
    """
    rows = reliability(probs, truth, bins=bins)
    if not rows:
        return float("nan")
    total = sum(row["number"] for row in rows)
    return sum(row["number"] * abs(row["stated"] - row["observed"]) for row in rows) / total
