"""Selection part by part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detal.config import SelectConfig, load_config
from detal.errors import ConfigError, DataError
from detal.runs.partitions import Question, check_partitions, deal, shortlist
from detal.runs.pool import ScoredDataset, candidate_pool
from detal.runs.select import run_select
from detal.runs.workers import Task
from detal.strategies import Needs, make_strategy
from detal.structures import Budget
from tests.runs.factories import CLASSES, scored_pool
from tests.runs.test_score import config_of


def question(strategy: str = "core_set", *, images: int = 3) -> Question:
    return Question(
        strategy=(strategy, {}),
        budget=Budget(images),
        seed=0,
        min_distance=0.0,
        per_group=None,
        class_names=CLASSES,
        labeled=None,
        reference=None,
        match_ids=False,
    )


def here(tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
    for number, (function, *arguments) in enumerate(tasks):
        yield number, function(*arguments)


def pool_of(folder: Path, images: int = 40, *, broken: Sequence[int] = ()) -> ScoredDataset:
    ids = [f"{i:03d}" for i in range(images)]
    return scored_pool(folder, ids, [None if i in broken else f"h{i}" for i in range(images)])


@pytest.mark.parametrize(
    ("number", "parts"),
    [
        pytest.param(0, 3, id="empty"),
        pytest.param(1, 1, id="one"),
        pytest.param(2, 5, id="more parts than numbers"),
        pytest.param(100, 7, id="single numbers"),
        pytest.param(1_000_003, 8, id="blocks"),
    ],
)
def test_every_number_is_dealt_once(number: int, parts: int) -> None:
    dealt = deal(number, parts, np.random.default_rng(0))
    assert len(dealt) == max(1, min(parts, number))
    assert np.array_equal(np.sort(np.concatenate(dealt)), np.arange(number))
    assert all((np.diff(part) > 0).all() for part in dealt)
    sizes = [len(part) for part in dealt]
    assert max(sizes) - min(sizes) <= max(1, number // (16 * parts))


def test_every_part_gives_a_batch(tmp_path: Path) -> None:
    chosen = shortlist(pool_of(tmp_path), question(), parts=4, runner=here)
    ids = list(chosen.dataset.image_ids)
    assert len(ids) == 12
    assert ids == sorted(ids)


def test_what_scores_images_alone_is_exact(tmp_path: Path) -> None:
    pool, asked = pool_of(tmp_path), question("box_count", images=5)

    def batch(seen: ScoredDataset) -> tuple[str, ...]:
        candidates = candidate_pool(seen, None, class_names=CLASSES).candidates
        rng = np.random.default_rng(0)
        return make_strategy("box_count").query(candidates, budget=asked.budget, rng=rng).image_ids

    for parts in (2, 7, 40):
        assert batch(shortlist(pool, asked, parts=parts, runner=here)) == batch(pool)


def test_the_order_of_the_pool_does_not_matter(tmp_path: Path) -> None:
    pool = pool_of(tmp_path)
    expected = shortlist(pool, question(), parts=3, runner=here).dataset.image_ids
    shuffled = pool.take(np.random.default_rng(1).permutation(40))
    found = shortlist(shuffled, question(), parts=3, runner=here).dataset.image_ids
    assert list(found) == list(expected)


def test_broken_images_are_not_chosen(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, 9, broken=range(6))
    chosen = shortlist(pool, question(images=9), parts=3, runner=here)
    assert list(chosen.dataset.image_ids) == ["006", "007", "008"]
    nothing = pool_of(tmp_path / "broken", 4, broken=range(4))
    with pytest.raises(DataError, match="at least one image of the pool must be readable"):
        shortlist(nothing, question(), parts=2, runner=here)


def test_tables_are_of_the_whole_pool() -> None:
    config = load_config(SelectConfig, None, ["pool=a", "output=b", "partitions=2"])
    with pytest.raises(ConfigError, match="partitions must be 1 for curve_greedy with tables"):
        check_partitions(config, Needs(tables=("curves",)))
    check_partitions(config, Needs())


def test_a_run_in_parts_says_so(tmp_path: Path) -> None:
    config = config_of(tmp_path, "partitions=3", "strategy=box_count")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.cpu_count", lambda: 1)
        result = run_select(config)
    assert result.run["config"]["partitions"] == 3
    assert result.run["counts"]["pool"] == 100
    assert result.run["counts"]["candidates"] == 15
    whole = config_of(tmp_path, "strategy=box_count", f"output={tmp_path / 'whole'}")
    assert result.selection.image_ids == run_select(whole).selection.image_ids
