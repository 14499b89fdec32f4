"""Nested subsets with equal shares of every class."""

import numpy as np
import pytest

from detal.errors import DataError
from detal.runs.nested import nested_subsets
from detal.structures import Annotations

QUARTERS = (0.25, 0.5, 0.75)


def annotations_of(labels: list[list[int]]) -> Annotations:
    return Annotations.from_lists(
        [np.tile([0.0, 0, 5, 5], (len(row), 1)) for row in labels],
        [np.array(row, dtype=np.int64) for row in labels],
    )


def test_nested_and_every_class_keeps_its_share(rng: np.random.Generator) -> None:
    """200 images of a long tail: 1 in 100 objects is of the last class."""
    chances = np.array([0.7, 0.2, 0.06, 0.03, 0.01])
    labels = [rng.choice(5, size=rng.integers(0, 7), p=chances).tolist() for _ in range(200)]
    truth = annotations_of(labels)
    subsets = nested_subsets(truth, QUARTERS, num_classes=5, rng=rng)
    total = truth.class_counts(5)
    for smaller, larger in zip(subsets, [*subsets[1:], np.arange(200)], strict=True):
        assert set(smaller) < set(larger)
    for share, rows in zip(QUARTERS, subsets, strict=True):
        assert abs(len(rows) - 200 * share) <= 8
        counts = truth.take(rows).class_counts(5)
        assert (np.abs(counts - share * total) <= np.maximum(1.5, 0.05 * total)).all()


def test_images_without_objects_are_dealt_out_too(rng: np.random.Generator) -> None:
    subsets = nested_subsets(annotations_of([[]] * 8), (0.25, 0.5), num_classes=0, rng=rng)
    assert [len(rows) for rows in subsets] == [2, 4]


def test_same_seed_same_subsets() -> None:
    truth = annotations_of([[i % 3] for i in range(40)])
    first, second = (
        nested_subsets(truth, QUARTERS, num_classes=3, rng=np.random.default_rng(7))
        for _ in range(2)
    )
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("images", "shares"),
    [
        pytest.param(0, (0.5,), id="none"),
        pytest.param(1, (0.5,), id="one"),
        pytest.param(3, QUARTERS, id="fewer-than-parts"),
    ],
)
def test_too_few_images(images: int, shares: tuple[float, ...], rng: np.random.Generator) -> None:
    with pytest.raises(DataError, match="must be different images"):
        nested_subsets(annotations_of([[0]] * images), shares, num_classes=1, rng=rng)
