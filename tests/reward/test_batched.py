"""Many batches at once are the same as one after the other."""

import numpy as np
import pytest

from detal.reward import CurveTable, Novelty, OneByOne, batched
from tests.reward.test_curve_table import table_of
from tests.reward.test_output_change import random_world

ROUNDING = 1e-6  # of distances in float32


def curve_table(rng: np.random.Generator, *, redundancy: bool) -> CurveTable:
    images = [
        [(int(rng.integers(3)), float(rng.uniform(0.1, 0.9))) for _ in range(rng.integers(0, 5))]
        for _ in range(30)
    ]
    features = rng.normal(size=(30, 3)).astype(np.float32)
    novelty = Novelty(features, features[:2] + 0.1, rng) if redundancy else None
    return table_of(images, novelty=novelty, weights=np.array([0.5, 2.0, 0.5]))


@pytest.fixture(params=["curve", "curve with novelty", "change"])
def table(request: pytest.FixtureRequest, rng: np.random.Generator):
    if request.param == "change":
        return random_world(rng)[1]
    return curve_table(rng, redundancy=request.param != "curve")


def batches_of(rng: np.random.Generator) -> np.ndarray:
    """Four batches of 0 to 7 images, padded with -1."""
    rows = np.stack([rng.permutation(30)[:7] for _ in range(4)])
    rows[np.arange(7) >= np.array([7, 3, 0, 5])[:, None]] = -1
    return rows


@pytest.mark.parametrize("cells", [4_000_000, 6], ids=["at once", "in parts"])
def test_as_one_after_the_other(table, rng, cells, monkeypatch) -> None:
    for module in ("curve_table", "output_change"):
        monkeypatch.setattr(f"detal.reward.{module}._CELLS_AT_ONCE", cells)
    monkeypatch.setattr("detal.reward.novelty._DISTANCES_AT_ONCE", 30 * cells)
    many, plain = batched(table, num_candidates=30), OneByOne(table, np.arange(30))
    assert many is table
    picks = batches_of(rng)
    states, gains = many.adds(many.starts(4), picks)
    plain_states, plain_gains = plain.adds(plain.starts(4), picks)
    assert gains == pytest.approx(plain_gains, abs=ROUNDING)
    assert (gains[picks < 0] == 0).all()
    expected = plain.marginal_gains(plain_states)
    assert many.marginal_gains(states) == pytest.approx(expected, abs=ROUNDING)
    assert many.gains(picks) == pytest.approx(plain.gains(picks), abs=ROUNDING)
    # What is picked later finds what was picked before.
    later = batches_of(rng)
    assert many.adds(states, later)[1] == pytest.approx(
        plain.adds(plain_states, later)[1], abs=ROUNDING
    )


def test_of_some_candidates(table, rng) -> None:
    index = rng.permutation(30)[:12]
    part, whole = batched(table, num_candidates=30).take(index), batched(table, num_candidates=30)
    assert len(part) == 12
    picks = np.stack([rng.permutation(12)[:4] for _ in range(3)])
    assert part.gains(picks) == pytest.approx(whole.gains(index[picks]), abs=1e-9)
    states, _ = whole.adds(whole.starts(3), index[picks])
    mine, _ = part.adds(part.starts(3), picks)
    expected = whole.marginal_gains(states)[:, index]
    assert part.marginal_gains(mine) == pytest.approx(expected, abs=1e-9)
    plain = OneByOne(table, np.arange(30)).take(index)
    assert plain.gains(picks) == pytest.approx(part.gains(picks), abs=ROUNDING)


def test_no_batches_and_no_candidates(table) -> None:
    nothing = np.zeros((0, 3), dtype=np.int64)
    for many in (batched(table, num_candidates=30), OneByOne(table, np.arange(30))):
        assert many.gains(nothing).shape == (0,)
        assert many.marginal_gains(many.starts(0)).shape == (0, 30)
        empty = many.take(np.zeros(0, dtype=np.int64))
        assert empty.marginal_gains(empty.starts(2)).shape == (2, 0)
        assert empty.gains(np.full((2, 3), -1)).tolist() == [0, 0]


def test_other_tables_are_asked_one_by_one(rng) -> None:
    class Plain:
        def __init__(self, table: CurveTable) -> None:
            self.start, self.marginal_gain = table.start, table.marginal_gain
            self.add, self.gain, self.explain = table.add, table.gain, table.explain

    table = curve_table(rng, redundancy=True)
    many = batched(Plain(table), num_candidates=30)
    assert isinstance(many, OneByOne)
    picks = batches_of(rng)
    assert many.gains(picks) == pytest.approx(table.gains(picks), abs=ROUNDING)
