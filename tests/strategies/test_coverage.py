import numpy as np
import pytest

from detal.strategies import make_strategy
from detal.strategies.clustering import _seed, assign, fit_centres
from detal.strategies.geometry import Space
from detal.structures import Budget
from tests.strategies.factories import pool_of, random_pool


def distances(points: np.ndarray, others: np.ndarray, metric: str) -> np.ndarray:
    points, others = points.astype(np.float64), others.astype(np.float64)
    if metric == "euclidean":
        return np.asarray(np.linalg.norm(points[:, None] - others[None], axis=2))
    norms: np.ndarray = (
        np.linalg.norm(points, axis=1)[:, None] * np.linalg.norm(others, axis=1)[None]
    )
    return np.asarray(1 - points @ others.T / norms)


def brute_force(features: np.ndarray, labeled: np.ndarray, k: int, metric: str) -> list[int]:
    centres, picked = list(labeled), list[int]()
    for _ in range(k):
        nearest = distances(features, np.array(centres), metric).min(axis=1)
        nearest[picked] = -1
        picked.append(int(nearest.argmax()))
        centres.append(features[picked[-1]])
    return picked


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("seed", range(5))
def test_core_set_is_k_centre_greedy(metric, seed: int) -> None:
    pool = random_pool(50, seed=seed)
    assert pool.image_features is not None
    assert pool.labeled.image_features is not None
    expected = brute_force(pool.image_features, pool.labeled.image_features, 12, metric)
    strategy = make_strategy("core_set", metric=metric)
    selection = strategy.query(pool, budget=Budget(12), rng=np.random.default_rng(0))
    assert list(selection.image_ids) == list(pool.image_ids[expected])
    assert (np.diff(selection.scores) <= 1e-6).all()
    assert "away from the nearest labelled or picked image" in selection.reasons[0]


def test_core_set_starts_at_the_mean_when_nothing_is_labelled() -> None:
    features = np.array([[5.0, 0], [1, 1], [-5, 0], [0, 9]])
    strategy = make_strategy("core_set", metric="euclidean")
    selection = strategy.query(
        pool_of([[]] * 4, features=features), budget=Budget(2), rng=np.random.default_rng(0)
    )
    assert selection.image_ids == ("001", "003")
    assert np.isnan(selection.scores[0])
    assert selection.scores[1] == pytest.approx(np.hypot(1, 8), rel=1e-5)
    assert "nothing is labelled" in selection.reasons[0]


def test_core_set_does_not_count_images_it_did_not_get() -> None:
    """The farthest image is too expensive; its neighbour stands in for it."""
    features = np.array([[0.0, 0], [10, 0], [9, 0], [0, 5]])
    images = [[(0, 0.5)], [(0, 0.9)] * 10, [(0, 0.5)], [(0, 0.5)]]
    pool = pool_of(images, features=features, labeled=np.array([[0.0, 0.1]]))
    strategy = make_strategy("core_set", metric="euclidean")
    selection = strategy.query(pool, budget=Budget(2, "boxes"), rng=np.random.default_rng(0))
    assert selection.image_ids == ("002", "003")
    assert selection.passed_over["cost"] == 1


def test_core_set_with_the_first_image_too_expensive_and_nothing_labelled() -> None:
    images = [[(0, 0.9)] * 10, [(0, 0.5)], [(0, 0.5)]]
    pool = pool_of(images, features=np.array([[0.0, 0], [3, 0], [-4, 0]]))
    strategy = make_strategy("core_set", metric="euclidean")
    selection = strategy.query(pool, budget=Budget(2, "boxes"), rng=np.random.default_rng(0))
    assert selection.image_ids == ("001", "002")


def test_core_set_goes_on_through_exact_duplicates() -> None:
    features = np.repeat(np.array([[1.0, 0], [0, 1]]), 3, axis=0)
    strategy = make_strategy("core_set")
    selection = strategy.query(
        pool_of([[]] * 6, features=features), budget=Budget(6), rng=np.random.default_rng(0)
    )
    assert len(set(selection.image_ids)) == 6
    assert set(selection.image_ids[:2]) & {"000", "001", "002"}
    assert set(selection.image_ids[:2]) & {"003", "004", "005"}


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_distances_far_from_the_origin(metric) -> None:
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(30, 6)) + 100).astype(np.float32)
    others = (rng.normal(size=(4, 6)) + 100).astype(np.float32)
    space = Space(features, metric=metric)
    tolerance = {"cosine": 1e-6, "euclidean": 1e-3}[metric]
    expected = distances(features, features[7:8], metric)[:, 0]
    assert space.distance_to(7) == pytest.approx(expected, abs=tolerance)
    nearest = distances(features, others, metric).min(axis=1)
    assert space.distance_to_nearest(others) == pytest.approx(nearest, abs=tolerance)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("seed", range(5))
def test_kmeans_takes_one_of_each_blob(metric, seed: int) -> None:
    rng = np.random.default_rng(seed)
    centres = np.eye(6) * 10
    labels = rng.permutation(np.repeat(np.arange(6), [20, 3, 5, 10, 2, 8]))
    features = centres[labels] + rng.normal(scale=0.05, size=(48, 6))
    strategy = make_strategy("kmeans", metric=metric)
    selection = strategy.query(pool_of([[]] * 48, features=features), budget=Budget(6), rng=rng)
    picked = [labels[int(image_id)] for image_id in selection.image_ids]
    assert sorted(picked) == list(range(6))
    assert picked[0] == 0  # largest cluster first
    assert "cluster 1 of 6, which holds 20 of 48" in selection.reasons[0]
    blob = features[labels == 0]
    unit = blob / np.linalg.norm(blob, axis=1, keepdims=True) if metric == "cosine" else blob
    medoid = np.linalg.norm(unit - unit.mean(axis=0), axis=1).argmin()
    assert np.flatnonzero(labels == 0)[medoid] == int(selection.image_ids[0])


def test_kmeans_replaces_a_medoid_that_was_turned_down_from_its_own_cluster() -> None:
    features = np.array([[0.0], [1], [2.2], [100], [101], [102.2]])
    groups = [None, "g", None, None, "g", None]  # both medoids are of one video
    pool = pool_of([[]] * 6, features=features, groups=groups)
    strategy = make_strategy("kmeans", metric="euclidean")
    rng = np.random.default_rng(0)
    selection = strategy.query(pool, budget=Budget(2), rng=rng, per_group=1)
    first, second = (int(image_id) for image_id in selection.image_ids)
    assert first in {1, 4}
    assert second == {1: 3, 4: 0}[first]  # 3 and 0 are the next nearest of the other blob
    assert selection.passed_over["group"] == 1
    assert selection.reasons[1].startswith("number 2 nearest to the centre of cluster 2 of 2")


def test_kmeans_goes_round_again_to_fill_the_budget() -> None:
    features = np.array([[0.0], [1], [2.2], [100], [101], [102.2]])
    images = [[(0, 0.5)] * 2] * 3 + [[(0, 0.5)] * 8] * 3  # 1 and 4 expected boxes: mean cost 2.5
    pool = pool_of(images, features=features)
    strategy = make_strategy("kmeans", metric="euclidean")
    selection = strategy.query(pool, budget=Budget(7, "boxes"), rng=np.random.default_rng(0))
    assert sorted(selection.image_ids) == ["000", "001", "002", "004"]


def test_kmeans_on_fewer_distinct_images_than_clusters() -> None:
    features = np.repeat(np.array([[1.0, 0], [0, 1]]), 5, axis=0)
    strategy = make_strategy("kmeans")
    selection = strategy.query(
        pool_of([[]] * 10, features=features), budget=Budget(6), rng=np.random.default_rng(0)
    )
    assert len(set(selection.image_ids)) == 6
    assert {int(image_id) // 5 for image_id in selection.image_ids[:2]} == {0, 1}


def test_centres_minimise_the_distance_locally() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(300, 4)).astype(np.float32)
    centres = fit_centres(points, k=7, rng=rng, iterations=200, least_gain=0)
    labels, squared = assign(points, centres)
    exact = ((points[:, None] - centres[None]) ** 2).sum(axis=2)
    assert np.array_equal(labels, exact.argmin(axis=1))
    assert squared == pytest.approx(exact.min(axis=1), abs=1e-4)
    means = np.stack([points[labels == label].mean(axis=0) for label in range(7)])
    assert centres == pytest.approx(means, abs=1e-5)


def test_seeds_are_drawn_by_squared_distance() -> None:
    # From the first point the others are 1, 2 and 3 away: drawn with 1/14, 4/14 and 9/14.
    points = np.array([[0, 0], [1, 0], [0, 2], [-3, 0]], dtype=np.float32)
    seconds = []
    for seed in range(3000):
        first, second = _seed(points, k=2, rng=np.random.default_rng(seed))
        if first == 0:
            seconds.append(second)
    shares = np.bincount(seconds, minlength=4) / len(seconds)
    assert shares == pytest.approx([0, 1 / 14, 4 / 14, 9 / 14], abs=0.06)


def test_many_seeds_are_distinct_and_near_everything() -> None:
    rng = np.random.default_rng(0)
    points = 100 * np.eye(30, dtype=np.float32).repeat(2, axis=0)
    points[1::2] += 1  # the other one of each pair
    for k in (30, 60, 90):
        seeds = _seed(points, k=k, rng=rng)
        assert len(set(seeds.tolist())) == len(seeds) == min(k, 60)
    pairs = np.unique(_seed(points, k=30, rng=rng) // 2)
    assert len(pairs) == 30
