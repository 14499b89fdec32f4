import numpy as np
import pytest

from detal.errors import DataError
from detal.review import Decisions


def of(*costs: float, count: int, budget: float) -> Decisions:
    return Decisions(costs=np.array(costs), count=count, budget=budget)


def decided(start: Decisions, *steps: tuple[int, str]) -> Decisions:
    for row, verdict in steps:
        start, _ = start.decide(row, verdict)  # type: ignore[arg-type]
    return start


THREE = of(1, 1, 1, 1, 1, count=3, budget=3)


@pytest.mark.parametrize(
    ("steps", "kept"),
    [
        pytest.param([], [0, 1, 2], id="undecided-is-kept"),
        pytest.param([(1, "accepted")], [0, 1, 2], id="accepted"),
        pytest.param([(1, "rejected")], [0, 2], id="rejected"),
        pytest.param([(1, "rejected"), (1, "")], [0, 1, 2], id="taken-back"),
        pytest.param([(1, "replaced")], [0, 2, 3], id="replaced"),
        pytest.param([(1, "replaced"), (1, "replaced")], [0, 2, 3], id="replaced-twice"),
        pytest.param([(2, "replaced"), (0, "replaced")], [1, 3, 4], id="two-replaced"),
        pytest.param([(1, "replaced"), (3, "replaced")], [0, 2, 4], id="what-came-replaced"),
        pytest.param([(1, "replaced"), (3, "replaced"), (1, "")], [0, 1, 2], id="chain-back"),
        pytest.param([(1, "replaced"), (1, "accepted")], [0, 1, 2], id="replaced-then-accepted"),
        pytest.param([(0, "replaced"), (1, "replaced"), (2, "replaced")], [3, 4], id="used-up"),
    ],
)
def test_what_is_kept(steps: list[tuple[int, str]], kept: list[int]) -> None:
    after = decided(THREE, *steps)
    assert after.kept.tolist() == kept
    assert after.spent == len(kept)


def test_what_comes_must_fit_the_budget() -> None:
    start = of(2, 2, 5, 2.5, 1.5, 0.4, count=2, budget=4.4)
    after, said = start.decide(0, "replaced")  # 2.4 are left
    assert after.came == [4]
    assert said == "#1 rejected, next 3 comes instead"
    after, _ = after.decide(1, "replaced")  # 2.9 are left, of what was passed over
    assert after.came == [4, 3]
    after, said = after.decide(4, "replaced")  # 1.9
    assert after.came == [4, 3, 5]
    after, said = after.decide(3, "replaced")  # 4.0
    assert "none of the 1 images in reserve fits the 4 that are left" in said
    assert after.kept.tolist() == [5]


def test_the_budget_is_not_exceeded_by_taking_back() -> None:
    after = decided(of(2, 2, 3.5, count=2, budget=4), (0, "rejected"), (1, "replaced"))
    assert after.kept.tolist() == [2]
    with pytest.raises(DataError, match=r"4 at most, with #1 it would be 1.5 more"):
        after.decide(0, "accepted")
    assert decided(after, (1, "")).kept.tolist() == [1]


def test_an_overspent_batch_can_be_accepted() -> None:
    """Costs in the file are rounded, so a full batch may seem to cost a little more."""
    after, _ = of(1.5, 1.5, count=2, budget=2.9).decide(0, "accepted")
    assert after.kept.tolist() == [0, 1]


def test_decisions_are_not_changed_in_place() -> None:
    THREE.decide(0, "replaced")
    assert (THREE.verdicts, THREE.replaced_by) == ({}, {})


@pytest.mark.parametrize("row", [-1, 3, 99])
def test_other_rows(row: int) -> None:
    with pytest.raises(DataError, match="must be one of the batch"):
        THREE.decide(row, "accepted")


def test_summary() -> None:
    after = decided(THREE, (0, "accepted"), (1, "replaced"))
    assert after.summary("images") == {
        "decided": 2,
        "total": 4,
        "kept": 3,
        "spent": "3.0",
        "budget": "3 images",
    }
