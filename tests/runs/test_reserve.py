import numpy as np
import pytest

from detal.runs.reserve import query_reserve
from detal.strategies import Candidates, make_strategy
from detal.structures import Budget, Selection
from tests.strategies.factories import pool_of


def choose(
    candidates: Candidates,
    name: str,
    amount: float,
    *,
    share: float = 0.5,
    per_group: int | None = None,
) -> tuple[Selection, Selection]:
    strategy = make_strategy(name)
    batch = strategy.query(
        candidates, budget=Budget(amount), rng=np.random.default_rng(0), per_group=per_group
    )
    reserve = query_reserve(
        strategy,
        candidates,
        batch,
        share=share,
        rng=np.random.default_rng(1),
        min_distance=0.0,
        per_group=per_group,
    )
    return batch, reserve


def test_a_ranking_goes_on_where_the_batch_ends() -> None:
    candidates = pool_of([[(0, 0.9)] * (i + 1) for i in range(40)])
    batch, reserve = choose(candidates, "box_count", 20)
    assert batch.image_ids == tuple(f"{i:03d}" for i in range(39, 19, -1))
    assert reserve.image_ids == tuple(f"{i:03d}" for i in range(19, 9, -1))


def test_a_small_batch_gets_about_ten_images() -> None:
    candidates = pool_of([[(0, 0.9)] * (i + 1) for i in range(40)])
    _, reserve = choose(candidates, "box_count", 2, share=0.25)
    assert len(reserve) == 10


def test_diversity_counts_the_batch_as_labelled() -> None:
    """The first in reserve is the one farthest (by cosine) from all of the batch."""
    features = np.random.default_rng(3).normal(size=(12, 3))
    candidates = pool_of([[]] * 12, features=features)
    batch, reserve = choose(candidates, "core_set", 3)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    taken = [int(image_id) for image_id in batch.image_ids]
    distance = (1 - unit @ unit[taken].T).min(axis=1)
    assert int(reserve.image_ids[0]) == int(distance.argmax())
    assert len(reserve) == 9


def test_groups_of_the_batch_count() -> None:
    groups = ["a", "a", "a", "b", "b", "b", None, None]
    candidates = pool_of([[(0, 0.9)] * (9 - i) for i in range(8)], groups=groups)
    batch, reserve = choose(candidates, "box_count", 3, per_group=2)
    assert batch.image_ids == ("000", "001", "003")
    assert reserve.image_ids == ("004", "006", "007")


def test_a_batch_that_is_the_whole_pool_leaves_nothing() -> None:
    candidates = pool_of([[(0, 0.9)]] * 3)
    _, reserve = choose(candidates, "random", 5)
    assert len(reserve) == 0


@pytest.mark.parametrize("name", ["random", "entropy", "core_set", "curve_greedy", "badge"])
def test_nothing_comes_twice(name: str) -> None:
    features = np.random.default_rng(0).normal(size=(30, 4))
    candidates = pool_of([[(i % 3, 0.4)] for i in range(30)], features=features)
    batch, reserve = choose(candidates, name, 8)
    assert len(reserve) == 10
    assert not {*batch.image_ids} & {*reserve.image_ids}
