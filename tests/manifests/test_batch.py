from pathlib import Path

import pytest
import torch

from detal.errors import DataError
from detal.manifests import Batch
from tests.features.factories import detections_of
from tests.manifests.factories import batch_of, dataset_of, selection_of, write_image


def test_boxes_below_the_minimum_are_not_offered_but_expected(tmp_path: Path) -> None:
    dataset = dataset_of([write_image(tmp_path / "a.jpg"), write_image(tmp_path / "b.jpg")])
    batch = batch_of(dataset, [[(0, 0.9), (1, 0.25), (2, 0.2)], [(1, 0.1)]])
    assert batch.detections.counts.tolist() == [2, 0]
    assert batch.detections.labels.tolist() == [0, 1]
    assert batch.expected_boxes.tolist() == pytest.approx([1.35, 0.1])
    assert [(image.width, image.height) for image in batch.images] == [(64, 48)] * 2


def test_boxes_are_clipped_and_vanishing_ones_dropped(tmp_path: Path) -> None:
    dataset = dataset_of([write_image(tmp_path / "a.jpg")])
    detections = detections_of([[(0, 0.9), (1, 0.8)]])
    detections.boxes[:] = torch.tensor([[-5.0, 10, 200, 60], [70, 0, 90, 10]])
    batch = Batch.of(
        selection_of(["img0"]),
        dataset=dataset,
        detections=detections,
        class_names=("x", "y", "z"),
        category_ids=(1, 2, 3),
    )
    assert batch.detections.boxes.tolist() == [[0, 10, 64, 48]]


def test_order_follows_the_selection(tmp_path: Path) -> None:
    paths = [write_image(tmp_path / f"{name}.jpg") for name in "abc"]
    batch = batch_of(dataset_of(paths), [[(0, 0.9)], []], ids=["img2", "img0"])
    assert [Path(image.path).name for image in batch.images] == ["c.jpg", "a.jpg"]
    assert batch.detections.counts.tolist() == [1, 0]


def test_parts_must_fit(tmp_path: Path) -> None:
    dataset = dataset_of([write_image(tmp_path / "a.jpg")])
    with pytest.raises(DataError, match="those of the 1 selected images, got 2"):
        batch_of(dataset, [[], []])
    with pytest.raises(DataError, match=r"category id of its own, got \[1, 1, 2\]"):
        batch_of(dataset, [[]], category_ids=[1, 1, 2])
    with pytest.raises(DataError, match="no image with id 'other'"):
        batch_of(dataset, [[]], ids=["other"])


def test_missing_image_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such image file: .*gone\.jpg"):
        batch_of(dataset_of([tmp_path / "gone.jpg"]), [[]])
