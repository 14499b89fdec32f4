"""Rank correlations and the noise ceiling on numbers made by hand."""

from typing import Any

import numpy as np
import pytest

from detal.errors import DataError
from detal.loop.fidelity import Compared, compare_tables, noise_ceiling, spearman

NAN = float("nan")


@pytest.mark.parametrize(
    ("second", "rho"),
    [
        pytest.param([10.0, 20.0, 90.0, 91.0], 1.0, id="same-order"),
        pytest.param([4.0, 3.0, 2.0, 1.0], -1.0, id="reversed"),
        # Differences of rank 1, 1, 0, 0: 1 - 6 * 2 / (4 * 15)
        pytest.param([2.0, 1.0, 3.0, 4.0], 0.8, id="one-swap"),
        # Ranks 1, 2.5, 2.5, 4 beside 1, 2, 3, 4: covariance 4.5 of 5 and 4.5
        pytest.param([0.0, 1.0, 1.0, 2.0], 4.5 / (5 * 4.5) ** 0.5, id="a-tie"),
        pytest.param([7.0, 7.0, 7.0, 7.0], NAN, id="constant"),
        pytest.param([1.0, NAN, 2.0, 3.0], NAN, id="not-a-number"),
    ],
)
def test_spearman(second: list[float], rho: float) -> None:
    found = spearman(np.array([1.0, 2.0, 3.0, 4.0]), np.array(second))
    assert found == pytest.approx(rho, nan_ok=True)


@pytest.mark.parametrize("size", [0, 1])
def test_too_few_batches_have_no_correlation(size: int) -> None:
    assert np.isnan(spearman(np.zeros(size), np.zeros(size)))


@pytest.mark.parametrize(
    ("repeats", "one", "mean", "rho"),
    [
        pytest.param([[1, 2, 3, 4], [2, 4, 6, 9]], 1.0, 1.0, 1.0, id="no-noise"),
        # 2 * 0.8 / 1.8
        pytest.param([[1, 2, 3, 4], [2, 1, 3, 4]], 0.8, 1.6 / 1.8, (1.6 / 1.8) ** 0.5, id="two"),
        # Pairs 1, 0.8, 0.8; 3 r / (1 + 2 r)
        pytest.param(
            [[1, 2, 3, 4], [1, 2, 3, 4], [2, 1, 3, 4]],
            2.6 / 3,
            2.6 / (1 + 5.2 / 3),
            (2.6 / (1 + 5.2 / 3)) ** 0.5,
            id="three",
        ),
        pytest.param([[1, 2, 3, 4], [4, 3, 2, 1]], -1.0, -1.0, NAN, id="they-disagree"),
        pytest.param([[1, 2, 3, 4], [1, 1, 1, 1]], NAN, NAN, NAN, id="one-is-constant"),
    ],
)
def test_noise_ceiling(repeats: list[list[int]], one: float, mean: float, rho: float) -> None:
    ceiling = noise_ceiling(np.array(repeats, dtype=float).T)
    assert ceiling.reliability_of_one == pytest.approx(one, nan_ok=True)
    assert ceiling.reliability_of_mean == pytest.approx(mean, nan_ok=True)
    assert ceiling.rho == pytest.approx(rho, nan_ok=True)


def test_one_repeat_tells_nothing_about_noise() -> None:
    with pytest.raises(DataError, match="at least two repeats, got 1"):
        noise_ceiling(np.zeros((4, 1)))


def test_a_table_without_error_reaches_the_ceiling_on_noisy_gains(
    rng: np.random.Generator,
) -> None:
    """As many batches as it takes for the formula's own error to vanish."""
    truth = rng.normal(size=4000)
    ceiling = noise_ceiling(truth[:, None] + rng.normal(size=(4000, 3)))
    reached = spearman(truth, (truth[:, None] + rng.normal(size=(4000, 3))).mean(axis=1))
    assert reached / ceiling.rho == pytest.approx(1, abs=0.02)
    assert ceiling.rho < 0.9


class TestCompareTables:
    @pytest.fixture
    def compared(self, rng: np.random.Generator) -> dict[str, Any]:
        """Twelve batches, two repeats that differ in one swap; class owl has no ground truth."""
        truth = np.arange(12.0)
        swapped = truth.copy()
        swapped[[4, 5]] = swapped[[5, 4]]
        true = np.stack([truth, swapped], axis=1)
        class_true = np.stack([true, -true, np.full_like(true, NAN)], axis=2)
        by_class = np.stack([truth, truth, truth], axis=1)
        tables = {
            "perfect": Compared(truth, by_class),
            "reversed": Compared(-truth),
            "noise": Compared(rng.normal(size=12)),
            "constant": Compared(np.ones(12)),
        }
        return compare_tables(
            tables,
            true=true,
            class_true=class_true,
            class_names=("cat", "dog", "owl"),
            rng=rng,
        )

    def test_the_ceiling(self, compared: dict[str, Any]) -> None:
        one = 1 - 6 * 2 / (12 * 143)
        ceiling = compared["ceiling"]
        assert ceiling["reliability_of_one"] == pytest.approx(one)
        assert ceiling["rho"] == pytest.approx((2 * one / (1 + one)) ** 0.5)
        assert ceiling["rho_interval"][0] <= ceiling["rho"] <= ceiling["rho_interval"][1] + 1e-9
        assert ceiling["classes"]["owl"]["rho"] is None

    @pytest.mark.parametrize(("name", "sign"), [("perfect", 1), ("reversed", -1)])
    def test_right_and_wrong_way_round(
        self, compared: dict[str, Any], name: str, sign: int
    ) -> None:
        figures = compared["tables"][name]
        # The mean of the repeats ties the two swapped batches.
        rho = spearman(np.arange(12.0), np.array([0, 1, 2, 3, 4.5, 4.5, *range(6, 12)]))
        assert figures["rho"] == pytest.approx(sign * rho)
        assert figures["share_of_ceiling"] == pytest.approx(sign * rho / compared["ceiling"]["rho"])
        assert all(sign * bound > 0.9 for bound in figures["rho_interval"])

    def test_noise_has_a_wide_interval_around_nothing(self, compared: dict[str, Any]) -> None:
        low, high = compared["tables"]["noise"]["rho_interval"]
        assert low < 0.2
        assert high - low > 0.5

    def test_a_constant_table_has_no_figure(self, compared: dict[str, Any]) -> None:
        figures = compared["tables"]["constant"]
        assert figures["rho"] is None
        assert figures["rho_interval"] is None
        assert figures["share_of_ceiling"] is None

    def test_classes(self, compared: dict[str, Any]) -> None:
        classes = compared["tables"]["perfect"]["classes"]
        assert classes["cat"]["rho"] == pytest.approx(compared["tables"]["perfect"]["rho"])
        assert classes["dog"]["rho"] == pytest.approx(-classes["cat"]["rho"])
        assert classes["owl"] == {"rho": None, "share_of_ceiling": None}
        assert compared["tables"]["perfect"]["class_rho_mean"] == pytest.approx(0)
        assert compared["tables"]["reversed"]["classes"] is None
