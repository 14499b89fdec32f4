"""The readers on real datasets; figures are those of their documentation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from detal.datasets import Dataset, check_dataset, open_dataset
from tests.datasets.making import kinds, write_text


def boxes_of(dataset: Dataset) -> int:
    assert dataset.annotations is not None
    return len(dataset.annotations.boxes)


def test_aquarium(shared_data: Path) -> None:
    dataset = open_dataset(shared_data / "aquarium" / "data.yaml")
    assert len(dataset) == 638
    assert boxes_of(dataset) == 4817 - 2
    flat = [p for p in dataset.problems if p.kind == "zero_area_box"]
    assert [Path(p.file).name[:8] for p in flat] == ["IMG_2423", "IMG_2570"]
    assert len(flat) == len(dataset.problems)
    assert dataset.annotations is not None
    assert dataset.class_names[:5] == ("fish", "jellyfish", "penguin", "puffin", "shark")
    # Of 354 sharks two have no area.
    assert dataset.annotations.class_counts(7).tolist() == [2669, 694, 516, 284, 352, 116, 184]
    empty = np.flatnonzero(np.diff(dataset.annotations.offsets) == 0)
    (background,) = dataset.image_ids[empty]
    assert "IMG_3133" in background
    splits = dataset.images["split"].value_counts(sort=True).rows()
    assert splits == [("train", 448), ("val", 127), ("test", 63)]


def test_aquarium_agrees_with_ultralytics(shared_data: Path) -> None:
    """Boxes of the validation split, image by image, as its own label parser gives them."""
    from ultralytics.data.utils import verify_image_label

    dataset = open_dataset(shared_data / "aquarium", split="val")
    assert dataset.annotations is not None
    for row, path in enumerate(dataset.images["path"].to_list()[:40]):
        label = path.replace("/images/", "/labels/").replace(".jpg", ".txt")
        asked = (path, label, "", False, 7, 0, 0, False)
        try:
            _, rows, (height, width), *_ = verify_image_label(asked)
        except ValueError:  # older versions know one value less
            _, rows, (height, width), *_ = verify_image_label(asked[:-1])
        truth = dataset.annotations.take([row])
        center = (truth.boxes[:, :2] + truth.boxes[:, 2:]) / 2 / [width, height]
        size = (truth.boxes[:, 2:] - truth.boxes[:, :2]) / [width, height]
        ours = np.column_stack([truth.labels, center, size])
        order, theirs = np.lexsort(ours.round(4).T), rows[np.lexsort(rows.round(4).T)]
        np.testing.assert_allclose(ours[order], theirs, atol=2 / min(width, height))


@pytest.mark.parametrize(
    ("split", "images"), [("train", 205), ("val", 87), ("test", 72), (None, 364)]
)
def test_bccd(split: str | None, images: int, shared_data: Path) -> None:
    dataset = open_dataset(shared_data / "bccd", split=split)
    assert len(dataset) == images
    assert dataset.class_names == ("Platelets", "RBC", "WBC")
    flat = {Path(p.file).stem for p in dataset.problems}
    expected = {"train": {"00343"}, "val": {"00338"}, "test": set(), None: {"00338", "00343"}}
    assert flat == {f"BloodImage_{number}" for number in expected[split]}
    assert set(kinds(dataset.problems)) <= {"zero_area_box"}
    if split is None:
        assert boxes_of(dataset) == 4888 - 2


def test_coco125(shared_data: Path) -> None:
    dataset = open_dataset(shared_data / "coco125")
    assert (len(dataset), boxes_of(dataset)) == (125, 1143)
    assert dataset.integer_ids
    assert dataset.image_ids[0] == "790"
    assert (len(dataset.class_names), dataset.category_ids[-1]) == (80, 90)
    assert dataset.annotations is not None
    assert dataset.annotations.is_crowd.sum() == 14
    assert (np.diff(dataset.annotations.offsets) == 0).sum() == 2
    assert check_dataset(dataset) == ()


def test_coco125_agrees_with_pycocotools(shared_data: Path) -> None:
    from pycocotools.coco import COCO

    path = shared_data / "coco125" / "instances.json"
    dataset, oracle = open_dataset(path), COCO(str(path))
    assert dataset.annotations is not None
    for row, image_id in enumerate(dataset.image_ids):
        truth = dataset.annotations.take([row])
        theirs = oracle.loadAnns(oracle.getAnnIds(imgIds=[int(image_id)]))
        assert truth.ids.tolist() == [a["id"] for a in theirs]
        categories = [dataset.category_ids[label] for label in truth.labels]
        assert categories == [a["category_id"] for a in theirs]
        expected = np.array([a["bbox"] for a in theirs]).reshape(-1, 4)
        expected[:, 2:] += expected[:, :2]
        np.testing.assert_allclose(truth.boxes, expected, atol=1.01)  # clipped by up to a pixel
        assert truth.areas.tolist() == [a["area"] for a in theirs]


def test_raccoon(shared_data: Path) -> None:
    dataset = open_dataset(shared_data / "raccoon")
    assert (len(dataset), boxes_of(dataset)) == (200, 217)
    assert dataset.class_names == ("raccoon",)
    problems = check_dataset(dataset)
    assert kinds(problems) == {"duplicate_content": 4}


def test_same_boxes_from_every_format(shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "voc100_formats" / "database"
    photos, truth = root / "images", root / "gts"
    names = (truth / "yolo_format" / "obj.names").read_text().split()
    (tmp_path / "images").symlink_to(photos)
    (tmp_path / "labels").symlink_to(truth / "yolo_format" / "obj_train_data")
    yaml = write_text(tmp_path / "data.yaml", f"train: images\nnames: {names}\n")
    datasets = [
        open_dataset(truth / "pascalvoc_format", images_root=photos),
        open_dataset(truth / "imagenet_format", images_root=photos),
        open_dataset(truth / "coco_format_v1" / "instances_default.json", images_root=photos),
        open_dataset(truth / "coco_format_v2" / "instances_v2.json", images_root=photos),
        open_dataset(truth / "cvat_format" / "annotations.xml", images_root=photos),
        open_dataset(yaml),
    ]
    tables = [_table(dataset) for dataset in datasets]
    assert len(tables[0]) == 273
    for table in tables[1:]:
        assert [row[:2] for row in table] == [row[:2] for row in tables[0]]
        np.testing.assert_allclose(_corners(table), _corners(tables[0]), atol=0.01)
    assert all(dataset.problems == () for dataset in datasets)


def _table(dataset: Dataset) -> list[tuple[object, ...]]:
    """Image name, class and corners of each object, sorted."""
    truth = dataset.annotations
    assert truth is not None
    stems = [Path(path).stem for path in dataset.images["path"]]
    return sorted(
        (stems[image], dataset.class_names[label], *(round(v, 2) for v in box))
        for image, label, box in zip(
            truth.image_index, truth.labels, truth.boxes.tolist(), strict=True
        )
    )


def _corners(table: list[tuple[object, ...]]) -> NDArray[np.float64]:
    return np.array([row[2:] for row in table], dtype=np.float64)


@pytest.mark.parametrize(("split", "images"), [("train", 100), ("val", 14), ("test", 58)])
def test_openimages_dirt(split: str, images: int, shared_data: Path) -> None:
    root = shared_data / "openimages5_dirty"
    dataset = open_dataset(root / "annotations" / f"instances_{split}2017.json")
    assert len(dataset) == images
    assert dataset.category_ids == (0, 1, 2, 3, 4, 5)
    (phantom,) = check_dataset(dataset)
    assert (phantom.kind, phantom.where) == ("phantom_category", "category 0")


def test_openimages_names_that_match_no_file(shared_data: Path) -> None:
    root = shared_data / "openimages5_dirty"
    file = root / "annotations_original" / "instances_train2017.json"
    dataset = open_dataset(file, images_root=root / "train2017")
    found = kinds(check_dataset(dataset))
    assert found.pop("missing_file") == 600
    assert found == {"images_not_found": 1, "phantom_category": 1}
