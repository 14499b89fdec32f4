from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detal.datasets import open_dataset
from detal.datasets.voc import read_voc
from detal.errors import DataError
from tests.datasets.making import kinds, voc_xml, write_image, write_text


def devkit(root: Path, **xml_of: str) -> Path:
    """A dataset in the devkit's layout."""
    for name, xml in xml_of.items():
        write_image(root / "JPEGImages" / f"{name}.jpg")
        write_text(root / "Annotations" / f"{name}.xml", xml)
    return root


def test_devkit_layout(tmp_path: Path) -> None:
    root = devkit(
        tmp_path,
        b=voc_xml([("dog", (1, 2, 3, 4)), ("cat", ("5.5", "6", "40", "30"))]),
        a=voc_xml([("dog", (10, 10, 20, 20))], difficult=1),
    )
    write_image(root / "SegmentationClass" / "a.png")
    dataset = read_voc(root)
    assert dataset.image_ids.tolist() == ["JPEGImages/a.jpg", "JPEGImages/b.jpg"]
    assert not dataset.integer_ids
    assert dataset.class_names == ("cat", "dog")
    assert dataset.category_ids == (1, 2)
    assert dataset.images["width"].to_list() == [40, 40]
    truth = dataset.annotations
    assert truth is not None
    assert truth.boxes.tolist() == [[10, 10, 20, 20], [1, 2, 3, 4], [5.5, 6, 40, 30]]
    assert truth.labels.tolist() == [1, 1, 0]
    assert truth.is_crowd.tolist() == [True, False, False]
    assert truth.areas.tolist() == [100, 4, 34.5 * 24]
    assert truth.ids.tolist() == [1, 2, 3]
    assert dataset.problems == ()


def test_first_pixel_gives_the_devkits_own_counting(tmp_path: Path) -> None:
    root = devkit(tmp_path, a=voc_xml([("dog", (1, 1, 40, 30)), ("dog", (3, 3, 3, 3))]))
    devkit_truth = read_voc(root, first_pixel=1).annotations
    assert devkit_truth is not None
    assert devkit_truth.boxes.tolist() == [[0, 0, 40, 30], [2, 2, 3, 3]]
    plain = read_voc(root)
    assert plain.annotations is not None
    assert plain.annotations.boxes.tolist() == [[1, 1, 40, 30]]
    assert kinds(plain.problems) == {"zero_area_box": 1}


@pytest.mark.parametrize(
    ("image", "xml"),
    [
        pytest.param("a.jpg", "a.xml", id="side_by_side"),
        pytest.param("images/a.jpg", "annotations/a.xml", id="apart"),
        pytest.param("images/x/a.jpg", "annotations/x/a.xml", id="apart_nested"),
        pytest.param("photos here/ü.jpg", "xml/ü.xml", id="odd_names"),
        pytest.param("images/a.jpg", "labels/other.xml", id="by_stated_filename"),
    ],
)
def test_other_layouts(image: str, xml: str, tmp_path: Path) -> None:
    write_image(tmp_path / image)
    stated = Path(image).name if "other" in xml else "wrong.jpg"
    write_text(tmp_path / xml, voc_xml([("dog", (1, 2, 3, 4))], filename=stated))
    dataset = open_dataset(tmp_path)
    assert dataset.image_ids.tolist() == [image]
    assert dataset.annotations is not None
    assert dataset.annotations.boxes.tolist() == [[1, 2, 3, 4]]
    assert dataset.problems == ()


def test_same_name_in_two_folders_is_matched_by_place(tmp_path: Path) -> None:
    for place, x in (("train", 1), ("valid", 2)):
        write_image(tmp_path / place / "a.jpg")
        write_text(tmp_path / place / "a.xml", voc_xml([("dog", (x, x, 9, 9))]))
    dataset = read_voc(tmp_path)
    assert dataset.annotations is not None
    assert dataset.image_ids.tolist() == ["train/a.jpg", "valid/a.jpg"]
    assert dataset.annotations.boxes[:, 0].tolist() == [1, 2]
    chosen = read_voc(tmp_path, split="valid")
    assert chosen.image_ids.tolist() == ["valid/a.jpg"]


def test_splits_are_lists_and_class_names_those_of_all(tmp_path: Path) -> None:
    root = devkit(
        tmp_path / "kit/VOC2007",
        a=voc_xml([("dog", (1, 1, 9, 9))]),
        b=voc_xml([("cat", (1, 1, 9, 9))]),
    )
    write_text(root / "ImageSets/Main/train.txt", "b\nmissing\n")
    write_text(root / "ImageSets/Main/dog_train.txt", "a  1\nb -1\n")
    dataset = open_dataset(tmp_path / "kit", split="train")
    assert dataset.image_ids.tolist() == ["JPEGImages/b.jpg"]
    assert dataset.class_names == ("cat", "dog")
    (problem,) = dataset.problems
    assert (problem.kind, problem.where) == ("missing_file", "train.txt line 2")
    assert read_voc(root, split="dog_train").image_ids.tolist() == ["JPEGImages/a.jpg"]
    with pytest.raises(DataError, match="unknown split 'trian': did you mean train"):
        read_voc(root, split="trian")


def test_class_names_given(tmp_path: Path) -> None:
    boxes = [("dog", (1, 1, 9, 9)), ("cat", (2, 2, 9, 9)), ("", (2, 2, 9, 9))]
    root = devkit(tmp_path, a=voc_xml(boxes))
    dataset = read_voc(root, class_names=["zebra", "cat"])
    assert dataset.class_names == ("zebra", "cat")
    assert dataset.category_ids == (1, 2)
    assert dataset.annotations is not None
    assert dataset.annotations.labels.tolist() == [1]
    assert kinds(dataset.problems) == {"excluded_category": 1, "unknown_category": 1}


def test_missing_partners_are_reported(tmp_path: Path) -> None:
    root = devkit(tmp_path, a=voc_xml())
    write_image(root / "JPEGImages/lonely.jpg")
    write_text(root / "Annotations/orphan.xml", voc_xml([("dog", (1, 1, 9, 9))]))
    dataset = read_voc(root)
    assert dataset.image_ids.tolist() == ["JPEGImages/a.jpg", "JPEGImages/lonely.jpg"]
    found = {(p.kind, Path(p.file).name, p.severity) for p in dataset.problems}
    assert found == {
        ("missing_file", "orphan.xml", "error"),
        ("missing_annotation", "lonely.jpg", "warning"),
    }


def test_images_without_any_xml_are_a_pool(tmp_path: Path) -> None:
    write_image(tmp_path / "JPEGImages/a.jpg")
    dataset = read_voc(tmp_path)
    assert dataset.annotations is None
    assert dataset.problems == ()


@pytest.mark.parametrize("size", [None, (0, 0), ("", ""), ("x", 3)], ids=str)
def test_unknown_sizes_are_read_from_the_image(size: Any, tmp_path: Path) -> None:
    root = devkit(tmp_path, a=voc_xml([("dog", (30, 1, 60, 9))], size=size), b=voc_xml(size=size))
    dataset = read_voc(root)
    assert dataset.images["width"].to_list() == [40, None]
    assert dataset.annotations is not None
    assert dataset.annotations.boxes.tolist() == [[30, 1, 40, 9]]


BOMB = '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><annotation>&c;</annotation>'


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        pytest.param(BOMB.encode(), "document type or entities", id="entities"),
        pytest.param(BOMB.lower().encode(), "document type or entities", id="lower_case"),
        pytest.param(BOMB.encode("utf-16"), "NUL bytes", id="entities_in_utf16"),
        pytest.param(b"<annotation><object>", "must be XML", id="malformed"),
        pytest.param(b"", "must be XML", id="empty"),
        pytest.param(b"<annotations/>", "root element <annotation>", id="cvat"),
        pytest.param(b"<?xml version='1.0' encoding='no-such'?><annotation/>", "XML", id="code"),
    ],
)
def test_unreadable_xml_costs_one_image(xml: bytes, message: str, tmp_path: Path) -> None:
    root = devkit(tmp_path, a=voc_xml([("dog", (1, 1, 9, 9))]), b="")
    (root / "Annotations/b.xml").write_bytes(xml)
    dataset = read_voc(root)
    assert dataset.image_ids.tolist() == ["JPEGImages/a.jpg"]
    (problem,) = dataset.problems
    assert problem.kind == "unreadable_annotation"
    assert problem.file == str(root / "Annotations/b.xml")
    assert message in problem.message


@pytest.mark.parametrize(
    ("corners", "kind"),
    [
        pytest.param((9, 1, 3, 9), "invalid_box", id="swapped"),
        pytest.param(("", 1, 3, 9), "invalid_box", id="empty"),
        pytest.param(("nan", 1, 3, 9), "invalid_box", id="nan"),
        pytest.param((3, 1, 3, 9), "zero_area_box", id="flat"),
        pytest.param((50, 1, 60, 9), "box_outside", id="outside"),
    ],
)
def test_bad_boxes_are_left_out(corners: Any, kind: str, tmp_path: Path) -> None:
    root = devkit(tmp_path, a=voc_xml([("dog", (1, 1, 9, 9)), ("dog", corners)]))
    dataset = read_voc(root)
    assert dataset.annotations is not None
    assert len(dataset.annotations.boxes) == 1
    assert [(p.kind, p.where) for p in dataset.problems] == [(kind, "object 2")]


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must be a folder"):
        read_voc(write_text(tmp_path / "a.xml", voc_xml()))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="found neither"):
        read_voc(tmp_path / "empty")
    for year in ("VOC2007", "VOC2012"):
        devkit(tmp_path / "kit" / year, a=voc_xml())
    with pytest.raises(DataError, match=r"several VOC datasets.*VOC2007, VOC2012"):
        read_voc(tmp_path / "kit")
    with pytest.raises(DataError, match=r"must be a list ImageSets/Main/x.txt or a folder"):
        read_voc(tmp_path / "kit/VOC2007", split="x")


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
CORNER = st.integers(-5, 50) | st.floats() | TEXT.filter(lambda t: "<" not in t and "&" not in t)


@settings(max_examples=100, deadline=None)
@given(
    junk=st.binary(max_size=60) | TEXT.map(lambda t: f"<annotation>{t}</annotation>".encode()),
    corners=st.lists(st.tuples(*[CORNER] * 4), max_size=3),
)
def test_junk_never_crashes(junk: bytes, corners: Any, tmp_path_factory: Any) -> None:
    root = tmp_path_factory.mktemp("junk")
    for name in ("a", "b"):
        (root / f"{name}.jpg").touch()
    (root / "a.xml").write_bytes(junk)
    write_text(root / "b.xml", voc_xml([("dog", c) for c in corners]))
    dataset = read_voc(root)
    if dataset.annotations is not None:
        boxes = dataset.annotations.boxes
        assert np.isfinite(boxes).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
