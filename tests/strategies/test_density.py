import numpy as np
import pytest

from detal.strategies import make_strategy, neighbours
from detal.strategies.geometry import Space
from detal.strategies.neighbours import neighbour_similarity
from detal.structures import Budget
from tests.strategies.factories import pool_of, random_pool


def on_circle(*degrees: float) -> np.ndarray:
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * 3.0


def pick(name: str, pool, k: int, seed: int = 0, **options):
    strategy = make_strategy(name, **options)
    return strategy.query(pool, budget=Budget(k), rng=np.random.default_rng(seed))


def test_density_by_hand() -> None:
    """Three images 10 degrees apart and a loner: the middle one has the closest two neighbours."""
    pool = pool_of([[]] * 4, features=on_circle(0, 10, 20, 180))
    selection = pick("density", pool, 4, neighbours=2)
    assert selection.image_ids[0] == "001"
    assert selection.image_ids[3] == "003"
    ten, twenty = np.cos(np.deg2rad([10, 20]))
    assert selection.scores[0] == pytest.approx(ten, abs=1e-5)
    assert selection.scores[1] == pytest.approx((ten + twenty) / 2, abs=1e-5)
    assert selection.scores[3] == pytest.approx((-ten + np.cos(np.deg2rad(160))) / 2, abs=1e-2)
    assert "mean similarity to its neighbours 0.985, rank 1 of 4" in selection.reasons[0]


@pytest.mark.parametrize(("k", "width"), [(1, 1), (3, 3), (50, 11)])
def test_neighbours_are_those_of_a_full_matrix(monkeypatch, k: int, width: int) -> None:
    monkeypatch.setattr(neighbours, "_CELLS", 25)  # two rows at a time
    features = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    references = np.arange(3, 27, 2)
    rows = np.arange(5, 20)
    space = Space(features, metric="cosine")
    found = np.sort(neighbour_similarity(space, rows, references, k=k), axis=1)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    for row, values in zip(rows, found, strict=True):
        others = np.sort(unit[[r for r in references if r != row]] @ unit[row])[::-1]
        assert values[::-1] == pytest.approx(others[:width], abs=1e-6)
        assert len(values) == width


def test_a_large_pool_looks_for_neighbours_in_a_sample(monkeypatch) -> None:
    """With one image in five as references the dense spot is still found."""
    import detal.strategies.density as module

    monkeypatch.setattr(module, "SAMPLE", 20)
    rng = np.random.default_rng(0)
    features = np.concatenate([on_circle(*rng.uniform(0, 3, 50)), on_circle(*range(60, 360, 6))])
    selection = pick("density", pool_of([[]] * 100, features=features), 10, neighbours=5)
    assert all(int(image_id) < 50 for image_id in selection.image_ids)


def test_typiclust_by_hand() -> None:
    """A cluster with a labelled image comes last, the larger of the others first."""
    blobs = (0, 4, 8, 12, 40), (120, 124, 128, 132, 136, 141), (240, 243, 246, 249, 252, 255, 258)
    features = np.concatenate([on_circle(*blob) for blob in blobs])
    pool = pool_of([[]] * 18, features=features, labeled=on_circle(247))
    selection = pick("typiclust", pool, 2, seed=1, neighbours=2)
    assert selection.image_ids[0] in {"006", "007", "008", "009"}
    assert int(selection.image_ids[1]) < 5
    # Two neighbours at 4 degrees, in the middle of each blob.
    distance = 2 * np.sin(np.deg2rad(2))
    assert selection.scores == pytest.approx([1 / distance] * 2, rel=1e-3)
    assert "a cluster of 6 candidates and 0 labelled images" in selection.reasons[0]
    everything = pick("typiclust", pool, 18, seed=1, neighbours=2, max_clusters=3)
    assert int(everything.image_ids[2]) >= 11
    assert [int(i) < 5 for i in everything.image_ids].index(True) == 1  # then round by round


def test_typiclust_leaves_tiny_clusters_for_last() -> None:
    features = np.concatenate([on_circle(0, 1, 2, 3, 4, 5), on_circle(180)])
    pool = pool_of([[]] * 7, features=features)
    selection = pick("typiclust", pool, 2, min_cluster_size=5)
    assert int(selection.image_ids[0]) < 6
    assert selection.image_ids[1] == "006"
    other = pick("typiclust", pool, 1, min_cluster_size=0)
    assert int(other.image_ids[0]) < 6


@pytest.mark.parametrize("seed", range(3))
def test_typicality_is_that_of_a_naive_computation(seed: int) -> None:
    """One cluster only: the order is by mean distance to the nearest neighbours."""
    pool = random_pool(30, seed=seed, labeled=0)
    assert pool.image_features is not None
    selection = pick("typiclust", pool, 30, max_clusters=1, neighbours=4)
    unit = pool.image_features / np.linalg.norm(pool.image_features, axis=1, keepdims=True)
    distance = np.linalg.norm(unit[:, None] - unit[None], axis=2)
    mean = np.sort(distance, axis=1)[:, 1:5].mean(axis=1)
    assert list(selection.image_ids) == list(pool.image_ids[mean.argsort()])
    assert selection.scores == pytest.approx(1 / np.sort(mean), rel=1e-4)
