"""Ranking and calibration, by hand."""

import numpy as np
import pytest

from detal.trustset.rating import area_under_roc, calibration_error, reliability


@pytest.mark.parametrize(
    ("scores", "truth", "expected"),
    [
        pytest.param([0.9, 0.8, 0.1], [1, 1, 0], 1.0, id="perfect"),
        pytest.param([0.1, 0.9], [1, 0], 0.0, id="upside-down"),
        pytest.param([0.5, 0.5, 0.5], [1, 0, 0], 0.5, id="ties"),
        pytest.param([0.9, 0.4, 0.6, 0.4], [1, 1, 0, 0], (1 + 1 + 0 + 0.5) / 4, id="mixed"),
        pytest.param([0.9], [1], np.nan, id="no-negatives"),
        pytest.param([], [], np.nan, id="empty"),
    ],
)
def test_area_under_roc(scores, truth, expected) -> None:
    value = area_under_roc(np.array(scores, float), np.array(truth, bool))
    assert value == pytest.approx(expected, nan_ok=True)


def test_calibration_by_hand() -> None:
    probs = np.array([0.9, 0.1, 0.3, 0.7])
    truth = np.array([True, False, False, False])
    low, high = reliability(probs, truth, bins=2)
    assert low == pytest.approx({"stated": 0.2, "observed": 0.0, "number": 2})
    assert high == pytest.approx({"stated": 0.8, "observed": 0.5, "number": 2})
    assert calibration_error(probs, truth, bins=2) == pytest.approx((0.2 + 0.3) / 2)
    assert reliability(probs[:0], truth[:0]) == []
    assert np.isnan(calibration_error(probs[:0], truth[:0]))
    assert len(reliability(probs[:1], truth[:1])) == 1
