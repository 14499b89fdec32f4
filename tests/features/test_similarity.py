from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch

from detal.features.similarity import class_prototypes, distinct_boxes, matching_distances


class Boxes(NamedTuple):
    values: torch.Tensor
    features: torch.Tensor
    labels: torch.Tensor
    image: torch.Tensor


def random_boxes(seed: int, *, images: int = 8, classes: int = 3, most: int = 9) -> Boxes:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, most, size=images)
    n = int(counts.sum())
    return Boxes(
        torch.tensor(rng.uniform(0.05, 0.7, size=n).round(1), dtype=torch.float32),  # with ties
        torch.tensor(rng.normal(size=(n, 4)), dtype=torch.float32),
        torch.tensor(rng.integers(classes, size=n)),
        torch.from_numpy(np.repeat(np.arange(images), counts)),
    )


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def test_enms_on_four_boxes_by_hand() -> None:
    """One class: the second looks like the first, the third like the dropped second only.

    The fourth looks like the first but is of another class.
    """
    angles = torch.deg2rad(torch.tensor([0.0, 50.0, 100.0, 0.0]))
    features = torch.stack([angles.cos(), angles.sin()], dim=1)
    kept = distinct_boxes(
        torch.tensor([0.69, 0.6, 0.5, 0.4]),
        features,
        torch.tensor([0, 0, 0, 1]),
        torch.zeros(4, dtype=torch.int64),
        threshold=0.5,  # cos 50 is 0.64, cos 100 is -0.17
    )
    assert kept.tolist() == [True, False, True, True]


def naive_enms(boxes: Boxes, threshold: float) -> list[bool]:
    kept = [False] * len(boxes.values)
    left = list(range(len(boxes.values)))
    while left:
        best = max(left, key=lambda i: (float(boxes.values[i]), -i))
        kept[best] = True
        left = [
            i
            for i in left
            if i != best
            and not (
                boxes.image[i] == boxes.image[best]
                and boxes.labels[i] == boxes.labels[best]
                and cosine(boxes.features[i], boxes.features[best]) > threshold
            )
        ]
    return kept


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_enms_equals_a_loop(seed: int, threshold: float) -> None:
    boxes = random_boxes(seed)
    assert distinct_boxes(*boxes, threshold=threshold).tolist() == naive_enms(boxes, threshold)


def test_enms_without_boxes_and_with_features_of_zero() -> None:
    nothing = random_boxes(0, images=0)
    assert distinct_boxes(*nothing, threshold=0.5).shape == (0,)
    same = torch.zeros(3, dtype=torch.int64)
    kept = distinct_boxes(torch.ones(3), torch.zeros(3, 2), same, same, threshold=0.5)
    assert kept.tolist() == [True] * 3


def test_prototypes_equal_a_loop() -> None:
    boxes = random_boxes(1)
    image, labels, prototypes = class_prototypes(*boxes)
    pairs = sorted(set(zip(boxes.image.tolist(), boxes.labels.tolist(), strict=True)))
    assert list(zip(image.tolist(), labels.tolist(), strict=True)) == pairs
    for pair, prototype in zip(pairs, prototypes, strict=True):
        own = (boxes.image == pair[0]) & (boxes.labels == pair[1])
        mean = (boxes.values[own, None] * boxes.features[own]).sum(dim=0)
        assert torch.allclose(prototype, mean / mean.norm(), atol=1e-5)


def test_prototype_of_boxes_without_value_is_their_plain_mean() -> None:
    zero = torch.zeros(2, dtype=torch.int64)
    _, _, prototype = class_prototypes(torch.zeros(2), torch.eye(2), zero, zero)
    assert prototype[0].tolist() == pytest.approx([0.5**0.5] * 2)


def test_matching_distance_by_hand() -> None:
    """Image 0: a class-0 box of score 0.8 along x, a class-1 box of score 0.2; image 1: class 0.

    The class-0 boxes are at 60 degrees. From 0 to 1: (0.8 * 0.5 + 0.2 * 2) / 1 = 0.8; back: 0.5.
    """
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 3**0.5 / 2]])
    distance = matching_distances(
        features,
        torch.tensor([0, 1, 0]),
        torch.tensor([0.8, 0.2, 0.4]),
        torch.tensor([0, 0, 1]),
        num_images=2,
    )
    assert distance.tolist() == [[0.0, pytest.approx(0.65)], [pytest.approx(0.65), 0.0]]


def naive_directed(boxes: Boxes, a: int, b: int) -> float:
    total, weight = 0.0, 0.0
    for i in (boxes.image == a).nonzero()[:, 0].tolist():
        others = ((boxes.image == b) & (boxes.labels == boxes.labels[i])).nonzero()[:, 0].tolist()
        nearest = min(
            (1 - cosine(boxes.features[i], boxes.features[j]) for j in others), default=2.0
        )
        total, weight = total + float(boxes.values[i]) * nearest, weight + float(boxes.values[i])
    return total / weight


@pytest.mark.parametrize("cells", [4_000_000, 7], ids=["one block", "many blocks"])
@pytest.mark.parametrize("seed", range(3))
def test_matching_distances_equal_a_loop(seed: int, cells: int, monkeypatch) -> None:
    monkeypatch.setattr("detal.features.similarity._CELLS", cells)
    boxes = random_boxes(seed, images=10)
    counts = torch.bincount(boxes.image, minlength=10)
    assert (counts == 0).any()
    got = matching_distances(boxes.features, boxes.labels, boxes.values, boxes.image, num_images=10)
    for a in range(10):
        for b in range(10):
            if a == b or (counts[a] == 0 and counts[b] == 0):
                expected = 0.0
            elif counts[a] == 0 or counts[b] == 0:
                expected = 2.0
            else:
                expected = (naive_directed(boxes, a, b) + naive_directed(boxes, b, a)) / 2
            assert float(got[a, b]) == pytest.approx(expected, abs=1e-5)


def test_matching_distances_without_boxes() -> None:
    none = random_boxes(0, images=0)
    got = matching_distances(none.features, none.labels, none.values, none.image, num_images=3)
    assert got.tolist() == [[0.0] * 3] * 3
