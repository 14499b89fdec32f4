"""Greedy on the category curve table: fitted curves, and calibration on the reference set."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detal.errors import ConfigError, DataError
from detal.features.expected_objects import expected_objects
from detal.reward import FittedCurves, MeasuredTables
from detal.strategies import Candidates, Labeled, make_strategy
from detal.strategies.calibrated import reference_calibration
from detal.structures import Annotations, Budget, Detections
from tests.features.factories import detections_of
from tests.strategies.factories import pool_of


def picks(pool: Candidates, **options: object) -> tuple[str, ...]:
    strategy = make_strategy("curve_greedy", redundancy=False, **options)
    selection = strategy.query(pool, budget=Budget(1), rng=np.random.default_rng(0))
    return selection.image_ids


@pytest.fixture
def table(tmp_path: Path) -> str:
    """class0 rises steeply, class1 not at all; class2 is unknown to it."""
    FittedCurves.fit(
        ("class1", "class0"),
        counts=np.array([[5.0, 5], [50, 50], [500, 500]]),
        ap=np.array([[0.3, 0.1], [0.3, 0.4], [0.3, 0.7]]),
        labeled_counts=np.array([500.0, 500]),
        made_of={},
    ).save(tmp_path / "table")
    return str(tmp_path / "table")


def test_fitted_curves_take_the_place_of_the_prior(table: str) -> None:
    pool = replace(
        pool_of([[(0, 0.5)], [(1, 0.5)]]),
        labeled=Labeled(class_counts=np.array([60, 30, 0])),
    )
    assert picks(pool) == ("001",)  # fewest labels
    assert picks(pool, table=table) == ("000",)  # steepest curve


def test_a_missing_table_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="detal tables build"):
        make_strategy("curve_greedy", table=str(tmp_path))


def reference_of(seen: Detections, found: list[bool]) -> Labeled:
    """One object under the first box of each image whose detection is right."""
    boxes = [np.array([[0.0, 5, 10, 15]])[: int(right)] for right in found]
    labels = [np.zeros(int(right), dtype=np.int64) for right in found]
    return Labeled(
        class_counts=np.array([sum(found), 0, 0]),
        detections=lambda: seen,
        annotations=Annotations.from_lists(boxes, labels),
    )


def test_scores_are_worth_what_the_reference_set_says() -> None:
    """0.9 is right in 5 of 10, so that 0.9 is the doubtful score, and 0.5 is hardly ever right."""
    nothing_known = replace(pool_of([], labeled=np.ones((4, 2))), reference=None)
    assert reference_calibration(nothing_known) is None
    seen = detections_of([[(0, 0.9)]] * 40 + [[(0, 0.5)]] * 40)
    found = [i % 2 == 0 for i in range(40)] + [i % 20 == 0 for i in range(40)]
    pool = replace(
        pool_of([[(0, 0.9)], [(0, 0.5)]]),
        labeled=Labeled(class_counts=np.array([10, 10, 10])),
        reference=None,
    )
    assert picks(pool) == ("001",)
    calibrated = replace(pool, reference=reference_of(seen, found))
    assert picks(calibrated) == ("000",)
    calibration = reference_calibration(calibrated)
    assert calibration is not None
    objects = expected_objects(pool.chunks(), num_images=2, calibrate=calibration)
    assert objects.amounts[0] == pytest.approx(0.5, abs=0.1)
    assert objects.amounts[1] < 0.15


def test_a_reference_set_without_detections_changes_nothing() -> None:
    pool = pool_of([[(0, 0.9)], [(0, 0.5)]])
    empty = replace(pool, reference=reference_of(detections_of([[], []]), [True, False]))
    assert picks(empty) == picks(pool)


def test_curves_that_the_run_fitted(table: str) -> None:
    pool = replace(
        pool_of([[(0, 0.5)], [(1, 0.5)]]),
        labeled=Labeled(class_counts=np.array([60, 30, 0])),
    )
    measured = replace(pool, tables=MeasuredTables(curves=FittedCurves.load(Path(table))))
    assert picks(measured) == ("001",)  # prior unless asked
    assert picks(measured, curves="fitted") == ("000",)
    assert make_strategy("curve_greedy", curves="fitted").needs.tables == ("curves",)
    assert make_strategy("curve_greedy", curves="fitted", table=table).needs.tables == ()
    with pytest.raises(ConfigError, match="needs variants of the detector"):
        picks(replace(pool, tables=MeasuredTables()), curves="fitted")
    with pytest.raises(ConfigError, match=r"curves 'fited'.*did you mean fitted"):
        make_strategy("curve_greedy", curves="fited")
