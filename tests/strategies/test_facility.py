import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detal.strategies import make_strategy
from detal.strategies.facility import pure_radius
from detal.structures import Budget
from tests.strategies.factories import pool_of, random_pool
from tests.strategies.test_density import on_circle, pick


def unit(features: np.ndarray) -> np.ndarray:
    return np.asarray(features / np.linalg.norm(features, axis=1, keepdims=True))


def represented(features: np.ndarray, chosen, labeled: np.ndarray | None = None) -> float:
    """Mean similarity of all images to their nearest chosen one, (1 + cos) / 2."""
    centres = unit(features)[list(chosen)]
    if labeled is not None:
        centres = np.concatenate([centres, unit(labeled)])
    return float(((1 + unit(features) @ centres.T) / 2).max(axis=1).mean())


def test_facility_location_by_hand() -> None:
    """At 0, 60 and 180 degrees: similarities 3/4 (0-60), 1/4 (60-180) and 0 (0-180)."""
    pool = pool_of([[]] * 3, features=on_circle(0, 60, 180))
    selection = pick("facility_location", pool, 3)
    assert selection.image_ids == ("001", "002", "000")
    assert selection.scores == pytest.approx([2 / 3, 1 / 4, 1 / 12], abs=1e-6)
    assert "represented by 0.667, rank 1" in selection.reasons[0]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("front", [1, 3, 64])
def test_lazy_choice_is_greedy_choice(monkeypatch, seed: int, front: int) -> None:
    monkeypatch.setattr("detal.strategies.lazy._FRONT", front)
    pool = random_pool(40, seed=seed)
    assert pool.image_features is not None
    known = pool.labeled.image_features
    selection = pick("facility_location", pool, 12)
    chosen: list[int] = []
    before = represented(pool.image_features, [], known)
    for image_id, score in zip(selection.image_ids, selection.scores, strict=True):
        rest = [i for i in range(40) if i not in chosen]
        values = [represented(pool.image_features, [*chosen, i], known) for i in rest]
        chosen.append(int(image_id))  # two images may gain each other only: equally much
        after = represented(pool.image_features, chosen, known)
        assert after == pytest.approx(max(values), abs=1e-6)
        assert score == pytest.approx(after - before, abs=1e-6)
        before = after


@settings(max_examples=40, deadline=None)
@given(size=st.integers(3, 8), k=st.integers(1, 3), seed=st.integers(0, 10_000))
def test_greedy_reaches_its_share_of_the_optimum(size: int, k: int, seed: int) -> None:
    features = np.random.default_rng(seed).normal(size=(size, 3))
    pool = pool_of([[]] * size, features=features)
    found = represented(features, map(int, pick("facility_location", pool, k).image_ids))
    best = max(represented(features, c) for c in itertools.combinations(range(size), k))
    assert found >= (1 - 1 / np.e) * best - 1e-6


def test_what_was_turned_down_covers_nothing() -> None:
    """The two best images are too expensive; their neighbour stands in for them."""
    features = on_circle(0, 1, 2, 170)
    crowd = [(0, 0.9)] * 10
    pool = pool_of([[], crowd, [], []], features=features)
    strategy = make_strategy("facility_location")
    rng = np.random.default_rng(0)
    selection = strategy.query(pool, budget=Budget(2, "boxes"), rng=rng)
    assert selection.image_ids == ("002", "003")
    # With everything at one price the middle of the blob comes first.
    assert pick("facility_location", pool, 3).image_ids[0] == "002"


def test_a_sample_stands_for_a_large_pool() -> None:
    features = np.concatenate([on_circle(*np.linspace(a, a + 3, 40)) for a in (0, 90, 180, 270)])
    pool = pool_of([[]] * 160, features=features)
    selection = pick("facility_location", pool, 4, sample=40)
    assert {int(image_id) // 40 for image_id in selection.image_ids} == {0, 1, 2, 3}


def test_prob_cover_by_hand() -> None:
    """Balls of 15 degrees: 10 covers three images, then 95 two, then 200 itself."""
    features = on_circle(0, 10, 20, 90, 95, 200)
    pool = pool_of([[]] * 6, features=features)
    radius = 1 - np.cos(np.deg2rad(15))
    selection = pick("prob_cover", pool, 4, radius=radius)
    assert selection.image_ids[:3] == ("001", "003", "005")
    assert selection.scores[:3] == pytest.approx([3 / 6, 2 / 6, 1 / 6])
    assert selection.scores[3] == 0
    assert "50.0% of the pool is within 0.0341 and was not covered" in selection.reasons[0]
    assert "whole pool is covered" in selection.reasons[3]
    pool = pool_of([[]] * 6, features=features, labeled=on_circle(12))
    assert pick("prob_cover", pool, 2, radius=radius).image_ids == ("003", "005")


@pytest.mark.parametrize("seed", range(3))
def test_prob_cover_is_greedy_maximum_coverage(seed: int) -> None:
    pool = random_pool(60, seed=seed, dimensions=3)
    assert pool.image_features is not None
    assert pool.labeled.image_features is not None
    near = 1 - unit(pool.image_features) @ unit(pool.image_features).T <= 0.1
    left = (1 - unit(pool.image_features) @ unit(pool.labeled.image_features).T > 0.1).all(axis=1)
    selection = pick("prob_cover", pool, 8, radius=0.1)
    for image_id, score in zip(selection.image_ids, selection.scores, strict=True):
        gain = (near & left).sum(axis=1)
        assert gain[int(image_id)] == gain.max()  # any of the equally good ones
        assert score == pytest.approx(gain.max() / 60)
        left &= ~near[int(image_id)]


def test_radius_is_the_paper_s_largest_pure_one() -> None:
    """Two blobs of 10 images; the nearest images of the other blob are known."""
    degrees = [*range(0, 20, 2), *range(100, 120, 2)]
    points = unit(on_circle(*degrees)).astype(np.float32)
    rng = np.random.default_rng(0)
    # From 18 to 100 and back it is 82 degrees: two of 20 balls are impure from there on.
    for purity, degree in ((0.95, 82), (0.9, 84), (0.85, 84), (0.8, 86)):
        radius = pure_radius(points, k=2, purity=purity, rng=rng)
        assert radius == pytest.approx(1 - np.cos(np.deg2rad(degree)), abs=1e-5)
        far = 1 - points @ points.T > radius
        pure = (far | (np.arange(20)[:, None] // 10 == np.arange(20) // 10)).all(axis=1)
        assert pure.mean() >= purity


@pytest.mark.parametrize("size", [1, 5])
def test_radius_of_equal_images(size: int) -> None:
    points = np.ones((size, 1), dtype=np.float32)
    assert pure_radius(points, k=2, purity=0.95, rng=np.random.default_rng(0)) == 0.0


def test_blobs_are_covered_one_by_one_with_the_radius_from_the_data() -> None:
    degrees = [a + x for a, n in ((0, 30), (90, 20), (200, 10)) for x in np.linspace(0, 5, n)]
    pool = pool_of([[]] * 60, features=on_circle(*degrees))
    selection = pick("prob_cover", pool, 3)
    assert [(int(i) >= 30) + (int(i) >= 50) for i in selection.image_ids] == [0, 1, 2]
