from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from detal.errors import ConfigError
from detal.strategies import (
    STRATEGIES,
    Candidates,
    Choice,
    MeasureSelector,
    Needs,
    Order,
    make_strategy,
    registry,
)
from detal.strategies.combined import image_scores
from detal.structures import Budget
from tests.strategies.factories import jittered, pool_of, random_pool


def picked(name: str, pool: Candidates, budget: Budget, seed: int = 0, guards=None, **options):
    strategy = make_strategy(name, **options)
    rng = np.random.default_rng(seed)
    return strategy.query(pool, budget=budget, rng=rng, **(guards or {}))


def pool_with(**columns: list[float]) -> Candidates:
    """One image per value, with id ``000`` and so on."""
    size = len(next(iter(columns.values())))
    features = np.eye(size)
    return replace(pool_of([[(0, 0.5)]] * size, features=features), metadata=pl.DataFrame(columns))


def by(column: str, **more: Any) -> dict[str, Any]:
    return {"name": "weighted", "score": column, **more}


def test_ranks_by_hand() -> None:
    """a: 3 > 2 > 1 > 0 gives 1, 2/3, 1/3, 0; b: 5 = 5 > 1 = 1 gives 5/6, 5/6, 1/6, 1/6."""
    pool = pool_with(a=[3.0, 2, 1, 0], b=[1.0, 1, 5, 5])
    selection = picked("combine", pool, Budget(4), parts=[by("a"), by("b", weight=2)])
    assert selection.image_ids == ("002", "003", "000", "001")
    a, b = [1 / 3, 0, 1, 2 / 3], [5 / 6, 5 / 6, 1 / 6, 1 / 6]
    expected = [(x + 2 * y) / 3 for x, y in zip(a, b, strict=True)]
    assert selection.scores == pytest.approx(expected)
    assert "rank of weighted, weighted 0.667, rank 1 of 4" in selection.reasons[0]


def test_product_by_hand() -> None:
    """Weights 1 and 3: the geometric means are (2 x 1), (1 x 8) and (9 x 0) to the power 1/4."""
    pool = pool_with(a=[2.0, 1, 9], b=[1.0, 2, 0])
    parts = [by("a"), by("b", weight=3)]
    selection = picked("combine", pool, Budget(3), parts=parts, mode="product")
    assert selection.image_ids == ("001", "000", "002")
    assert selection.scores == pytest.approx([8**0.25, 2**0.25, 0])


@pytest.mark.parametrize(
    ("part", "match"),
    [
        pytest.param("random", "random gives nan for image '00.'", id="no-scores"),
        pytest.param(by("-a"), "weighted gives -1.0 for image '001'", id="negative"),
        pytest.param({"name": "entropy", "empty": "first"}, "entropy gives inf", id="infinite"),
    ],
)
def test_product_needs_scores(part: Any, match: str) -> None:
    pool = replace(pool_of([[], [(0, 0.5)]]), metadata=pl.DataFrame({"a": [2.0, 1.0]}))
    with pytest.raises(ConfigError, match=match):
        picked("combine", pool, Budget(1), parts=[part], mode="product")


def test_an_image_that_a_part_never_offers_is_not_offered() -> None:
    pool = pool_with(a=[3.0, 2, 1, 0])
    parts = [by("a"), {"name": "filter", "where": "a < 2.5"}]
    assert set(picked("combine", pool, Budget(4), parts=parts).image_ids) == {"001", "002", "003"}


def test_rank_of_one_strategy_is_that_strategy() -> None:
    pool = random_pool(40)
    for name in ("entropy", "box_count", "core_set"):
        asked = STRATEGIES[name]()
        assert isinstance(asked, MeasureSelector)
        order, _ = image_scores(asked.select(pool, Budget(5), np.random.default_rng(0)))
        selection = picked("combine", pool, Budget(3), parts=[name])
        assert selection.image_ids[0] == pool.image_ids[order[0]]


def test_staged_by_hand() -> None:
    """Rain leaves 0, 1, 2, 4; the sharpest 2 x 1 of these are 4 and 1; the darker is 1."""
    pool = pool_with(rain=[1, 1, 1, 0, 1], sharp=[1.0, 5, 2, 9, 7], dark=[9.0, 8, 7, 6, 1])
    stages = [{"name": "filter", "where": "rain = 1"}, by("sharp", keep=2), by("dark")]
    selection = picked("staged", pool, Budget(1), stages=stages)
    assert selection.image_ids == ("001",)
    assert selection.reasons[0].startswith(
        "matches rain = 1; sharp 5, rank 2 of 4; dark 8, rank 1 of 2;"
    )
    everything = picked("staged", pool, Budget(9), stages=stages)
    assert everything.image_ids == ("000", "001", "002", "004")


def test_keep_counts_in_the_unit_of_the_budget() -> None:
    """Sharpest first they cost 3, 3, 1, 1, 1 boxes: 2 x 2.5 boxes are the first two."""
    counts = [6, 6, 2, 2, 2]
    pool = replace(
        pool_of([[(0, 0.5)] * n for n in counts]),
        metadata=pl.DataFrame({"sharp": [5, 4, 3, 2, 1], "dark": [1, 2, 3, 4, 5]}),
    )
    stages = [by("sharp", keep=2), by("dark")]
    selection = picked("staged", pool, Budget(3, "boxes"), stages=stages)
    assert selection.image_ids == ("001",)
    # In images, 2 x 2 of them are kept.
    assert picked("staged", pool, Budget(2), stages=stages).image_ids == ("003", "002")


def test_guards_that_empty_a_stage_get_the_next_images() -> None:
    """The four sharpest are one video; the fifth comes from the second helping."""
    pool = pool_of([[(0, 0.5)]] * 6, groups=["v", "v", "v", "v", None, None])
    pool = replace(pool, metadata=pl.DataFrame({"sharp": [6, 5, 4, 3, 2, 1]}))
    stages = [by("sharp", keep=2), "random"]
    guards = {"per_group": 1}
    selection = picked("staged", pool, Budget(2), stages=stages, guards=guards)
    assert len(selection) == 2
    assert int(selection.image_ids[0]) < 4
    assert int(selection.image_ids[1]) in {4, 5}
    assert selection.passed_over["group"] == 3


def test_staged_is_its_stages_one_after_the_other() -> None:
    pool = random_pool(60)
    stages = [{"name": "entropy", "keep": 3}, "core_set"]
    selection = picked("staged", pool, Budget(5), stages=stages)
    shortlist = picked("entropy", pool, Budget(15))
    index = np.flatnonzero(np.isin(pool.image_ids, shortlist.image_ids))
    expected = picked("core_set", pool.subset(index), Budget(5))
    assert selection.image_ids == expected.image_ids
    assert selection.scores == pytest.approx(expected.scores)


def test_staged_inside_staged() -> None:
    pool = random_pool(40)
    inner = {"name": "staged", "stages": [{"name": "entropy", "keep": 4}, "core_set"], "keep": 2}
    assert len(picked("staged", pool, Budget(4), stages=[inner, "random"])) == 4


def test_subset_reads_only_its_images() -> None:
    pool = random_pool(30)
    index = np.array([2, 3, 11, 29])
    part = pool.subset(index)
    assert part.map(lambda d: d.counts).tolist() == pool.take(index).counts.tolist()
    assert part.passes["flip"](np.array([3, 0])).boxes.equal(
        pool.passes["flip"](np.array([29, 2])).boxes
    )
    assert part.groups is not None
    assert pool.groups is not None
    assert list(part.groups) == list(pool.groups[index])
    assert pool.subset(np.arange(30)) is pool
    assert len(pool.subset([])) == 0


def test_cold_start_switches_when_something_is_labelled() -> None:
    options: dict[str, Any] = {
        "cold": "kmeans",
        "warm": {"name": "entropy", "aggregation": "max"},
        "until": 3,
    }
    for labeled, name in ((0, "kmeans"), (2, "kmeans"), (3, "entropy")):
        pool = random_pool(30, labeled=labeled)
        if labeled == 0:
            pool = replace(pool, labeled=replace(pool.labeled, image_features=None))
        more: dict[str, Any] = {"aggregation": "max"} if name == "entropy" else {}
        expected = picked(name, pool, Budget(5), **more)
        assert picked("cold_start", pool, Budget(5), **options).image_ids == expected.image_ids


def test_parts_see_their_own_further_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two parts name members; together they need three, and each reads its own."""
    seen: dict[str, Any] = {}
    pool = random_pool(6)
    a, b, c = (jittered(pool.take(np.arange(6)), name) for name in "abc")
    passes = {"member:0": a, "member:1": b, "member:2": c, "flip": pool.passes["flip"]}

    def needy(label: str, members: tuple[str, ...]):
        def select(candidates: Candidates, _: Budget, rng: np.random.Generator) -> Order:
            seen[label] = candidates.passes
            yield from (Choice(i, float(-i), "given") for i in range(len(candidates)))

        needs = Needs(members=members, views=("flip",))
        return lambda: MeasureSelector(select=select, needs=needs)

    monkeypatch.setitem(registry.STRATEGIES, "one", needy("one", ("a.pt", "b.pt")))
    monkeypatch.setitem(registry.STRATEGIES, "two", needy("two", ("c.pt", "a.pt")))
    strategy = make_strategy("combine", parts=["one", "two"])
    assert strategy.needs == Needs(views=("flip",), members=("a.pt", "b.pt", "c.pt"))
    strategy.query(replace(pool, passes=passes), budget=Budget(2), rng=np.random.default_rng(0))
    flip = {"flip": pool.passes["flip"]}
    assert seen["one"] == {**flip, "member:0": a, "member:1": b}
    assert seen["two"] == {**flip, "member:0": c, "member:1": a}


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("staged", {}, "at least two stages, got None"),
        ("staged", {"stages": ["entropy"]}, "at least two stages"),
        ("staged", {"stages": "entropy"}, "at least two stages"),
        ("staged", {"stages": ["entropy", "random"]}, r"stage 1 \(entropy\) must say how much"),
        (
            "staged",
            {"stages": [{"name": "entropy", "keep": 0.5}, "random"]},
            "keep of stage 1 must be a number >= 1, got 0.5",
        ),
        (
            "staged",
            {"stages": [{"name": "entropy", "keep": 2}, {"name": "random", "keep": 2}]},
            "the last stage decides",
        ),
        ("staged", {"stages": [{"nam": "entropy"}, "random"]}, "stage 1 must be the name"),
        ("staged", {"stages": [{"name": "entropi", "keep": 2}, "random"]}, "did you mean entropy"),
        (
            "staged",
            {"stages": [{"name": "entropy", "kep": 2}, "random"]},
            "unknown option of entropy 'kep'",
        ),
        ("combine", {}, "combine needs a list of parts"),
        ("combine", {"parts": []}, "combine needs a list of parts"),
        ("combine", {"parts": ["random"], "mode": "sum"}, "unknown mode 'sum'"),
        ("combine", {"parts": [{"name": "random", "weight": 0}]}, "weight of part 1 must be"),
        ("cold_start", {"until": 0}, "until must be an integer >= 1"),
        ("cold_start", {"warm": "entropi"}, "did you mean entropy"),
    ],
)
def test_wrong_lists(name: str, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        make_strategy(name, **options)


def test_members_of_earlier_rounds_and_named_ones_do_not_mix(monkeypatch) -> None:
    def nothing(candidates: Candidates, _: Budget, rng: np.random.Generator) -> Iterator[Any]:
        yield from ()

    for name, needs in (("one", Needs(members=("a",))), ("two", Needs(earlier_rounds=2))):
        made: Any = MeasureSelector(select=nothing, needs=needs)  # type: ignore[arg-type]
        monkeypatch.setitem(registry.STRATEGIES, name, lambda made=made: made)
    with pytest.raises(ConfigError, match="both"):
        make_strategy("combine", parts=["one", "two"])


def test_the_last_stage_hears_what_was_turned_down() -> None:
    """The farthest image is too expensive; its neighbour stands in for it, through the stages."""
    features = np.array([[0.0, 0], [10, 0], [9, 0], [0, 5]])
    images = [[(0, 0.5)], [(0, 0.9)] * 10, [(0, 0.5)], [(0, 0.5)]]
    pool = pool_of(images, features=features, labeled=np.array([[0.0, 0.1]]))
    stages = [{"name": "filter", "where": "true"}, {"name": "core_set", "metric": "euclidean"}]
    selection = picked("staged", pool, Budget(2, "boxes"), stages=stages)
    assert selection.image_ids == ("002", "003")
