import math

import numpy as np
import pytest
import torch

from detal.features import detection_loss
from detal.structures import Annotations
from tests.features.factories import detections_of, softmax_of

FIRST, SECOND, FAR = [0.0, 5, 10, 15], [12.0, 5, 22, 15], [70.0, 70, 80, 80]
MISSED = -math.log(0.01) + 1


def truth_of(*images: list[tuple[list[float], int]], crowd: bool = False) -> Annotations:
    return Annotations.from_lists(
        [np.array([box for box, _ in image]) for image in images],
        [np.array([label for _, label in image]) for image in images],
        is_crowd=[np.full(len(image), crowd) for image in images],
    )


def nll(*probs: float) -> float:
    return -sum(math.log(p) for p in probs)


@pytest.mark.parametrize(
    ("image", "objects", "expected"),
    [
        pytest.param([(0, 0.9)], [(FIRST, 0)], nll(0.9, 0.99, 0.99), id="found"),
        pytest.param([(0, 0.9)], [(FIRST, 2)], nll(0.1, 0.99, 0.01), id="wrong-class"),
        pytest.param(
            [(0, 0.9)], [([0.0, 5, 10, 11], 0)], nll(0.9, 0.99, 0.99) + 0.4, id="loose-box"
        ),
        pytest.param([(0, 0.9)], [], nll(0.1, 0.99, 0.99), id="ghost"),
        pytest.param([], [(FIRST, 0)], MISSED, id="missed"),
        pytest.param([], [], 0, id="rightly-empty"),
        pytest.param(
            [(0, 0.9), (1, 0.8)],
            [(FIRST, 0), (FAR, 0)],
            (nll(0.9, 0.99, 0.99) + nll(0.99, 0.2, 0.99) + MISSED) / 2,
            id="per-object",
        ),
    ],
)
def test_sigmoid_by_hand(image, objects, expected: float) -> None:
    loss = detection_loss(detections_of([image]), truth_of(objects))
    assert loss.tolist() == pytest.approx([expected], rel=1e-5)


def test_softmax_by_hand() -> None:
    seen = softmax_of([[0.7, 0.2, 0.1], [0.5, 0.5, 0.0]])
    seen.boxes[:] = torch.tensor([FIRST, SECOND])
    loss = detection_loss(seen, truth_of([(FIRST, 1)]))
    # The second box is a ghost to which background seemed impossible: a millionth at least.
    assert loss.tolist() == pytest.approx([nll(0.2) + 13.8], rel=1e-5)


def test_crowds_do_not_count() -> None:
    seen = detections_of([[(0, 0.9)], [(0, 0.9)]])
    loss = detection_loss(seen, truth_of([(FIRST, 0)], [(FAR, 0)], crowd=True))
    assert loss.tolist() == pytest.approx([0, nll(0.1, 0.99, 0.99)], rel=1e-5)


def test_finite_for_impossible_scores() -> None:
    seen = detections_of([[(0, 1.0), (1, 0.0)]])
    assert torch.isfinite(detection_loss(seen, truth_of([(SECOND, 1)]))).all()
