"""Category curves on disk."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detal.errors import DataError, StoreError
from detal.reward import FittedCurves

COUNTS = np.array([[1.0, 10, 0], [3, 20, 1], [8, 40, 1]])
AP = np.array([[0.1, 0.4, np.nan], [0.2, 0.5, np.nan], [0.3, 0.6, np.nan]])


@pytest.fixture
def table() -> FittedCurves:
    return FittedCurves.fit(
        ("cat", "dog", "Ōwl"),
        counts=COUNTS,
        ap=AP,
        labeled_counts=COUNTS[-1],
        made_of={"seed": 3, "variants": [{"images": 2}]},
    )


def test_round_trip(table: FittedCurves, tmp_path: Path) -> None:
    table.save(tmp_path / "new folder")
    table.save(tmp_path / "new folder")
    again = FittedCurves.load(tmp_path / "new folder")
    assert again.class_names == ("cat", "dog", "Ōwl")
    assert again.made_of == table.made_of
    for name in ("counts", "ap", "labeled_counts"):
        np.testing.assert_array_equal(getattr(again, name), getattr(table, name))
    for name in ("top", "drop", "covariance", "exponent", "onset"):
        np.testing.assert_array_equal(getattr(again.curves, name), getattr(table.curves, name))
    assert [path.name for path in (tmp_path / "new folder").iterdir()] == ["curves.json"]


def test_curves_follow_the_names(table: FittedCurves) -> None:
    curves = table.for_classes(("dog", "emu", "cat"))
    at = np.array([5.0, 5.0, 5.0])
    own = table.curves.ap(at)
    assert curves.ap(at)[[0, 2]] == pytest.approx(own[[1, 0]])
    assert curves.ap(at)[1] == pytest.approx(own.mean())
    assert curves.deviation(at)[1] == pytest.approx(table.curves.deviation(at).max())
    assert len(table.for_classes(()).top) == 0


def test_other_classes_are_refused(table: FittedCurves) -> None:
    with pytest.raises(DataError, match=r"must know the detector's classes.*\['emu'\]"):
        table.for_classes(("emu",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"version": 1}, "version 2 is needed, found 1", id="version"),
        pytest.param({"class_names": ["cat"]}, r"shape \(1,\) is needed", id="shape"),
        pytest.param({"curves": None}, "must be a table of category curves", id="section"),
    ],
)
def test_damage_is_named(
    table: FittedCurves, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    table.save(tmp_path)
    path = tmp_path / "curves.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(StoreError, match=message):
        FittedCurves.load(tmp_path)


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="detal tables build"):
        FittedCurves.load(tmp_path)
    (tmp_path / "curves.json").write_text("{")
    with pytest.raises(StoreError, match="must be JSON"):
        FittedCurves.load(tmp_path)
