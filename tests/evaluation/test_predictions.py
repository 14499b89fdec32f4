import numpy as np
import pytest
import torch

from detal.errors import DataError
from detal.evaluation.predictions import Predictions, check_pair
from detal.structures import Detections
from tests.evaluation.worlds import make_truth

BOX = [[0.0, 0.0, 4.0, 4.0]]


def test_take_repeats_and_reorders_images():
    predictions = Predictions.from_lists(
        [BOX, BOX * 2, []], [[0.1], [0.2, 0.3], []], [[0], [1, 2], []]
    )
    taken = predictions.take([1, 2, 1, 0])
    assert taken.offsets.tolist() == [0, 2, 2, 4, 5]
    assert taken.labels.tolist() == [1, 2, 1, 2, 0]
    assert taken.image_index.tolist() == [0, 0, 2, 2, 3]


def test_from_detections_keeps_boxes_scores_and_labels():
    detections = Detections(
        offsets=torch.tensor([0, 0, 1]),
        boxes=torch.tensor(BOX),
        scores=torch.tensor([0.5]),
        labels=torch.tensor([1]),
        logits=torch.zeros(1, 2),
        score_kind="sigmoid",
    )
    predictions = Predictions.from_detections(detections)
    assert len(predictions) == 2
    assert predictions.boxes.dtype == np.float32
    assert predictions.boxes.tolist() == BOX
    assert (predictions.scores.tolist(), predictions.labels.tolist()) == ([0.5], [1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"offsets": np.array([0, 2])}, r"offsets must run from 0 to 1", id="offsets"),
        pytest.param({"offsets": np.array([0, 2, 1])}, "must not decrease", id="falling-offsets"),
        pytest.param({"scores": np.zeros(2)}, "scores must have 1 rows, got 2", id="scores"),
        pytest.param({"scores": np.array([np.nan])}, "finite.* in row 0", id="nan-score"),
        pytest.param({"boxes": np.array([[0, 0, np.inf, 1]])}, "finite", id="infinite-box"),
    ],
)
def test_malformed_predictions_are_refused(change, message):
    good = {
        "offsets": np.array([0, 1]),
        "boxes": np.array(BOX),
        "scores": np.array([0.5]),
        "labels": np.array([0]),
    }
    with pytest.raises(DataError, match=message):
        Predictions(**{**good, **change})


@pytest.mark.parametrize(
    ("labels", "num_images", "message"),
    [
        pytest.param([2], 1, r"predicted labels must lie in 0\.\.1, got 2", id="label-too-high"),
        pytest.param([-1], 1, "got -1", id="negative-label"),
        pytest.param([0], 2, "must cover the 2 annotated images, got 1", id="other-images"),
    ],
)
def test_ground_truth_and_predictions_must_agree(labels, num_images, message):
    annotations = make_truth([BOX] * num_images, [[0]] * num_images)
    with pytest.raises(DataError, match=message):
        check_pair(annotations, Predictions.from_lists([BOX], [[0.5]], [labels]), num_classes=2)
