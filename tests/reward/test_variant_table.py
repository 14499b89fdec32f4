"""The variant table: compositions worked out by hand, and what holds whatever was measured."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from detal.reward import VariantTable
from detal.reward.table import total_gain
from tests.reward.factories import group_gains

NAMES = ("cat", "dog", "owl")
NAN = float("nan")


def returns(x: float) -> float:
    return float((1 - (1 + x) ** -0.5) / (1 - 2**-0.5))


@pytest.fixture
def table() -> VariantTable:
    """Of cat 0.5 is missing, of dog 0.8; no owls. Group 0 gains 0.1 cats, group 1 0.4 dogs.

    Two images were trained on in each group, which has two candidates; no noise.
    """
    gains = group_gains([[0.6, 0.2, NAN], [0.5, 0.6, NAN]], [[0.5, 0.2, NAN]] * 2, trained=[2, 2])
    return VariantTable(
        gains,
        groups=np.array([0, 0, 1, 1]),
        amounts=np.array([1.0, 3.0, 2.0, 0.0]),
        class_names=NAMES,
    )


def test_gains_by_hand(table: VariantTable) -> None:
    # In units of the group's mean, over its two images: 0.25, 0.75; 1, 0.
    cat, dog = 0.5 * 0.2, 0.8 * 0.5
    expected = [cat * returns(0.25) / 2, cat * returns(0.75) / 2, dog * returns(1) / 2, 0]
    assert table.marginal_gain(table.start(), np.arange(4)) == pytest.approx(expected)
    assert returns(1) == 1
    everything = np.arange(4)
    assert table.class_gain(everything) == pytest.approx([cat, dog, 0])  # what was measured
    assert table.gain(everything) == pytest.approx((cat + dog) / 2)
    assert table.gain(everything[::-1]) == pytest.approx((cat + dog) / 2)
    assert table.gain(np.zeros(0, np.int64)) == 0
    assert len(table) == 4


def test_groups_share_what_is_missing() -> None:
    gains = group_gains([[0.75, 0.5, 0.5]] * 2, [[0.5, 0.5, 0.5]] * 2, trained=[1, 1])
    table = VariantTable(
        gains, groups=np.array([0, 1]), amounts=np.array([1.0, 1.0]), class_names=NAMES
    )
    # Each takes half of what is missing of the cats: 0.25, then 0.125.
    assert table.class_gain(np.array([0])) == pytest.approx([0.25, 0, 0])
    assert table.class_gain(np.array([0, 1])) == pytest.approx([0.375, 0, 0])


def test_what_was_labelled_since_counts_as_picked() -> None:
    gains = group_gains(
        [[0.6, 0.5, 0.5]] * 2, [[0.5, 0.5, 0.5]] * 2, labeled=[3, 0], trained=[2, 2]
    )
    options: dict[str, Any] = {
        "groups": np.array([0, 1]),
        "amounts": np.ones(2),
        "class_names": NAMES,
    }
    fresh = VariantTable(gains, **options, labeled=np.array([3, 0]))
    later = VariantTable(gains, **options, labeled=np.array([5, 0]))
    before = fresh.marginal_gain(fresh.start(), np.arange(2))
    after = later.marginal_gain(later.start(), np.arange(2))
    assert before[0] == pytest.approx(before[1])
    assert before[0] == pytest.approx(0.1 * returns(0.5) / 3)
    assert after[0] == pytest.approx(0.1 * (returns(1.5) - 1) * 1.0 / 3)
    # The other group has a little less left to gain, too.
    assert after[1] == pytest.approx(0.1 * returns(0.5) / 3 * (1 - 0.2))
    assert later.gain(np.array([0])) == pytest.approx(after[0])


def test_harm_is_raised_to_the_size_of_noise() -> None:
    """Both groups lose 0.2, of which the noise cannot tell; a batch of each gains the noise."""
    controls = [[0.49, 0.5, 0.5], [0.51, 0.5, 0.5]]
    gains = group_gains([[0.3, 0.3, 0.3]] * 2, controls, trained=[1, 1])
    table = VariantTable(gains, groups=np.array([0, 1]), amounts=np.ones(2), class_names=NAMES)
    noise = gains.shrunk.noise
    assert noise > 0
    assert table.gain(np.array([0])) == pytest.approx(noise)
    assert table.gain(np.array([1])) == pytest.approx(noise)


def test_a_group_without_a_variant_is_worth_the_mean() -> None:
    gains = group_gains(
        [[0.6, 0.5, 0.5], [0.8, 0.5, 0.5], [NAN] * 3], [[0.5, 0.5, 0.5]] * 2, trained=[4, 2, 0]
    )
    table = VariantTable(gains, groups=np.array([0, 1, 2]), amounts=np.ones(3), class_names=NAMES)
    gain = table.marginal_gain(table.start(), np.array([2]))[0]
    assert gain == pytest.approx(0.2 / 3 * returns(1 / 4))


def test_words(table: VariantTable) -> None:
    assert table.explain(table.start(), 2) == "as group 2 of 2, which gained most for dog"
    assert table.explain(table.start(), 3) == "as group 2 of 2"


@given(
    measured=arrays(np.float64, (3, 2), elements=st.floats(0, 1)),
    controls=arrays(np.float64, (2, 2), elements=st.floats(0, 1)),
    amounts=arrays(np.float64, 7, elements=st.floats(0, 5)),
    groups=arrays(np.int64, 7, elements=st.integers(0, 2)),
    order=st.permutations(range(7)),
)
def test_monotone_and_submodular_whatever_was_measured(
    measured: np.ndarray,
    controls: np.ndarray,
    amounts: np.ndarray,
    groups: np.ndarray,
    order: list[int],
) -> None:
    gains = group_gains(
        measured.tolist(), controls.tolist(), class_names=NAMES[:2], trained=[1, 2, 3]
    )
    table = VariantTable(gains, groups=groups, amounts=amounts, class_names=NAMES[:2])
    state, everything = table.start(), np.arange(7)
    before = table.marginal_gain(state, everything)
    for number, candidate in enumerate(order, start=1):
        assert (before >= -1e-12).all()
        state = table.add(state, candidate)
        after = table.marginal_gain(state, everything)
        assert (after <= before + 1e-9).all()
        before = after
        batch = np.array(order[:number])
        assert table.gain(batch) == pytest.approx(total_gain(table, batch), abs=1e-9)
        assert table.gain(batch) <= 1
