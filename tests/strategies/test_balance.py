from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from detal.errors import ConfigError, DataError
from detal.features import expected_class_counts
from detal.strategies import Candidates, Labeled, make_strategy
from detal.structures import Budget
from tests.features.factories import Box, detections_of
from tests.strategies.factories import pool_of, random_pool

LN2 = float(np.log(2))


def pool_with(images: list[list[Box]], counts: list[int]) -> Candidates:
    return replace(pool_of(images), labeled=Labeled(class_counts=np.array(counts)))


def ask(name: str, pool: Candidates, budget: Budget, seed: int = 0, **options):
    strategy = make_strategy(name, **options)
    return strategy.query(pool, budget=budget, rng=np.random.default_rng(seed))


def test_class_balanced_by_hand() -> None:
    """Labelled 4, 2, 0; four images of one object at score 0.5, two of them are bought.

    The budget buys one expected object, so the level is 7 / 3: short are 0, 1/3 and 7/3. Each has
    entropy ln 2; class 2 adds 1.2 * 0.5, then again; class 1 would add 1.2 / 3, class 0 nothing.
    """
    pool = pool_with([[(0, 0.5)], [(1, 0.5)], [(2, 0.5)], [(2, 0.5)]], [4, 2, 0])
    selection = ask("class_balanced", pool, Budget(2))
    assert set(selection.image_ids) == {"002", "003"}
    assert selection.scores == pytest.approx([LN2 + 0.6, LN2 + 0.6], abs=1e-6)
    assert "brings about 0.5 class2, short of 2.33" in selection.reasons[0]
    assert "short of 1.83" in selection.reasons[1]
    whole = ask("class_balanced", pool, Budget(4))  # level 8 / 3, short 0, 2/3 and 8/3
    assert whole.image_ids[3] == "000"
    assert whole.scores == pytest.approx([LN2 + 0.6] * 3 + [LN2], abs=1e-6)
    assert "shows no class that is short" in whole.reasons[3]


def naive_cbal(pool: Candidates, k: int, weight: float, base: str) -> list[int]:
    """The paper's objective, computed anew for each image and pick."""
    counts = expected_class_counts(pool.take(np.arange(len(pool)))).numpy()
    labeled = pool.labeled.class_counts
    bought = min(1, k / len(pool)) * counts.sum()
    omega = np.maximum((labeled.sum() + bought) / len(labeled) - labeled, 0)
    scores = pool.take(np.arange(len(pool)))
    s = scores.scores.double().numpy()
    entropy = np.bincount(
        scores.image_index.numpy(),
        -(s * np.log(s) + (1 - s) * np.log(1 - s)),
        minlength=len(pool),
    )
    features, known = pool.image_features, pool.labeled.image_features
    assert features is not None
    assert known is not None
    unit = [f / np.linalg.norm(f) for f in features]
    centres = [f / np.linalg.norm(f) for f in known]
    picked: list[int] = []
    for _ in range(k):
        best, best_cost = -1, np.inf
        for i in set(range(len(pool))) - set(picked):
            far = min(1 - unit[i] @ c for c in centres)
            own = entropy[i] if base == "entropy" else far
            cost = -own + weight * np.abs(omega - counts[[*picked, i]].sum(axis=0)).sum()
            if cost < best_cost - 1e-9:
                best, best_cost = i, cost
        picked.append(best)
        centres.append(unit[best])
    return picked


@pytest.mark.parametrize("base", ["entropy", "core_set"])
@pytest.mark.parametrize("seed", range(3))
def test_class_balanced_is_the_penalty_of_the_paper(base: str, seed: int) -> None:
    """With ``excess: 1``; images without boxes tie, so they are one to the comparison."""
    pool = random_pool(30, seed=seed, labeled=5)
    selection = ask("class_balanced", pool, Budget(8), base=base, weight=0.6, excess=1)
    expected = pool.image_ids[naive_cbal(pool, 8, 0.6, base)]
    if base == "entropy":
        names = np.where(pool.expected_boxes > 0, pool.image_ids, "without boxes")
        lookup = dict(zip(pool.image_ids, names, strict=True))
        assert [lookup[i] for i in selection.image_ids] == [lookup[i] for i in expected]
    else:
        assert list(selection.image_ids) == list(expected)


def test_excess_decides_about_a_rare_object_in_a_crowd() -> None:
    crowd = [(2, 0.9)] + [(0, 0.99)] * 6
    pool = pool_with([crowd, [(0, 0.6)]], [50, 5, 0])
    firsts = [
        ask("class_balanced", pool, Budget(1), weight=2, excess=excess).image_ids
        for excess in (0, 1)
    ]
    assert firsts == [("000",), ("001",)]


def test_gain_is_per_box_with_a_budget_in_boxes() -> None:
    """Two rare objects among eight common ones, or one alone."""
    images: list[list[Box]] = [[(2, 0.9)] * 2 + [(0, 0.9)] * 8, [(2, 0.9)], [(0, 0.9)]]
    pool = pool_with(images, [40, 40, 1])
    assert ask("rare_first", pool, Budget(1)).image_ids == ("000",)
    assert ask("rare_first", pool, Budget(9.5, "boxes")).image_ids[0] == "001"


def test_rare_first_by_hand() -> None:
    """Labelled 9, 1, 0: one expected half object is worth ln 1.05, ln 1.25 and ln 1.5.

    With two halves of class 2 in the batch the third is worth ln(2.5 / 2), as one of class 1 is;
    an image of both is first.
    """
    images: list[list[Box]] = [[(0, 0.5)], [(1, 0.5)], [(2, 0.5), (2, 0.5)], [(2, 0.5), (1, 0.5)]]
    selection = ask("rare_first", pool_with(images, [9, 1, 0]), Budget(4))
    assert selection.image_ids[:2] == ("002", "003")
    expected = [np.log(2), np.log(2.5 / 2) + np.log(1.25), np.log(3 / 2.5), np.log(10.5 / 10)]
    assert selection.scores == pytest.approx(expected, abs=1e-6)
    assert selection.image_ids[2:] == ("001", "000")
    assert (
        "brings about 1 class2, of which 0 are labelled and about 0 in the"
        in (selection.reasons[0])
    )
    assert "of which 1 are labelled and about 0.5 in the batch" in selection.reasons[2]


def test_rare_first_equals_a_loop() -> None:
    pool = random_pool(50, num_classes=6, labeled=9)
    counts = expected_class_counts(pool.take(np.arange(50))).numpy()
    have = pool.labeled.class_counts.astype(float)
    picked: list[int] = []
    for _ in range(15):
        gains = np.log((1 + have + counts) / (1 + have)).sum(axis=1)
        gains[picked] = -1
        picked.append(int(gains.argmax()))
        have = have + counts[picked[-1]]
    selection = ask("rare_first", pool, Budget(15))
    assert list(selection.image_ids) == list(pool.image_ids[picked])


def test_class_quota_by_hand(caplog) -> None:
    """Two of class 0 and one of class 1 wanted; an object is worth the part that is open.

    First class 1 alone (0.5 * 0.75) against class 0 (0.5 * 0.875): class 0 wins, twice: then
    (0.5 * 0.625); then class 1. Class 2 helps nothing.
    """
    images: list[list[Box]] = [[(0, 0.5)], [(0, 0.5)], [(1, 0.5)], [(2, 0.9)]]
    with caplog.at_level(logging.INFO):
        selection = ask(
            "class_quota",
            pool_with(images, [0, 0, 0]),
            Budget(4),
            quotas={"class0": 2, "class1": 1},
        )
    assert set(selection.image_ids[:1]) <= {"000", "001"}
    assert selection.image_ids[1] == "002"
    assert selection.image_ids[3] == "003"
    assert selection.scores == pytest.approx([0.4375, 0.375, 0.3125, 0])
    assert "class0, quota 0 of 2 filled (the pool holds about 1)" in selection.reasons[0]
    assert "it helps no quota that is open" in selection.reasons[3]
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert any(
        "pool does not hold the quota of class0 (about 1 of 2), class1" in w for w in warnings
    )
    assert any("add up to 3 objects, but the budget buys about 2.4" in w for w in warnings)
    result = [r.getMessage() for r in caplog.records if "quotas not filled" in r.getMessage()]
    assert result == ["quotas not filled, in expected objects: class0 1 of 2, class1 0.5 of 1"]
    assert selection.remarks == (*warnings, *result)


def test_what_a_last_stage_cannot_fill_is_told() -> None:
    images: list[list[Box]] = [[(0, 0.5)], [(1, 0.5)]]
    stages = [{"name": "entropy", "keep": 2}, {"name": "class_quota", "quotas": {"class0": 9}}]
    selection = ask("staged", pool_with(images, [0, 0, 0]), Budget(1), stages=stages)
    assert selection.remarks[-1] == "quotas not filled, in expected objects: class0 0.5 of 9"


def test_class_quota_that_can_be_met_says_nothing(caplog) -> None:
    pool = pool_with([[(0, 0.8)], [(0, 0.8)], [(1, 0.8)], [(1, 0.8)]], [0, 0, 0])
    with caplog.at_level(logging.INFO, logger="detal"):
        selection = ask("class_quota", pool, Budget(2), quotas={"class1": "50%"})
    assert "class1" in selection.reasons[0]
    assert "the pool holds" not in selection.reasons[0]
    assert caplog.records == []
    assert selection.remarks == ()


def test_class_quota_levels_the_labelled_counts_by_default() -> None:
    pool = pool_with([[(0, 0.9)], [(1, 0.9)], [(2, 0.9)], [(2, 0.9)]], [9, 9, 7])
    selection = ask("class_quota", pool, Budget(2))
    assert set(selection.image_ids) == {"002", "003"}


@pytest.mark.parametrize("name", ["class_balanced", "class_quota", "rare_first"])
def test_images_turned_down_are_not_counted(name: str) -> None:
    """Both images of class 2 are in one group; the second does not get in, but the next does."""
    images: list[list[Box]] = [[(2, 0.6)], [(2, 0.6)], [(2, 0.55)], [(0, 0.5)]]
    pool = replace(
        pool_with(images, [9, 9, 0]), groups=np.array(["g", "g", None, None], dtype=object)
    )
    strategy = make_strategy(name)
    rng = np.random.default_rng(0)
    picked = strategy.query(pool, budget=Budget(2), rng=rng, per_group=1).image_ids
    assert "002" in picked
    assert {"000", "001"} & set(picked)


def test_seconds_that_cost_nothing() -> None:
    free = Budget(10, "seconds", seconds_per_image=0.0, seconds_per_box=1.0)
    pool = pool_with([[], [(2, 0.5)], [(0, 0.5)]], [1, 1, 0])
    for name in ("class_balanced", "class_quota", "rare_first"):
        assert ask(name, pool, free).image_ids[0] == "001"


def test_class_balanced_by_distance_with_nothing_labelled() -> None:
    """Balance decides the first, then distance counts: the far one of the same class is next."""
    features = np.array([[1.0, 0], [1, 0.1], [-1, 0]])
    pool = pool_of([[(0, 0.9)], [(0, 0.5)], [(0, 0.5)]], features=features)
    selection = ask("class_balanced", pool, Budget(3), base="core_set", weight=0.1)
    assert selection.image_ids == ("000", "002", "001")
    assert "distance 2" in selection.reasons[1]


def test_distance_to_images_turned_down_does_not_count() -> None:
    """001 and 002 are equal; if 001 is turned down, 002 is still far from what was taken."""
    features = np.array([[-1.0, 0], [0, 1], [0, 1], [1, 0.1]])
    pool = pool_of(
        [[(0, 0.5)]] * 4,
        features=features,
        labeled=np.array([[1.0, 0]]),
        groups=["g", "g", None, None],
    )
    strategy = make_strategy("class_balanced", base="core_set", weight=0)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        selection = strategy.query(pool, budget=Budget(2), rng=rng, per_group=1)
        assert selection.image_ids == ("000", "002")


def test_nan_is_refused_with_the_image_named() -> None:
    seen = detections_of([[(0, 0.5)], [(1, 0.6)]])
    seen.scores[1] = torch.nan
    with pytest.raises(DataError, match="image 'b'"):
        Candidates.from_detections(["a", "b"], seen, class_names=("x", "y", "z"))


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("class_balanced", {"base": "coreset"}, r"unknown base.*did you mean core_set\?"),
        ("class_balanced", {"weight": -1}, r"weight of class_balanced must be a number >= 0"),
        ("class_balanced", {"excess": "1"}, r"excess of class_balanced must be a number >= 0"),
        ("class_quota", {"quotas": {"class0": "x"}}, r"quota of class 'class0'"),
    ],
)
def test_wrong_options(name: str, options, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        make_strategy(name, **options)


def test_quota_of_an_unknown_class() -> None:
    with pytest.raises(ConfigError, match=r"unknown class in quotas 'clas0'"):
        ask("class_quota", pool_of([[(0, 0.5)]]), Budget(1), quotas={"clas0": 1})


def test_needs_image_features_for_distance() -> None:
    with pytest.raises(ConfigError, match="class_balanced needs image features"):
        ask("class_balanced", pool_of([[(0, 0.5)]]), Budget(1), base="core_set")
