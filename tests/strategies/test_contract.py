"""What every strategy promises."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from detal.errors import ConfigError, DataError
from detal.strategies import STRATEGIES, Candidates, Labeled, Pass, make_strategy
from detal.structures import Budget, Detections, Selection
from tests.features.factories import detections_of
from tests.strategies.factories import labeled_of, pool_of, random_pool, rechunked

NAMES = sorted(STRATEGIES)
USES_FEATURES = {"core_set", "kmeans", "density", "typiclust", "prob_cover"}
USES_FEATURES |= {"facility_location", "variant_greedy"}
REQUIRED_OPTIONS: dict[str, dict[str, Any]] = {
    "filter": {"where": "true"},
    "weighted": {"score": "2 * expected_boxes"},
    "combine": {"parts": ["entropy", {"name": "box_count", "weight": 0.5}]},
    "staged": {
        "stages": [{"name": "filter", "where": "true"}, {"name": "margin", "keep": 3}, "entropy"]
    },
}
USES_PASSES = {"cald", "flip_inconsistency", "committee"}  # those differ between equal images here
NEEDS_LABELS = {"learning_loss", "trustset"}
SIGNED_SCORES = {"learning_loss"}
READS_SCORES_ONLY = {"random", "box_count", "filter", "weighted", "class_quota", "rare_first"}
READS_SCORES_ONLY |= {
    "class_balanced",
    "cold_start",
    "combine",
    "entropy",
}  # as they are by default
USES_LOGITS = ["entropy", "margin", "least_confidence"]
BUDGETS = [
    pytest.param(Budget(10), id="images"),
    pytest.param(Budget(12.5, "boxes"), id="boxes"),
    pytest.param(Budget(120, "seconds"), id="seconds"),
]


def ask(name: str, candidates: Candidates, budget: Budget, seed: int = 0, **guards) -> Selection:
    rng = np.random.default_rng(seed)
    if name in NEEDS_LABELS and candidates.labeled.detections is None:
        width = 1 if candidates.image_features is None else candidates.image_features.shape[1]
        known = labeled_of(np.ones((3, width)), num_classes=len(candidates.class_names))
        candidates = replace(candidates, labeled=known)
    strategy = make_strategy(name, **REQUIRED_OPTIONS.get(name, {}))
    return strategy.query(candidates, budget=budget, rng=rng, **guards)


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("budget", BUDGETS)
def test_distinct_within_budget_and_explained(name: str, budget: Budget) -> None:
    pool = random_pool(60)
    selection = ask(name, pool, budget)
    assert 0 < len(selection) <= 60
    assert len(set(selection.image_ids)) == len(selection)
    assert set(selection.image_ids) <= set(pool.image_ids)
    assert selection.spent <= budget.amount * (1 + 1e-9)
    if budget.unit == "images":
        assert len(selection) == 10
    assert len(selection.scores) == len(selection.costs) == len(selection.reasons)
    assert all(len(reason) > 10 for reason in selection.reasons)
    assert selection.budget is budget


def test_same_seed_same_answer(name: str) -> None:
    first, second = (ask(name, random_pool(60), Budget(10), seed=5) for _ in range(2))
    assert first.image_ids == second.image_ids
    assert first.reasons == second.reasons
    assert np.array_equal(first.scores, second.scores, equal_nan=True)


@pytest.mark.parametrize("seed", [1, 2])
def test_order_of_the_pool_does_not_matter(name: str, seed: int) -> None:
    pool = random_pool(40)
    selection = ask(name, pool, Budget(15, "boxes"), min_distance=0.05, per_group=1)
    other = ask(
        name, rechunked(pool, seed=seed), Budget(15, "boxes"), min_distance=0.05, per_group=1
    )
    assert other.image_ids == selection.image_ids
    assert other.reasons == selection.reasons


def test_from_detections_sorts_by_id(name: str) -> None:
    images = [[(0, 0.5)], [(1, 0.6), (2, 0.4)], [], [(0, 0.9)]]
    features = np.random.default_rng(0).normal(size=(4, 3))
    swap = [2, 0, 3, 1]
    pool = pool_of(images, ids=list("abcd"), features=features)
    swapped = pool_of(
        [images[i] for i in swap], ids=[list("abcd")[i] for i in swap], features=features[swap]
    )
    assert ask(name, pool, Budget(3)).image_ids == ask(name, swapped, Budget(3)).image_ids


def test_inputs_unchanged(name: str) -> None:
    pool = random_pool(30)
    before = _contents(pool)
    ask(name, pool, Budget(10), min_distance=0.1, per_group=2)
    assert all(np.array_equal(a, b) for a, b in zip(before, _contents(pool), strict=True))


def _contents(pool: Candidates) -> list[Any]:
    _, seen = next(iter(pool.chunks()))
    arrays: list[Any] = [pool.image_ids, pool.expected_boxes, pool.image_features, pool.groups]
    arrays += [pool.labeled.image_features, pool.labeled.class_counts]
    tensors = [seen.offsets, seen.boxes, seen.scores, seen.labels, seen.logits]
    return [np.copy(array) for array in (*arrays, *[tensor.numpy() for tensor in tensors])]


def test_budget_larger_than_the_pool_takes_everything(name: str) -> None:
    pool = random_pool(20)
    for budget in (Budget(1000), Budget(1000, "boxes"), Budget(1e6, "seconds")):
        assert sorted(ask(name, pool, budget).image_ids) == list(pool.image_ids)


def test_empty_pool(name: str) -> None:
    nothing = pool_of([], features=np.zeros((0, 4)))
    selection = ask(name, nothing, Budget(5), min_distance=0.1, per_group=1)
    assert len(selection) == 0
    assert selection.spent == 0
    assert selection.reasons == ()
    without_features = pool_of([])
    assert len(ask(name, without_features, Budget(5))) == 0


def test_one_image(name: str) -> None:
    pool = pool_of([[(0, 0.5)]], features=np.ones((1, 4)))
    assert ask(name, pool, Budget(3)).image_ids == ("000",)


def test_one_class(name: str) -> None:
    pool = random_pool(20, num_classes=1)
    assert len(ask(name, pool, Budget(5))) == 5


def test_all_equal(name: str) -> None:
    pool = pool_of([[(0, 0.5), (1, 0.25)]] * 12, features=np.ones((12, 4)))
    selections = [ask(name, pool, Budget(4), seed=seed).image_ids for seed in range(5)]
    assert all(len(set(ids)) == 4 for ids in selections)
    # Those that use features break ties by id: equal features mean equal images.
    if name not in USES_FEATURES | USES_PASSES:
        assert len(set(selections)) > 1


def test_images_without_detections(name: str) -> None:
    pool = pool_of([[]] * 6, features=np.random.default_rng(0).normal(size=(6, 4)))
    selection = ask(name, pool, Budget(4))
    assert len(set(selection.image_ids)) == 4
    assert all("no detections" in reason for reason in selection.reasons)
    assert selection.costs.tolist() == [1.0] * 4
    assert ask(name, pool, Budget(4, "boxes")).costs.tolist() == [1.0] * 4


@pytest.mark.parametrize("name", USES_LOGITS)
@pytest.mark.parametrize("options", [{}, {"aggregation": "max"}, {"aggregation": "top_k_mean"}])
def test_nan_is_refused_with_the_image_named(name: str, options) -> None:
    detections = detections_of([[(0, 0.5)], [(1, 0.6), (2, 0.3)], [(0, 0.4)]])
    detections.logits[2] = torch.nan
    if name == "entropy":
        options = {**options, "over": "classes"}
    pool = Candidates.from_detections(["a", "b", "c"], detections, class_names=("x", "y", "z"))
    with pytest.raises(DataError, match=r"score must be a number.*image 'b'; 1 of 3 images"):
        make_strategy(name, **options).query(pool, budget=Budget(1), rng=np.random.default_rng(0))


@pytest.mark.parametrize("name", sorted(set(NAMES) - READS_SCORES_ONLY))
def test_what_is_not_a_number_is_refused_with_the_image_named(name: str) -> None:
    pool = random_pool(30)
    with pytest.raises(DataError, match=repr(pool.image_ids[5])):
        ask(name, poisoned(pool, 5), Budget(5))


def poisoned(pool: Candidates, row: int) -> Candidates:
    """The pool with NaN for everything that is said about image ``row``, but its scores."""
    [(index, seen)] = pool.chunks()
    features = pool.require_features("a poisoned pool").copy()
    features[row] = np.nan
    fields = ("logits", "object_features", "box_spread", "cluster_spread", "mutual_information")
    bad: dict[str, Any] = {
        field: _without(getattr(seen, field), seen.image_index == row)
        for field in (*fields, "tightness")
    }
    said = replace(seen, **bad, image_features=torch.from_numpy(features))

    def read(of: Pass) -> Pass:
        def wanted(rows: np.ndarray) -> Detections:
            found = of(rows)
            return replace(
                found,
                logits=_without(found.logits, torch.from_numpy(rows)[found.image_index] == row),
            )

        return wanted

    return replace(
        pool,
        chunks=lambda: iter([(index, said)]),
        image_features=features,
        passes={name: read(of) for name, of in pool.passes.items()},
    )


def _without(values: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    return values.masked_fill(rows.reshape(-1, *[1] * (values.ndim - 1)), torch.nan)


def test_nan_in_expected_boxes_is_refused() -> None:
    detections = detections_of([[(0, 0.5)], [(1, 0.6)]])
    detections.scores[1] = torch.nan
    with pytest.raises(DataError, match=r"expected_boxes must be finite.*image 'b'"):
        Candidates.from_detections(["a", "b"], detections, class_names=("x", "y", "z"))


@pytest.mark.parametrize("name", sorted(USES_FEATURES))
def test_features_must_be_there_and_finite(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name} needs image features"):
        ask(name, pool_of([[(0, 0.5)]]), Budget(1))
    features = np.ones((3, 2))
    features[1, 0] = np.inf
    with pytest.raises(DataError, match=r"image features must be finite \(image '001'; 1 of 3"):
        ask(name, pool_of([[]] * 3, features=features), Budget(1))


def test_three_thousand_classes(name: str) -> None:
    pool = random_pool(30, num_classes=3000)
    selection = ask(name, pool, Budget(5))
    assert len(selection) == 5
    if name not in SIGNED_SCORES:
        assert all(np.isnan(score) or score >= 0 for score in selection.scores)


def test_twenty_thousand_candidates(name: str) -> None:
    rng = np.random.default_rng(0)
    images = [[(0, 0.5)] * int(count) for count in rng.integers(0, 3, size=20_000)]
    pool = pool_of(
        images, ids=[f"{i:05d}" for i in range(20_000)], features=rng.normal(size=(20_000, 8))
    )
    assert len(ask(name, pool, Budget(20))) == 20


def test_every_strategy_tells_what_it_does() -> None:
    for name, factory in STRATEGIES.items():
        text = " ".join((factory.__doc__ or "").split())
        assert "Cost" in text, f"{name} must tell its cost"
        assert "ailure mode" in text, f"{name} must tell how it fails"


def test_selection_follows_what_is_labelled() -> None:
    """Only the labelled set differs; core-set must look elsewhere."""
    features = np.array([[1.0, 0], [0, 1.0], [-1.0, 0]])
    pool = pool_of([[]] * 3, features=features, labeled=np.array([[1.0, 0.1]]))
    assert ask("core_set", pool, Budget(1)).image_ids == ("002",)
    pool = pool_of([[]] * 3, features=features, labeled=np.array([[-1.0, 0.1]]))
    assert ask("core_set", pool, Budget(1)).image_ids == ("000",)


def test_labeled_counts_must_fit_the_classes() -> None:
    with pytest.raises(DataError, match="one entry for each of the 1 classes, got 2"):
        Candidates.from_detections(
            ["a"],
            detections_of([[]]),
            class_names=("x",),
            labeled=Labeled(class_counts=np.zeros(2, dtype=np.int64)),
        )
