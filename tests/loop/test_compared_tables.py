"""Which tables are compared."""

from dataclasses import replace

import numpy as np
import pytest

from detal.loop.compared_tables import MEASURED, TABLES, predictions
from detal.loop.varied_batches import Start
from detal.reward import CategoryCurves, FittedCurves, MeasuredTables
from detal.strategies.variant_table import variant_table
from detal.structures import Annotations
from tests.strategies.factories import random_pool


@pytest.fixture
def start() -> Start:
    """Ten images with one object each, and measured groups, but no fitted curves."""
    pool = random_pool(10)
    boxes = [np.array([[0.0, 0, 5, 5]])] * 10
    return Start(pool, Annotations.from_lists(boxes, [np.array([i % 3]) for i in range(10)]))


def test_measured_tables_only_where_they_were_measured(
    start: Start, rng: np.random.Generator
) -> None:
    batches = [np.array([0, 3]), np.array([5])]
    found = predictions(start, batches, rng=rng)
    assert set(found) == {*TABLES, "variant"}
    groups = start.candidates.tables.groups
    assert groups is not None
    table = variant_table(groups, start.candidates)
    assert found["variant"].gain == pytest.approx([table.gain(batch) for batch in batches])

    nothing = replace(start.candidates, tables=MeasuredTables())
    assert set(predictions(replace(start, candidates=nothing), batches, rng=rng)) == set(TABLES)


def test_fitted_curves_take_the_place_of_the_prior(start: Start, rng: np.random.Generator) -> None:
    """Curves that are flat for all but one class: only that class gains."""
    curves = FittedCurves(
        class_names=("class0", "class1", "class2"),
        counts=np.ones((2, 3)),
        ap=np.ones((2, 3)),
        labeled_counts=np.ones(3),
        curves=replace(CategoryCurves.prior(3), drop=np.array([1.0, 0, 0])),
        made_of={},
    )
    measured = replace(start.candidates, tables=MeasuredTables(curves=curves))
    batch, only = [np.arange(10)], {"curve_fitted": MEASURED["curve_fitted"]}
    found = predictions(replace(start, candidates=measured), batch, rng=rng, tables=only)
    gains = found["curve_fitted"].class_gain
    assert gains is not None
    assert gains[0, 0] > 0
    assert gains[0, 1:].tolist() == [0, 0]
