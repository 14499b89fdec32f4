import math

import pytest
import torch

from detal.features import (
    Rivals,
    entropy,
    expected_boxes,
    expected_class_counts,
    least_confidence,
    margin,
)
from detal.structures import Detections, ScoreKind
from tests.features.factories import detections_of, softmax_of


def binary(p: float) -> float:
    return -p * math.log(p) - (1 - p) * math.log(1 - p)


SIGMOID = detections_of([[(0, 0.9), (1, 0.5)], [(2, 0.2)]])
SOFTMAX = softmax_of([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]])


def test_entropy_of_sigmoid_scores() -> None:
    top = [binary(0.9), math.log(2), binary(0.2)]
    assert entropy(SIGMOID).tolist() == pytest.approx(top, rel=1e-5)
    assert entropy(SIGMOID, over="top").tolist() == pytest.approx(top, rel=1e-5)
    summed = [value + 2 * binary(0.01) for value in top]
    assert entropy(SIGMOID, over="classes").tolist() == pytest.approx(summed, rel=1e-5)


def test_entropy_of_softmax_scores_counts_background() -> None:
    first = -sum(p * math.log(p) for p in (0.7, 0.2, 0.1))
    second = 2 * 0.25 * math.log(4) + 0.5 * math.log(2)
    assert entropy(SOFTMAX).tolist() == pytest.approx([first, second], rel=1e-5)
    top = [binary(0.7), binary(0.25)]
    assert entropy(SOFTMAX, over="top").tolist() == pytest.approx(top, rel=1e-5)


@pytest.mark.parametrize(
    ("detections", "rivals", "expected"),
    [
        # sigmoid 0.9: rivals 0.01 and 0.1; 0.5: rival 0.5; 0.2: "nothing" 0.8 leads by 0.6.
        pytest.param(SIGMOID, "background", [0.2, 1.0, 0.4], id="sigmoid-background"),
        pytest.param(SIGMOID, "classes", [0.11, 0.51, 0.81], id="sigmoid-classes"),
        pytest.param(SOFTMAX, "background", [0.5, 0.75], id="softmax-background"),
        pytest.param(SOFTMAX, "classes", [0.5, 1.0], id="softmax-classes"),
    ],
)
def test_margin(detections: Detections, rivals: Rivals, expected: list[float]) -> None:
    assert margin(detections, rivals=rivals).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("detections", "rivals", "expected"),
    [
        pytest.param(SIGMOID, "background", [0.1, 0.5, 0.2], id="sigmoid-background"),
        pytest.param(SIGMOID, "classes", [0.1, 0.5, 0.8], id="sigmoid-classes"),
        pytest.param(SOFTMAX, "background", [0.3, 0.5], id="softmax-background"),
        pytest.param(SOFTMAX, "classes", [0.3, 0.75], id="softmax-classes"),
    ],
)
def test_least_confidence(detections: Detections, rivals: Rivals, expected: list[float]) -> None:
    assert least_confidence(detections, rivals=rivals).tolist() == pytest.approx(expected, abs=1e-6)


def test_margin_between_two_likely_classes() -> None:
    detections = detections_of([[(0, 0.9)]], num_classes=2)
    detections.logits[0, 1] = torch.logit(torch.tensor(0.85))
    assert margin(detections).tolist() == pytest.approx([0.95], abs=1e-6)


def test_one_class_margin_is_twice_the_least_confidence() -> None:
    detections = detections_of([[(0, 0.7), (0, 0.3)]], num_classes=1)
    assert margin(detections).tolist() == pytest.approx([0.6, 0.6], abs=1e-6)
    assert least_confidence(detections).tolist() == pytest.approx([0.3, 0.3], abs=1e-6)
    assert margin(detections, rivals="classes").tolist() == pytest.approx([0.3, 0.7], abs=1e-6)


@pytest.mark.parametrize("measure", [entropy, margin, least_confidence])
@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
def test_sure_scores_are_zero_and_finite(measure, kind: ScoreKind) -> None:
    """Logits of a file of predictions may be infinite, and half-precision ones saturate."""
    detections = Detections(
        offsets=torch.tensor([0, 2]),
        boxes=torch.zeros(2, 4),
        scores=torch.tensor([1.0, 1.0]),
        labels=torch.tensor([0, 1]),
        logits=torch.tensor([[65504.0, -65504.0], [-65504.0, 65504.0]]).half(),
        score_kind=kind,
    )
    if kind == "sigmoid":
        detections.logits[0] = torch.tensor([torch.inf, -torch.inf])
    assert measure(detections).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("measure", [entropy, margin, least_confidence])
def test_no_detections(measure) -> None:
    for num_classes in (1, 3):
        assert measure(Detections.empty(2, num_classes=num_classes)).shape == (0,)


def test_nan_is_passed_on_not_hidden() -> None:
    detections = detections_of([[(0, 0.5)]])
    detections.logits[:] = torch.nan
    assert entropy(detections, over="classes").isnan().all()
    assert margin(detections).isnan().all()


def test_expected_boxes_and_class_counts() -> None:
    detections = detections_of([[(0, 0.9), (1, 0.5), (0, 0.25)], [], [(2, 0.2)]])
    assert expected_boxes(detections).tolist() == pytest.approx([1.65, 0.0, 0.2])
    counts = expected_class_counts(detections)
    expected = [[1.15, 0.5, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.2]]
    assert torch.allclose(counts, torch.tensor(expected, dtype=torch.float64), atol=1e-7)
    assert torch.allclose(counts.sum(dim=1), expected_boxes(detections))
