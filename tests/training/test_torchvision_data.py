import numpy as np
import pytest
import torch

from detal.errors import DataError
from detal.training.torchvision_data import TorchvisionDataset, collate, training_transform


def test_items_are_what_torchvision_trains_on(boxes_dataset):
    source = TorchvisionDataset(boxes_dataset)
    image, target = source[0]
    truth = boxes_dataset.annotations.take([0])
    assert (image.shape, image.dtype) == ((3, 64, 64), torch.float32)
    assert 0 <= image.min() < image.max() <= 1
    assert target["boxes"].tolist() == truth.boxes.tolist()
    assert target["labels"].tolist() == (truth.labels + 1).tolist()
    assert target["area"].tolist() == truth.areas.tolist()
    assert target["iscrowd"].tolist() == [0] * len(truth.labels)
    assert target["image_id"].item() == 0
    assert {name: value.dtype for name, value in target.items()} == {
        "boxes": torch.float32,
        "labels": torch.int64,
        "image_id": torch.int64,
        "area": torch.float32,
        "iscrowd": torch.int64,
    }
    assert all(type(value) is torch.Tensor for value in target.values())


def test_pixels_are_rgb_and_boxes_lie_on_their_squares(boxes_dataset):
    image, target = TorchvisionDataset(boxes_dataset)[0]
    for box, label in zip(target["boxes"].int().tolist(), target["labels"].tolist(), strict=True):
        red, green, blue = image[:, box[1] : box[3], box[0] : box[2]].flatten(1).median(1).values
        assert (blue > 0.9 > red) if label == 2 else (green > 0.9 > red)


def test_an_image_without_objects_has_empty_targets_also_after_augmentation(boxes_dataset):
    for transform in (None, training_transform()):
        _, target = TorchvisionDataset(boxes_dataset, transform=transform)[3]
        assert target["boxes"].shape == (0, 4)
        assert target["labels"].shape == target["area"].shape == target["iscrowd"].shape == (0,)


def test_mirror_image_moves_boxes_with_the_pixels(boxes_dataset):
    flip = training_transform(flip=1.0, scale=(1.0, 1.0), translate=0.0, colour=0.0)
    plain, before = TorchvisionDataset(boxes_dataset)[0]
    mirrored, after = TorchvisionDataset(boxes_dataset, transform=flip)[0]
    assert torch.equal(mirrored, plain.flip(2))
    x1, y1, x2, y2 = before["boxes"].T
    assert torch.equal(after["boxes"], torch.stack([64 - x2, y1, 64 - x1, y2], dim=1))


def test_augmented_boxes_stay_inside_and_columns_stay_together(boxes_dataset):
    source = TorchvisionDataset(boxes_dataset, transform=training_transform(scale=(0.3, 3.0)))
    sizes = set()
    for index in [0, 1, 2] * 8:
        image, target = source[index]
        boxes = target["boxes"]
        assert image.shape == (3, 64, 64)
        assert (boxes >= 0).all()
        assert (boxes <= 64).all()
        assert (boxes[:, 2:] - boxes[:, :2] >= 2).all()
        assert len(boxes) == len(target["labels"]) == len(target["area"]) == len(target["iscrowd"])
        assert torch.allclose(target["area"], (boxes[:, 2:] - boxes[:, :2]).prod(1))
        sizes.update(target["area"].round().tolist())
    assert len(sizes) > 10


def test_indices_run_from_the_end_and_end(boxes_dataset):
    source = TorchvisionDataset(boxes_dataset)
    assert len(source) == 8
    assert source[-1][1]["image_id"].item() == 7
    with pytest.raises(IndexError):
        source[8]
    images, targets = collate([source[0], source[3]])
    assert (len(images), len(targets)) == (2, 2)


def test_a_pool_without_annotations_is_refused(boxes_dataset):
    bare = boxes_dataset.take(np.arange(2))
    object.__setattr__(bare, "annotations", None)
    with pytest.raises(DataError, match="squares must have annotations"):
        TorchvisionDataset(bare)
