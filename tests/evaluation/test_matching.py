import numpy as np
import pytest

from detal.evaluation.matching import class_order, falling_order, group_ranks


@pytest.mark.parametrize(
    "scores",
    [
        pytest.param(np.zeros(0), id="empty"),
        pytest.param(np.array([0.3]), id="one"),
        pytest.param(np.array([0.0, -0.0, 0.0, -0.0]), id="signed-zeros-tie"),
        pytest.param(np.array([-2.5, 1e-300, 7.0, -1e300, 7.0, 1e300, -2.5]), id="all-signs"),
        pytest.param(np.array([3, 1, 3, 2]), id="integers"),
        pytest.param(np.random.default_rng(0).normal(size=500).astype(np.float32), id="float32"),
        pytest.param(np.random.default_rng(0).normal(size=500).round(1), id="ties"),
    ],
)
def test_falling_order_is_a_stable_sort(scores):
    expected = np.argsort(-scores.astype(np.float64), kind="stable")
    assert falling_order(scores).tolist() == expected.tolist()


def test_ranks_within_image_and_class_and_order_by_class():
    """Labels and images beyond 16 bits."""
    label = np.array([70_000, 0, 70_000, 0, 0])
    image = np.array([0, 0, 0, 200_000, 0])
    order = falling_order(np.array([0.1, 0.2, 0.3, 0.4, 0.5]))
    assert group_ranks(order, label, image).tolist() == [1, 1, 0, 0, 0]
    assert class_order(label, order).tolist() == [4, 3, 1, 2, 0]
