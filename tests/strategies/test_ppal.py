from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from detal.errors import ConfigError, DataError
from detal.strategies import Candidates, Labeled, make_strategy
from detal.strategies.medoids import k_medoids
from detal.structures import Annotations, Budget
from tests.features.factories import detections_of
from tests.strategies.factories import pool_of, random_pool, with_details

# 1 + 0.3 * 0.2 * ln(b d + 1) with b = e^(1 / 0.3) - 1
B = np.exp(1 / 0.3) - 1


def binary_entropy(score: float) -> float:
    return float(-(score * np.log(score) + (1 - score) * np.log(1 - score)))


def ask(pool: Candidates, budget: Budget, seed: int = 0, **options):
    strategy = make_strategy("ppal", **options)
    return strategy.query(pool, budget=budget, rng=np.random.default_rng(seed))


def test_stage_one_by_hand() -> None:
    """Class 0 is found with p 0.9 and IoU 1, class 1 is missed, class 2 was never labelled."""
    known = with_details(detections_of([[(0, 0.9)]]))
    box = np.array([[0.0, 5, 10, 15], [50, 50, 60, 60]])
    labeled = Labeled(
        class_counts=np.array([1, 1, 0]),
        detections=lambda: known,
        annotations=Annotations.from_lists([box], [np.array([0, 1])]),
    )
    pool = replace(pool_of([[(0, 0.5)], [(1, 0.3), (0, 0.2)], [(2, 0.5)]]), labeled=labeled)
    selection = ask(pool, Budget(3))
    difficulty = 1 - 0.9**0.6
    easy = 1 + 0.06 * np.log(B * difficulty + 1)
    expected = {
        "000": easy * np.log(2),
        "001": 1.2 * binary_entropy(0.3) + easy * binary_entropy(0.2),
        "002": 1.2 * np.log(2),
    }
    assert 1 < easy < 1.2
    assert dict(zip(selection.image_ids, selection.scores, strict=True)) == pytest.approx(
        expected, rel=1e-5
    )
    assert selection.image_ids == ("001", "002", "000")  # each a cluster, doubtful ones first


def naive_ppal(pool: Candidates, k: int, seed: int) -> set[str]:
    """Both stages with loops over images and boxes and the same draws; all classes weigh 1.2."""
    rng = np.random.default_rng(seed)
    boxes = []
    for i in range(len(pool)):
        seen = pool.take([i])
        assert seen.object_features is not None
        rows = range(seen.num_boxes)
        boxes.append(
            [
                (int(seen.labels[j]), float(seen.scores[j]), seen.object_features[j].numpy())
                for j in rows
                if seen.scores[j] >= 0.05
            ]
        )
    scores = np.array([1.2 * sum(binary_entropy(s) for _, s, _ in image) for image in boxes])
    order = np.lexsort((rng.permutation(len(pool)), -scores))[: 4 * k]
    order = np.sort(order)

    def directed(a: int, b: int) -> float:
        total = 0.0
        for label, score, feature in boxes[a]:
            cosines = [
                feature @ other / (np.linalg.norm(feature) * np.linalg.norm(other))
                for label_b, _, other in boxes[b]
                if label_b == label
            ]
            total += score * (1 - max(cosines) if cosines else 2.0)
        return total / sum(score for _, score, _ in boxes[a])

    distance = np.array([[(directed(a, b) + directed(b, a)) / 2 for b in order] for a in order])
    centres = [int(rng.integers(len(order)))]
    while len(centres) < k:
        rest = [i for i in range(len(order)) if i not in centres]
        centres.append(max(rest, key=lambda i: min(distance[i, c] for c in centres)))
    for _ in range(100):
        groups: list[list[int]] = [[] for _ in centres]
        for i in range(len(order)):
            own = centres.index(i) if i in centres else int(distance[i, centres].argmin())
            groups[own].append(i)
        centres = [min(g, key=lambda i: distance[i, g].sum()) for g in groups]
    return set(pool.image_ids[order[centres]])


@pytest.mark.parametrize("seed", range(4))
def test_equals_a_loop(seed: int) -> None:
    pool = random_pool(60, seed=seed, labeled=0)
    pool = replace(pool, labeled=Labeled(class_counts=np.zeros(3, dtype=np.int64)))
    selection = ask(pool, Budget(6), seed=seed)
    assert set(selection.image_ids) == naive_ppal(pool, 6, seed)
    assert "medoid of cluster 1 of 6" in selection.reasons[0]
    assert "of 24 shortlisted images" in selection.reasons[0]


def test_shortlist_in_boxes_costs_so_many_budgets() -> None:
    """Images of two expected boxes: a budget of four boxes shortlists eight and buys two."""
    pool = pool_of([[(0, 0.5)] * 4] * 20)
    selection = ask(pool, Budget(4, "boxes"))
    assert len(selection) == 2
    assert "of 2, which" in selection.reasons[0]
    assert "of 8 shortlisted" in selection.reasons[0]


def test_next_of_the_cluster_stands_in_for_a_medoid_that_is_turned_down() -> None:
    """Medoids are the images of middling score, 001 and 004, and both of one group."""
    images = [[(0, 0.52)], [(0, 0.5)], [(0, 0.48)], [(1, 0.32)], [(1, 0.3)], [(1, 0.28)]]
    pool = pool_of(images, groups=[None, "g", None, None, "g", None])
    strategy = make_strategy("ppal")
    for seed in range(5):
        rng = np.random.default_rng(seed)
        first, second = strategy.query(pool, budget=Budget(2), rng=rng, per_group=1).image_ids
        assert first == "001"
        assert second in {"003", "005"}


def test_a_long_shortlist_is_clustered_in_parts(monkeypatch) -> None:
    monkeypatch.setattr("detal.strategies.ppal._SHORTLIST", 7)
    pool = random_pool(60)
    selection = ask(pool, Budget(5))
    assert len(selection) == 5
    assert "of 6, which holds" in selection.reasons[0]  # three parts with two clusters each


@pytest.mark.parametrize(
    ("options", "first"),
    [
        pytest.param({}, "000", id="all boxes"),
        pytest.param({"min_score": 0.3}, "001", id="score"),
        pytest.param({"min_side_px": 12}, "001", id="size"),
        pytest.param({"max_aspect": 3.0}, "001", id="aspect"),
    ],
)
def test_boxes_that_do_not_count(options, first: str) -> None:
    seen = with_details(detections_of([[(0, 0.2), (0, 0.2)], [(0, 0.4)]]))
    seen.boxes[:] = torch.tensor([[0.0, 0, 40, 2], [0, 0, 2, 40], [0, 0, 20, 20]])
    pool = Candidates.from_detections(["000", "001"], seen, class_names=("x", "y", "z"))
    assert ask(pool, Budget(1), candidate_factor=1, **options).image_ids == (first,)


def test_most_boxes_of_an_image_that_are_compared() -> None:
    """With one box each, a and b are equal and share a cluster; with two they need not."""
    images = [[(0, 0.5), (1, 0.4)], [(0, 0.5), (2, 0.4)], [(0, 0.2)]]
    seen = with_details(detections_of(images))
    pool = Candidates.from_detections(["a", "b", "c"], seen, class_names=("x", "y", "z"))
    one, two = (
        [set(ask(pool, Budget(2), max_boxes=most, seed=seed).image_ids) for seed in range(6)]
        for most in (1, 2)
    )
    assert all("c" in picked for picked in one)
    assert {"a", "b"} in two


@pytest.mark.parametrize("seed", range(3))
def test_k_medoids_minimises_locally(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(40, 2))
    distance = np.linalg.norm(points[:, None] - points[None], axis=2).astype(np.float32)
    medoids, labels = k_medoids(distance, k=5, rng=rng)
    assert len(set(medoids.tolist())) == 5
    assert np.array_equal(labels, distance[:, medoids].argmin(axis=1))
    for label, medoid in enumerate(medoids):
        own = labels == label
        assert distance[medoid, own].sum() == pytest.approx(
            distance[np.ix_(own, own)].sum(axis=1).min(), rel=1e-6
        )


@pytest.mark.parametrize("k", [1, 3, 6])
def test_k_medoids_on_equal_points(k: int) -> None:
    distance = np.zeros((6, 6), dtype=np.float32)
    medoids, labels = k_medoids(distance, k=k, rng=np.random.default_rng(0))
    assert len(set(medoids.tolist())) == k
    assert set(labels.tolist()) == set(range(k))


@pytest.mark.parametrize("field", ["scores", "object_features"])
def test_nan_is_refused_with_the_image_named(field: str) -> None:
    seen = with_details(detections_of([[(0, 0.5)], [(1, 0.6), (2, 0.3)], [(0, 0.4)]]))
    getattr(seen, field)[2] = torch.nan
    match = {"scores": "expected_boxes must be finite", "object_features": "must be a number"}
    with pytest.raises(DataError, match=rf"{match[field]}.*image 'b'; 1 of 3 images"):
        ask(
            Candidates.from_detections(["a", "b", "c"], seen, class_names=("x", "y", "z")),
            Budget(1),
        )


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"candidate_factor": 0.5}, r"candidate_factor of ppal must be a number >= 1, got 0.5"),
        ({"xi": 1.5}, r"xi of ppal must be a number in \[0, 1\], got 1.5"),
        ({"beta": "much"}, r"beta of ppal must be a number >= 0, got 'much'"),
        ({"max_aspect": 0}, r"max_aspect of ppal must be a number >= 1, got 0"),
        ({"max_boxes": 2.5}, r"max_boxes of ppal must be an integer >= 1, got 2.5"),
        ({"min_side_px": float("nan")}, r"min_side_px of ppal must be a number >= 0, got nan"),
    ],
)
def test_wrong_options(options, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        make_strategy("ppal", **options)
