"""Curves over labelled objects, against curves that are known."""

import numpy as np
import pytest

from detal.errors import DataError
from detal.reward import CategoryCurves, fit_category_curves


def known(exponent: float = 0.5, onset: float = 10.0) -> CategoryCurves:
    top = np.array([0.9, 0.6, 0.5])
    return CategoryCurves(top, top.copy(), exponent, onset, np.zeros((3, 2, 2)))


def test_prior_by_hand() -> None:
    prior = CategoryCurves.prior(2)
    assert prior.ap(np.array([0.0, 30.0])).tolist() == [0.0, 0.5]
    gain = prior.gain(np.array([1]), np.array([30.0]), np.array([50.0]))
    assert gain == pytest.approx([1 / 2 - 1 / 3])


@pytest.mark.parametrize(("exponent", "onset"), [(0.35, 10.0), (0.5, 3.2), (1.0, 32.0)])
def test_noiseless_measurements_give_the_curve_back(exponent: float, onset: float) -> None:
    true = known(exponent, onset)
    counts = np.array([[10, 20, 5], [20, 40, 10], [40, 80, 20], [80, 160, 40]], dtype=float)
    fitted = fit_category_curves(counts, true.ap(counts))
    assert fitted.ap(counts) == pytest.approx(true.ap(counts), abs=0.02)
    more = counts[-1] * 2
    assert fitted.ap(more) == pytest.approx(true.ap(more), abs=0.05)


def test_noise_leaves_the_shape_at_the_prior_s() -> None:
    """One pair of variants, far from each other by chance: nothing to learn a shape from."""
    counts = np.array([[20.0, 25.0], [40.0, 50.0]])
    fitted = fit_category_curves(counts, np.array([[0.1, 0.3], [0.3, 0.1]]))
    assert 0.3 < fitted.exponent < 0.8
    assert 5 < fitted.onset < 20


def test_a_category_without_ground_truth_follows_the_others() -> None:
    true = known()
    counts = np.array([[10.0, 20, 5], [40, 80, 20], [160, 320, 80]])
    ap = true.ap(counts)
    ap[:, 2] = np.nan
    fitted = fit_category_curves(counts, ap)
    assert fitted.drop[2] == pytest.approx(fitted.drop[:2].mean(), abs=0.05)
    assert fitted.deviation(counts[-1])[2] > 3 * fitted.deviation(counts[-1])[:2].max()


def test_a_wild_category_is_drawn_to_the_others_and_never_falls() -> None:
    counts = np.tile(np.array([[4.0], [16], [64], [256]]), (1, 6))
    ap = 0.8 - 0.8 * (1 + counts / 10) ** -0.5
    ap[:, 0] = [0.5, 0.3, 0.2, 0.1]
    fitted = fit_category_curves(counts, ap)
    assert (fitted.drop >= 0).all()
    assert np.isfinite(fitted.ap(counts)).all()


@pytest.mark.parametrize(
    ("counts", "ap", "message"),
    [
        pytest.param(np.ones((2, 3)), np.ones((2, 2)), "alike", id="shapes"),
        pytest.param(np.ones((2, 3)), np.ones((2, 3)), "two different counts", id="flat"),
        pytest.param(np.zeros((0, 3)), np.zeros((0, 3)), "two different counts", id="none"),
    ],
)
def test_what_cannot_be_fitted(counts: np.ndarray, ap: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        fit_category_curves(counts, ap)
