import numpy as np
import pytest

from detal.boxes import (
    cxcywhn_to_xyxy,
    invalid_boxes,
    xywh_to_xyxy,
    xyxy_to_cxcywhn,
    xyxy_to_xywh,
)


def test_hand_computed_formats() -> None:
    xyxy = np.array([[10.0, 20.0, 30.0, 60.0]])
    np.testing.assert_allclose(xyxy_to_xywh(xyxy), [[10, 20, 20, 40]])
    np.testing.assert_allclose(xyxy_to_cxcywhn(xyxy, width=100, height=80), [[0.2, 0.5, 0.2, 0.5]])


def test_round_trips(rng: np.random.Generator) -> None:
    corner = rng.uniform(0, 50, size=(20, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 50, size=(20, 2))], axis=1)
    np.testing.assert_allclose(xywh_to_xyxy(xyxy_to_xywh(boxes)), boxes)
    normalised = xyxy_to_cxcywhn(boxes, width=640, height=480)
    np.testing.assert_allclose(cxcywhn_to_xyxy(normalised, width=640, height=480), boxes)


@pytest.mark.parametrize("convert", [xywh_to_xyxy, xyxy_to_xywh], ids=lambda f: f.__name__)
def test_no_boxes(convert) -> None:
    assert convert(np.zeros((0, 4))).shape == (0, 4)
    assert convert([]).shape == (0, 4)


@pytest.mark.parametrize(
    ("box", "invalid"),
    [
        pytest.param([0, 0, 1, 1], False, id="fine"),
        pytest.param([0, 0, 0, 1], True, id="no-width"),
        pytest.param([0, 5, 1, 5], True, id="no-height"),
        pytest.param([3, 0, 1, 1], True, id="swapped"),
        pytest.param([0, 0, np.nan, 1], True, id="nan"),
        pytest.param([0, 0, np.inf, 1], True, id="infinite"),
    ],
)
def test_invalid_boxes(box: list[float], invalid: bool) -> None:
    assert invalid_boxes(np.array([box])).tolist() == [invalid]
