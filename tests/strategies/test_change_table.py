"""Greedy on the output change table: what it needs, and how it uses it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from detal.errors import ConfigError, DataError
from detal.strategies import Candidates, make_strategy
from detal.strategies.change_table import _some_images
from detal.structures import Annotations, Budget, Detections
from tests.features.factories import detections_of
from tests.strategies.factories import pool_of, random_pool


def picks(pool: Candidates, amount: int = 1) -> tuple[str, ...]:
    strategy = make_strategy("change_greedy")
    return strategy.query(pool, budget=Budget(amount), rng=np.random.default_rng(0)).image_ids


def test_needs_a_reference_set_and_object_features() -> None:
    pool = random_pool(6)
    with pytest.raises(ConfigError, match=r"needs a reference set.*use curve_greedy"):
        picks(replace(pool, reference=None))
    assert pool.reference is not None
    blind = replace(pool.reference, detections=lambda: detections_of([[(0, 0.5)]] * 12))
    with pytest.raises(ConfigError, match=r"needs object features.*or curve_greedy"):
        picks(replace(pool, reference=blind))


def test_the_sixth_of_a_kind_waits_for_another_kind() -> None:
    """Alone, the other image promises least of all."""
    pool = pool_of([*[[(0, 0.5)]] * 6, [(1, 0.2)]], ids=[*"abcdef", "other"])
    strategy = make_strategy("change_greedy")
    selection = strategy.query(pool, budget=Budget(7), rng=np.random.default_rng(0))
    alone = strategy.query(
        pool.subset([0, 6]), budget=Budget(1), rng=np.random.default_rng(0)
    ).image_ids
    assert alone == ("a",)
    assert "other" in selection.image_ids[1:5]
    assert (np.diff(selection.scores) < 0).all()


def test_a_feature_that_is_not_a_number_is_refused_with_the_image_named() -> None:
    pool = pool_of([[(0, 0.5)], [(1, 0.5)]])
    index, seen = next(iter(pool.chunks()))
    assert seen.object_features is not None
    features = seen.object_features.clone()
    features[1] = torch.nan
    broken = replace(seen, object_features=features)
    with pytest.raises(DataError, match=r"must be finite \(image '001'; 1 of 2"):
        picks(replace(pool, chunks=lambda: iter([(index, broken)])))


@pytest.mark.parametrize(
    ("most", "images"),
    [
        pytest.param(6, 5, id="all"),
        pytest.param(4, 3, id="as-many-as-fit"),
        pytest.param(0, 1, id="at-least-one"),
    ],
)
def test_reference_images_are_drawn_where_there_are_too_many(
    most: int, images: int, rng: np.random.Generator
) -> None:
    """Six detections on five images, with an object on the last one only."""
    seen = detections_of([[(0, 0.5)], [(0, 0.5)], [(0, 0.5)], [(0, 0.5)], [(1, 0.5), (1, 0.4)]])
    boxes: list[np.ndarray] = [np.zeros((0, 4))] * 4 + [np.array([[0.0, 5, 10, 15]])]
    labels = [np.zeros(0, np.int64)] * 4 + [np.array([1])]
    truth = Annotations.from_lists(boxes, labels)
    kept, objects = _some_images(seen, truth, most=most, rng=rng)
    assert isinstance(kept, Detections)
    assert len(kept) == len(objects) == images
    assert objects.labels.tolist() == [1]
    assert kept.labels.tolist()[-2:] == [1, 1]
