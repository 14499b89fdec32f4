import math

import numpy as np
import pytest
import torch

from detal.features import class_quality, difficulty_weights, inverse_frequency_weights
from detal.structures import Annotations
from tests.features.factories import detections_of, softmax_of

BOX = [[0.0, 5.0, 10.0, 15.0]]  # the first box of each image of `detections_of`


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        # mean 20, smoothing 2: 22 / (count + 2)
        pytest.param([40, 20, 0], [22 / 42, 1, 11], id="long-tail"),
        # mean 2, smoothing 1: 3 / (count + 1)
        pytest.param([4, 2, 0], [3 / 5, 1, 3], id="few"),
        pytest.param([0, 0], [1, 1], id="nothing-labelled"),
        pytest.param([7], [1], id="one-class"),
        pytest.param([], [], id="no-class"),
    ],
)
def test_inverse_frequency(counts, expected) -> None:
    weights = inverse_frequency_weights(np.array(counts))
    assert weights.tolist() == pytest.approx(expected)


def test_quality_by_hand() -> None:
    """Class 0: one object found with IoU 0.6 and p 0.9, one missed; class 1 seen as class 0."""
    seen = detections_of([[(0, 0.9)], [], [(0, 0.8)]])
    truth = Annotations.from_lists(
        [np.array([[0.0, 5, 10, 11]]), np.array(BOX), np.array(BOX)],
        [np.array([0]), np.array([0]), np.array([1])],
    )
    quality = class_quality(seen, truth)
    expected = [0.9**0.6 * 0.6**0.4 / 2, 0.01**0.6, 0]
    assert quality.tolist() == pytest.approx(expected, rel=1e-5)


def test_quality_of_softmax_scores_and_crowds() -> None:
    seen = softmax_of([[0.7, 0.2, 0.1]])
    seen.boxes[0] = torch.tensor(BOX[0])
    truth = Annotations.from_lists(
        [np.array(BOX * 2)], [np.array([1, 0])], is_crowd=[np.array([False, True])]
    )
    assert class_quality(seen, truth, xi=1).tolist() == pytest.approx([0, 0.2], rel=1e-5)


def test_difficulty_weights_run_from_one_to_their_bound() -> None:
    quality = torch.tensor([1.0, 0.5, 0.0])
    b = math.exp(1 / 0.3) - 1
    expected = [1, 1 + 0.3 * 0.2 * math.log(b * 0.5 + 1), 1.2]
    assert difficulty_weights(quality).tolist() == pytest.approx(expected)
