import json
import math

import numpy as np
import pytest

from detal.errors import DataError
from detal.evaluation.coco import coco_metrics
from detal.evaluation.predictions import Predictions
from tests.evaluation.worlds import make_truth, read_coco

BOX = [0.0, 0.0, 40.0, 40.0]  # 1600 square pixels: medium
FAR = [100.0, 100.0, 140.0, 140.0]
HALF = [0.0, 0.0, 40.0, 22.0]  # IoU 0.55 with BOX: a match at the thresholds 0.50 and 0.55
# of 101 recall thresholds, 0.00 to 0.50 are reached by one of two objects
HALF_RECALL = 51 / 101


@pytest.mark.parametrize(
    ("truth", "found", "scores", "ap", "ap50", "ar1"),
    [
        pytest.param([BOX], [BOX], [0.9], 1.0, 1.0, 1.0, id="perfect"),
        pytest.param([BOX], [BOX, FAR], [0.9, 0.8], 1.0, 1.0, 1.0, id="false-alarm-last"),
        pytest.param([BOX], [BOX, FAR], [0.8, 0.9], 0.5, 0.5, 0.0, id="false-alarm-first"),
        pytest.param([BOX], [BOX, BOX], [0.8, 0.9], 1.0, 1.0, 1.0, id="found-twice"),
        pytest.param([BOX], [HALF], [0.9], 0.2, 1.0, 0.2, id="loose-box"),
        pytest.param([BOX, FAR], [BOX], [0.9], HALF_RECALL, HALF_RECALL, 0.5, id="one-of-two"),
        pytest.param([BOX], [], [], 0.0, 0.0, 0.0, id="nothing-found"),
    ],
)
def test_figures_worked_out_by_hand(truth, found, scores, ap, ap50, ar1):
    annotations = make_truth([truth], [[0] * len(truth)])
    predictions = Predictions.from_lists([found], [scores], [[0] * len(found)])
    metrics = coco_metrics(annotations, predictions, class_names=["a", "absent"])
    assert metrics.mean_ap == pytest.approx(ap, abs=1e-9)
    assert metrics.ap50 == pytest.approx(ap50, abs=1e-9)
    assert metrics.ar1 == pytest.approx(ar1, abs=1e-9)
    assert metrics.ap_medium == pytest.approx(ap, abs=1e-9)
    assert math.isnan(metrics.ap_small)
    assert math.isnan(metrics.class_ap[1])
    assert metrics.class_ap50[0] == pytest.approx(ap50, abs=1e-9)


def test_detections_on_a_crowd_are_ignored():
    annotations = make_truth([[BOX, FAR]], [[0, 0]], is_crowd=[[True, False]], areas=[[1600, 1600]])
    inside = [[1.0, 1.0, 5.0, 5.0], [10.0, 10.0, 20.0, 20.0]]
    predictions = Predictions.from_lists([[*inside, FAR]], [[0.9, 0.8, 0.1]], [[0, 0, 0]])
    assert coco_metrics(annotations, predictions, class_names=["a"]).mean_ap == pytest.approx(1.0)


@pytest.mark.parametrize("num_images", [0, 2])
def test_without_ground_truth_every_figure_is_nan(num_images):
    nothing = [np.zeros((0, 4))] * num_images
    predictions = Predictions.from_lists(
        [[BOX]] * num_images, [[0.5]] * num_images, [[0]] * num_images
    )
    metrics = coco_metrics(make_truth(nothing, [[]] * num_images), predictions, class_names=["a"])
    assert all(np.isnan(value).all() for value in vars(metrics).values())


def test_only_the_chosen_images_count_and_each_once(capfd):
    annotations = make_truth([[BOX], [BOX]], [[0], [0]])
    predictions = Predictions.from_lists([[BOX], []], [[0.5], []], [[0], []])
    figure = {
        images: coco_metrics(annotations, predictions, class_names=["a"], images=images).mean_ap
        for images in [(0,), (1,), (0, 0), ()]
    }
    assert figure[(0,)] == figure[(0, 0)] == pytest.approx(1.0)
    assert figure[(1,)] == 0.0
    assert math.isnan(figure[()])
    assert capfd.readouterr() == ("", "")


def test_disagreeing_images_are_refused():
    with pytest.raises(DataError, match="must cover the 1 annotated images, got 0"):
        coco_metrics(
            make_truth([[BOX]], [[0]]),
            Predictions.from_lists([], [], []),
            class_names=["a"],
        )


@pytest.mark.parametrize(
    ("case", "truth", "found"),
    [
        pytest.param(
            "coco_val2014_100",
            "instances_val2014_100.json",
            "instances_val2014_fakebbox100_results.json",
            id="coco",
        ),
        pytest.param("faster_coco_eval_dataset", "gt_dataset.json", "dt_dataset.json", id="faster"),
    ],
)
def test_published_figures_are_met(shared_data, case, truth, found):
    folder = shared_data / "map_reference"
    files = folder / case.removesuffix("_dataset")
    annotations, predictions, names = read_coco(files / truth, files / found)
    expected = json.loads((folder / "expected_pycocotools.json").read_text())[case]
    metrics = coco_metrics(annotations, predictions, class_names=names)
    keys = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100"]
    summary = [expected["summary"][key] for key in keys]
    found_summary = [-1 if np.isnan(v) else v for v in list(vars(metrics).values())[:9]]
    assert found_summary == pytest.approx(summary, abs=1e-9)
    per_class = [expected["per_class_AP_AP50"][name] for name in names]
    for k, values in enumerate([metrics.class_ap, metrics.class_ap50]):
        wanted = [np.nan if pair[k] is None else pair[k] for pair in per_class]
        assert values.tolist() == pytest.approx(wanted, abs=1e-9, nan_ok=True)
