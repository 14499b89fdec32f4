"""Core-set with outliers, with swaps, and over objects."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from detal.errors import ConfigError, DataError
from detal.strategies import Candidates, Labeled, make_strategy
from detal.strategies.geometry import Space
from detal.strategies.k_centre import pick_farthest, swapped_centres
from detal.structures import Budget
from tests.features.factories import detections_of
from tests.strategies.factories import pool_of, random_pool


def pick(pool: Candidates, k: int, seed: int = 0, **options):
    strategy = make_strategy("core_set", **options)
    return strategy.query(pool, budget=Budget(k), rng=np.random.default_rng(seed))


def radius(points: np.ndarray, centres) -> float:
    distance = np.linalg.norm(points[:, None] - points[list(centres)][None], axis=2)
    return float(distance.min(axis=1).max())


def test_outliers_by_hand() -> None:
    """One of ten may stay uncovered: the pick is one of the two farthest, either as likely."""
    key = np.array([0, 5, 1, 9, 3, 2, 1, 1, -np.inf, 0], dtype=np.float32)
    draws = [
        pick_farthest(key, outliers=0.1, rng=np.random.default_rng(seed)) for seed in range(100)
    ]
    assert set(draws) == {1, 3}
    assert 30 < draws.count(3) < 70
    assert pick_farthest(key, outliers=0.0, rng=np.random.default_rng(0)) == 3
    gone = np.where(np.arange(10) == 3, -np.inf, np.float32(-np.inf))
    gone[7] = 1
    assert pick_farthest(gone.astype(np.float32), outliers=0.4, rng=np.random.default_rng(0)) == 7


def test_outliers_are_picked_less_often() -> None:
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(size=(97, 2)), [[90.0, 0], [0, 90], [-90, 0]]])
    pool = pool_of([[]] * 100, features=features, labeled=np.zeros((1, 2)))
    greedy = pick(pool, 3, metric="euclidean")
    assert {int(i) for i in greedy.image_ids} == {97, 98, 99}
    robust = [
        sum(int(i) >= 97 for i in pick(pool, 3, seed, metric="euclidean", outliers=0.1).image_ids)
        for seed in range(20)
    ]
    assert np.mean(robust) < 1


def test_swap_by_hand() -> None:
    """Greedy takes 1.5, nearest to the mean of 4.67, and 9: radius 1.5; 1 instead of 1.5: 1."""
    points = np.array([[0.0], [1], [1.5], [8], [8.5], [9]], dtype=np.float32)
    space = Space(points, metric="euclidean")
    rng = np.random.default_rng(0)
    greedy = swapped_centres(space, None, k=2, swaps=0, outliers=0.0, rng=rng)
    better = swapped_centres(space, None, k=2, swaps=5, outliers=0.0, rng=rng)
    assert (greedy, better) == ([2, 5], [1, 5])
    assert radius(points, greedy) == 1.5
    assert radius(points, better) == 1.0


@pytest.mark.parametrize("seed", range(6))
def test_swaps_never_make_the_radius_larger_and_stay_at_labelled_images(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(60, 2)).astype(np.float32)
    labeled = rng.normal(size=(2, 2)).astype(np.float32)
    space = Space(points, metric="euclidean")

    def reached(swaps: int) -> float:
        centres = swapped_centres(
            space, labeled, k=6, swaps=swaps, outliers=0.0, rng=np.random.default_rng(0)
        )
        assert len(set(centres)) == 6
        everything = np.concatenate([points[centres], labeled])
        return float(np.linalg.norm(points[:, None] - everything[None], axis=2).min(1).max())

    values = [reached(swaps) for swaps in (0, 1, 2, 10)]
    assert all(b <= a + 1e-6 for a, b in itertools.pairwise(values))


def test_swaps_find_the_optimum_more_often_than_greedy_choice() -> None:
    hits = np.zeros(2)
    for seed in range(15):
        points = np.random.default_rng(seed).normal(size=(12, 2)).astype(np.float32)
        space = Space(points, metric="euclidean")
        best = min(radius(points, c) for c in itertools.combinations(range(12), 3))
        for which, swaps in enumerate((0, 10)):
            rng = np.random.default_rng(0)
            found = swapped_centres(space, None, k=3, swaps=swaps, outliers=0.0, rng=rng)
            hits[which] += radius(points, found) <= best * (1 + 1e-5)
    assert hits[1] >= hits[0] + 3


def test_the_swapped_batch_is_what_is_picked() -> None:
    pool = random_pool(50, labeled=0)
    selection = pick(pool, 6, swaps=5)
    assert pool.image_features is not None
    space = Space(pool.image_features, metric="cosine")
    centres = swapped_centres(space, None, k=6, swaps=5, outliers=0.0, rng=np.random.default_rng(0))
    assert list(selection.image_ids) == list(pool.image_ids[centres])
    assert selection.reasons[0].startswith("a centre of the pool, rank 1;")
    assert len(pick(pool, 50, swaps=2)) == 50


def objects_pool(images, features, labeled=None) -> Candidates:
    """Images with one box of score 0.9 - 0.1 i for each given feature."""
    detections = detections_of([[(0, 0.9 - 0.1 * i) for i in range(n)] for n in images])
    detections = replace(detections, object_features=torch.tensor(features, dtype=torch.float32))
    known = Labeled(class_counts=np.zeros(3, dtype=np.int64))
    if labeled is not None:
        seen = replace(
            detections_of([[(0, 0.5)]] * len(labeled)),
            object_features=torch.tensor(labeled, dtype=torch.float32),
        )
        known = replace(known, detections=lambda: seen)
    return Candidates.from_detections(
        [f"{i:03d}" for i in range(len(images))],
        detections,
        class_names=("a", "b", "c"),
        labeled=known,
    )


def test_objects_by_hand() -> None:
    """Farthest object: 9 of image 2; then 5 of image 0 (its 1 counts nothing); empty one last."""
    pool = objects_pool([2, 1, 2, 0], [[1.0], [5], [2], [9], [0.5]], labeled=[[0.0]])
    selection = pick(pool, 4, level="objects", metric="euclidean")
    assert selection.image_ids == ("002", "000", "001", "003")
    assert selection.scores[:3] == pytest.approx([9, 4, 1])
    assert np.isnan(selection.scores[3])
    assert "an object 9 away" in selection.reasons[0]
    assert "no object to cover" in selection.reasons[3]
    strongest = pick(pool, 1, level="objects", metric="euclidean", objects=1)
    assert strongest.scores[0] == pytest.approx(9)
    weak = objects_pool([2, 1], [[1.0], [50], [2]], labeled=[[0.0]])
    assert pick(weak, 1, level="objects", metric="euclidean", objects=1).image_ids == ("001",)


def test_objects_with_nothing_labelled_start_at_the_mean() -> None:
    pool = objects_pool([1, 2, 1], [[0.0], [4], [6], [11]])  # mean 5.25
    selection = pick(pool, 3, level="objects", metric="euclidean")
    assert selection.image_ids == ("001", "002", "000")
    assert selection.scores[1:] == pytest.approx([5, 4])


def test_objects_in_any_order_of_the_chunks_and_without_any() -> None:
    pool = random_pool(30)
    ids = pick(pool, 8, level="objects").image_ids
    parts = list(pool.chunks())
    ((index, whole),) = parts
    halves = [(index[i::2], whole.take(torch.arange(i, 30, 2))) for i in (1, 0)]
    assert pick(replace(pool, chunks=lambda: iter(halves)), 8, level="objects").image_ids == ids
    nothing = objects_pool([0, 0], np.zeros((0, 4)))
    assert pick(nothing, 2, level="objects").image_ids == ("000", "001")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"level": "boxes"}, "unknown level 'boxes'"),
        ({"outliers": 0.7}, r"outliers must be a number in \[0, 0.5\], got 0.7"),
        ({"swaps": -1}, "swaps must be an integer >= 0"),
        ({"level": "objects", "swaps": 1}, "for level: images only"),
    ],
)
def test_wrong_options(options, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        make_strategy("core_set", **options)


def test_object_features_must_be_there_and_finite() -> None:
    bare = Candidates.from_detections(["a"], detections_of([[(0, 0.5)]]), class_names=("x",) * 3)
    with pytest.raises(ConfigError, match=r"needs object features.*level: images"):
        pick(bare, 1, level="objects")
    with pytest.raises(DataError, match=r"object features must be finite \(image '001'\)"):
        pick(objects_pool([1, 1], [[1.0], [np.nan]]), 1, level="objects")
