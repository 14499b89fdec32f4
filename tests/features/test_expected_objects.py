"""Expected objects by image and class, by hand."""

import numpy as np
import pytest

from detal.features.expected_objects import Bundles, expected_objects
from tests.features.factories import detections_of

IMAGES = [[(0, 0.5), (0, 0.5), (1, 0.25)], [], [(2, 1.0)], [(1, 0.75), (1, 0.25)]]


def objects_of(images, **options) -> Bundles:
    detections = detections_of(images)
    chunks = [(np.arange(len(images)), detections)]
    return expected_objects(chunks, num_images=len(images), **options)


def test_expected_objects_are_summed_by_class() -> None:
    found = objects_of(IMAGES)
    assert found.offsets.tolist() == [0, 2, 2, 3, 4]
    assert found.labels.tolist() == [0, 1, 2, 1]
    assert found.amounts == pytest.approx([1.0, 0.25, 1.0, 1.0])


def test_what_is_sure_teaches_nothing_and_what_is_even_teaches_most() -> None:
    found = objects_of([[(0, 0.5)], [(0, 1.0)], [(0, 0.9)]], informativeness="entropy")
    assert found.amounts[:2] == pytest.approx([0.5, 0.0], abs=1e-6)
    entropy = -(0.9 * np.log2(0.9) + 0.1 * np.log2(0.1))
    assert found.amounts[2] == pytest.approx(0.9 * entropy)


def test_chunks_and_their_order_do_not_matter() -> None:
    detections = detections_of(IMAGES)
    whole = objects_of(IMAGES)
    index = np.array([2, 0, 3, 1])
    split = [(index[:1], detections.take([2])), (index[1:], detections.take([0, 3, 1]))]
    found = expected_objects(split, num_images=4)
    for name in ("offsets", "labels", "amounts"):
        assert getattr(found, name) == pytest.approx(getattr(whole, name))


def test_supply_and_rows() -> None:
    found = objects_of(IMAGES)
    assert found.supply(4) == pytest.approx([1.0, 1.25, 1.0, 0.0])
    rows, place = found.rows(np.array([3, 1, 0]))
    assert rows.tolist() == [3, 0, 1]
    assert place.tolist() == [0, 2, 2]


def test_no_image_at_all() -> None:
    found = objects_of([])
    assert len(found) == 0
    assert found.offsets.tolist() == [0]
