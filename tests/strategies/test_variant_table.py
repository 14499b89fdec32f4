"""Greedy on the variant table."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detal.errors import ConfigError, DataError
from detal.reward import MeasuredTables
from detal.strategies import Candidates, make_strategy
from detal.strategies.combined import cold_start
from detal.strategies.variant_table import nearest_groups, variant_table
from detal.structures import Budget
from tests.reward.factories import group_gains
from tests.strategies.factories import pool_of

CENTRES = np.eye(2, dtype=np.float32)
GAINS = group_gains(
    [[0.4, 0.4, 0.4], [0.5, 0.5, 0.5]],
    [[0.3, 0.3, 0.3]] * 2,
    class_names=("class0", "class1", "class2"),
    centres=CENTRES,
)


@pytest.fixture
def pool() -> Candidates:
    """Two images of the poorer group, two of the richer, all as doubtful."""
    features = np.array([[5.0, 1], [3, 0], [0.1, 1], [1, 9]])
    return replace(
        pool_of([[(0, 0.5)]] * 4, features=features),
        reference=None,
        tables=MeasuredTables(groups=GAINS),
    )


def picks(pool: Candidates, images: int, **options: object) -> tuple[str, ...]:
    strategy = make_strategy("variant_greedy", **options)
    rng = np.random.default_rng(0)
    return strategy.query(pool, budget=Budget(images), rng=rng).image_ids


def test_the_richer_group_comes_first(pool: Candidates) -> None:
    assert set(picks(pool, 2)) == {"002", "003"}
    reason = (
        make_strategy("variant_greedy")
        .query(pool, budget=Budget(1), rng=np.random.default_rng(0))
        .reasons[0]
    )
    assert "as group 2 of 2, which gained most for class0" in reason


def test_images_belong_to_the_nearest_centre_by_angle(pool: Candidates) -> None:
    assert nearest_groups(GAINS, pool.require_features("a test")).tolist() == [0, 0, 1, 1]


def test_within_a_group_doubt_comes_first(pool: Candidates) -> None:
    sure = replace(
        pool_of([[(0, 0.95)], [(0, 0.6)]], features=np.array([[0.0, 1], [0, 2]])),
        reference=None,
        tables=pool.tables,
    )
    assert picks(sure, 1) == ("001",)
    assert picks(sure, 1, informativeness="none") == ("000",)


def test_a_folder_takes_the_place_of_the_runs_own(pool: Candidates, tmp_path: Path) -> None:
    replace(GAINS, group_ap=GAINS.group_ap[::-1].copy()).save(tmp_path)
    assert set(picks(pool, 2, table=str(tmp_path))) == {"000", "001"}
    assert make_strategy("variant_greedy", table=str(tmp_path)).needs.tables == ()
    assert make_strategy("variant_greedy").needs.tables == ("groups",)


def test_needs_reach_through_combinations() -> None:
    both = cold_start(cold="variant_greedy", warm={"name": "curve_greedy", "curves": "fitted"})
    assert both.needs.tables == ("groups", "curves")


def test_mistakes(pool: Candidates, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs gains of groups of candidates"):
        picks(replace(pool, tables=MeasuredTables()), 1)
    with pytest.raises(DataError, match="must be of the same detector"):
        picks(pool_of([[]], features=np.ones((1, 3))), 1, table=_saved(tmp_path))
    with pytest.raises(ConfigError, match="informativeness must be"):
        make_strategy("variant_greedy", informativeness="much")
    with pytest.raises(DataError, match="detal tables build"):
        make_strategy("variant_greedy", table=str(tmp_path / "nowhere"))


def _saved(folder: Path) -> str:
    GAINS.save(folder)
    return str(folder)


def test_labelled_images_beyond_the_tables_own_count_as_picked(pool: Candidates) -> None:
    known = np.array([[0.0, 1.0]] * 60)
    later = replace(
        pool_of([[(0, 0.5)]] * 4, features=pool.image_features, labeled=known), reference=None
    )
    table = variant_table(GAINS, replace(later, tables=pool.tables))
    gains = table.marginal_gain(table.start(), np.arange(4))
    assert gains[0] > gains[2]
