from dataclasses import replace

import numpy as np
import pytest
import torch

from detal.errors import DataError
from detal.features import expected_boxes
from tests.strategies.factories import pool_of, random_pool, rechunked


def test_map_puts_each_chunk_in_its_place() -> None:
    pool = random_pool(30)
    expected = pool.expected_boxes
    assert np.array_equal(rechunked(pool, seed=4).map(expected_boxes), expected)


def test_map_refuses_infinity_for_images_with_detections_only() -> None:
    pool = pool_of([[(0, 0.5)], []])
    values = pool.map(lambda d: torch.where(d.counts == 0, torch.inf, 1.0))
    assert values.tolist() == [1.0, np.inf]
    with pytest.raises(DataError, match=r"NaN or infinity.*image '000'"):
        pool.map(lambda d: torch.where(d.counts > 0, torch.inf, 1.0))


@pytest.mark.parametrize("times", [0, 2])
def test_map_refuses_chunks_that_do_not_cover_the_pool_once(times: int) -> None:
    pool = pool_of([[(0, 0.5)], []])
    (index, detections), *_ = pool.chunks()
    part = (index[1:], detections.take([1]))
    broken = replace(
        pool, chunks=lambda: iter([(index[:1], detections.take([0])), *[part] * times])
    )
    with pytest.raises(DataError, match=r"once in the chunks \(image '001'; 1 of 2"):
        broken.map(expected_boxes)


def test_take_keeps_the_order_asked_for() -> None:
    pool = rechunked(random_pool(30), seed=2)
    index = [17, 3, 29, 0]
    assert np.allclose(expected_boxes(pool.take(index)), pool.expected_boxes[index])
    assert len(pool.take([])) == 0
    assert pool.take([]).num_classes == 3


def test_take_refuses_chunks_without_the_image() -> None:
    pool = pool_of([[(0, 0.5)], []])
    with pytest.raises(DataError, match="must hold the 1 images asked for"):
        replace(pool, chunks=lambda: iter([])).take([1])


@pytest.mark.parametrize(
    "ids", [pytest.param(["b", "a"], id="unsorted"), pytest.param(["a", "a"], id="twice")]
)
def test_ids_must_ascend(ids: list[str]) -> None:
    pool = pool_of([[], []])
    with pytest.raises(DataError, match="distinct and in ascending order"):
        replace(pool, image_ids=np.array(ids, dtype=object))


def test_parts_must_fit() -> None:
    pool = pool_of([[], []], features=np.ones((2, 3)), labeled=np.ones((1, 3)))
    with pytest.raises(DataError, match="groups must have 2 rows, got 1"):
        replace(pool, groups=np.array(["a"], dtype=object))
    with pytest.raises(DataError, match="of one length, got 4 and 3"):
        replace(pool, image_features=np.ones((2, 4), dtype=np.float32))
