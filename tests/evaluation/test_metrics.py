import json
import math

import numpy as np
import pytest

from detal.evaluation.metrics import CocoMetrics, nan_mean, rare_classes


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        pytest.param([], [], id="no-class"),
        pytest.param([7], [0], id="one-class"),
        pytest.param([5, 1, 9], [1], id="a-third"),
        pytest.param([5, 1, 9, 0], [3, 1], id="rounded-up"),
        pytest.param([2, 2, 2, 2, 2, 2], [0, 1], id="ties-in-class-order"),
    ],
)
def test_rare_classes_have_the_fewest_labels(counts, expected):
    assert rare_classes(np.array(counts)).tolist() == expected


def test_nan_mean_of_nothing_is_nan_without_a_warning():
    assert math.isnan(nan_mean(np.array([np.nan, np.nan])))
    assert nan_mean(np.array([np.nan, 1.0, 0.0])) == 0.5


def test_mean_of_classes_leaves_out_those_without_ground_truth_and_json_has_none():
    class_ap = np.array([0.2, np.nan, 0.6])
    names = ["mean_ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10"]
    metrics = CocoMetrics(
        **dict.fromkeys(names, 0.5), ar100=float("nan"), class_ap=class_ap, class_ap50=class_ap
    )
    assert metrics.mean_of(np.array([0, 1])) == 0.2
    assert math.isnan(metrics.mean_of(np.array([1])))
    written = json.loads(json.dumps(metrics.to_dict(), allow_nan=False))
    assert written["class_ap"] == [0.2, None, 0.6]
    assert written["ar100"] is None
