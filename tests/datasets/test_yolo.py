from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from detal.datasets import open_dataset
from detal.datasets.yolo import read_yolo
from detal.datasets.yolo_labels import label_path, parse_labels
from detal.errors import DataError
from tests.datasets.making import kinds, write_image, write_text


def make(root: Path, *names: str, label: str = "0 0.5 0.5 0.5 0.5\n") -> Path:
    """Images and their label files (40 x 30 pixels)."""
    for name in names:
        image = write_image(root / name)
        write_text(Path(label_path(str(image))), label)
    return root


def write_yaml(file: Path, /, **data: Any) -> Path:
    return write_text(file, yaml.safe_dump({"names": ["cat", "dog"], **data}))


def test_boxes_names_and_splits(tmp_path: Path) -> None:
    make(tmp_path, "images/train/b.jpg", label="1 0.5 0.5 0.5 0.5\n\n0 0.25 0.5 0.1 1\n")
    make(tmp_path, "images/val/ü a.jpg", label="")
    write_image(tmp_path / "images/val/no_label.jpg")
    file = write_yaml(tmp_path / "data.yaml", train="images/train", val="images/val", test=None)
    dataset = read_yolo(file)
    assert dataset.image_ids.tolist() == [
        "images/train/b.jpg",
        "images/val/no_label.jpg",
        "images/val/ü a.jpg",
    ]
    assert dataset.images["split"].to_list() == ["train", "val", "val"]
    assert dataset.class_names == ("cat", "dog")
    assert dataset.category_ids == (0, 1)
    truth = dataset.annotations
    assert truth is not None
    assert truth.offsets.tolist() == [0, 2, 2, 2]
    expected = np.array([[10, 7.5, 30, 22.5], [8, 0, 12, 30]])
    np.testing.assert_allclose(truth.boxes, expected, rtol=1e-6)
    assert truth.labels.tolist() == [1, 0]
    assert truth.ids.tolist() == [1, 2]
    assert dataset.images["width"].to_list() == [40, None, None]
    assert dataset.problems == ()
    assert len(read_yolo(file, split="val")) == 2


def in_yaml(**data: Any) -> Any:
    return lambda root: write_yaml(root / "data.yaml", **data)


def lists(root: Path) -> Path:
    write_text(root / "train.txt", "\ufeff./images/train/a.jpg\n\n")
    write_text(root / "lists/val.txt", f"{root}/images/val/a.jpg\n")
    return write_yaml(root / "data.yaml", train="train.txt", val=["lists/val.txt"])


FORMS: dict[str, Any] = {
    "no_path": in_yaml(train="images/train", val="images/val"),
    "path_is_dot": in_yaml(path=".", train="images/train", val="images/val"),
    "absolute_path": lambda r: write_yaml(
        r / "elsewhere/x.yaml", path=str(r), train="images/train", val="images/val"
    ),
    "relative_path": lambda r: write_yaml(
        r / "cfg/x.yaml", path="..", train="images/train", val="images/val"
    ),
    "lists_of_folders": in_yaml(train=["images/train"], val=["images/val", "images/val"]),
    "text_lists": lists,
    "one_folder_of_all": in_yaml(train="images", val="images"),
    "validation": in_yaml(train="images/train", validation="images/val"),
    "parent_that_is_not": in_yaml(train="../images/train", val="../images/val"),
    "names_dict": in_yaml(train="images/train", val="images/val", names={0: "cat", 1: "dog"}, nc=2),
    "names_text_keys": in_yaml(
        train="images/train", val="images/val", names={"1": "dog", "0": "cat"}, nc="2"
    ),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_all_forms_of_data_yaml(form: Any, tmp_path: Path) -> None:
    root = make(tmp_path / "set", "images/train/a.jpg", "images/val/a.jpg")
    dataset = open_dataset(form(root))
    assert dataset.image_ids.tolist() == ["images/train/a.jpg", "images/val/a.jpg"]
    assert dataset.class_names == ("cat", "dog")
    assert dataset.annotations is not None
    assert len(dataset.annotations.boxes) == 2
    assert set(kinds(dataset.problems)) <= {"duplicate_id", "shared_images"}


@pytest.mark.parametrize("stated", ["/no/such/place", "nowhere"])
def test_wrong_path_is_made_good_with_a_warning(stated: str, tmp_path: Path) -> None:
    make(tmp_path, "images/train/a.jpg")
    dataset = read_yolo(write_yaml(tmp_path / "data.yaml", path=stated, train="images/train"))
    assert dataset.image_ids.tolist() == ["images/train/a.jpg"]
    assert [(p.kind, p.severity) for p in dataset.problems] == [("dataset_root", "warning")]


def test_path_may_be_relative_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "set", "images/train/a.jpg")
    file = write_yaml(tmp_path / "cfg/data.yaml", path="set", train="images/train")
    monkeypatch.chdir(tmp_path)
    assert read_yolo(file).images["path"].to_list() == [str(tmp_path / "set/images/train/a.jpg")]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param({"train": 3}, "'train' must be a path", id="number"),
        pytest.param({"train": ["a", 3]}, "'train' must be a path", id="list_with_number"),
        pytest.param({}, "train, val or test", id="nothing"),
        pytest.param({"train": "no"}, "no image folder or list exists", id="missing_folder"),
        pytest.param({"train": "no", "path": "x"}, "'path' must hold the images", id="path"),
        pytest.param({"train": "images", "path": 3}, "'path' must be text", id="path_number"),
        pytest.param({"train": "images", "names": {1: "a"}}, "number the classes", id="gap"),
        pytest.param({"train": "images", "names": "cat"}, "'names' must be a list", id="names"),
        pytest.param({"train": "images", "nc": 3}, "'nc' must be the number", id="nc"),
        pytest.param({"train": "images", "names": None, "nc": "x"}, "'nc' must", id="bad_nc"),
    ],
)
def test_bad_yaml_is_a_clear_error(data: Any, message: str, tmp_path: Path) -> None:
    make(tmp_path, "images/a.jpg")
    with pytest.raises(DataError, match=message):
        read_yolo(write_yaml(tmp_path / "data.yaml", **data))


@pytest.mark.parametrize("text", ["a: [", "- 1", "!!python/object:os.system {}", "\x00"])
def test_what_is_no_yaml(text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must be YAML|must hold keys"):
        read_yolo(write_text(tmp_path / "data.yaml", text))


def test_missing_split(tmp_path: Path) -> None:
    make(tmp_path, "images/train/a.jpg")
    file = write_yaml(tmp_path / "data.yaml", train="images/train", test="images/test")
    assert kinds(read_yolo(file).problems) == {"missing_split": 1}
    with pytest.raises(DataError, match="no image folder or list exists"):
        read_yolo(file, split="test")
    with pytest.raises(DataError, match="unknown split 'tain': did you mean train"):
        read_yolo(file, split="tain")


@pytest.mark.parametrize(
    ("names", "split", "expected"),
    [
        pytest.param(["images/a.jpg"], None, ["images/a.jpg"], id="flat"),
        pytest.param(["images/val/a.jpg"], "val", ["images/val/a.jpg"], id="images_first"),
        pytest.param(["valid/images/a.jpg"], "val", ["valid/images/a.jpg"], id="split_first"),
    ],
)
def test_bare_folders(names: list[str], split: str | None, expected: Any, tmp_path: Path) -> None:
    make(tmp_path, *names, label="2 0.5 0.5 0.5 0.5")
    dataset = open_dataset(tmp_path, split=split)
    assert dataset.image_ids.tolist() == expected
    assert dataset.class_names == ("0", "1", "2")
    named = open_dataset(tmp_path, class_names=["a", "b", "c"])
    assert named.class_names == ("a", "b", "c")
    write_text(tmp_path / "classes.txt", "x\ny\nz\n")
    assert open_dataset(tmp_path).class_names == ("x", "y", "z")


def test_images_in_two_splits_are_reported_once(tmp_path: Path) -> None:
    make(tmp_path, "images/a.jpg", "images/b.jpg")
    dataset = read_yolo(write_yaml(tmp_path / "data.yaml", train="images", val="images"))
    assert dataset.images["split"].to_list() == ["train", "train"]
    (problem,) = dataset.problems
    assert (problem.kind, problem.where, problem.severity) == ("shared_images", "val", "warning")
    assert "2 are in an earlier one too" in problem.message


def test_pool_without_labels(tmp_path: Path) -> None:
    write_image(tmp_path / "images/a.jpg")
    dataset = read_yolo(write_yaml(tmp_path / "data.yaml", train="images"))
    assert dataset.annotations is None
    assert dataset.images["width"].to_list() == [None]


def test_class_names_choose_and_order(tmp_path: Path) -> None:
    make(tmp_path, "images/a.jpg", label="0 .5 .5 .5 .5\n1 .5 .5 .5 .5\n2 .5 .5 .5 .5")
    file = write_yaml(tmp_path / "data.yaml", train="images")
    dataset = read_yolo(file, class_names=["dog"])
    assert dataset.category_ids == (1,)
    assert dataset.annotations is not None
    assert dataset.annotations.labels.tolist() == [0]
    assert kinds(dataset.problems) == {"excluded_category": 1, "unknown_category": 1}


def test_rotated_image_uses_its_upright_size(tmp_path: Path) -> None:
    from PIL import Image

    tags = Image.Exif()
    tags[274] = 6
    (tmp_path / "images").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "images/a.jpg", exif=tags)
    write_text(tmp_path / "labels/a.txt", "0 0.5 0.5 1 1")
    dataset = read_yolo(tmp_path)
    assert dataset.annotations is not None
    assert dataset.annotations.boxes.tolist() == [[0, 0, 30, 40]]


def test_broken_image_keeps_its_row_and_loses_its_boxes(tmp_path: Path) -> None:
    make(tmp_path, "images/a.jpg", "images/b.jpg")
    (tmp_path / "images/a.jpg").write_bytes(b"broken")
    write_text(tmp_path / "train.txt", "images/a.jpg\nimages/b.jpg\nimages/gone.jpg\n")
    write_text(tmp_path / "labels/gone.txt", "0 .5 .5 .5 .5")
    dataset = read_yolo(write_yaml(tmp_path / "data.yaml", train="train.txt"))
    assert dataset.annotations is not None
    assert np.diff(dataset.annotations.offsets).tolist() == [0, 1, 0]
    assert [(p.kind, p.where) for p in dataset.problems] == [
        ("undecodable", "images/a.jpg"),
        ("missing_file", "images/gone.jpg"),
    ]


def test_label_file_that_is_no_text_costs_its_image(tmp_path: Path) -> None:
    make(tmp_path, "images/a.jpg", "images/b.jpg")
    (tmp_path / "labels/a.txt").write_bytes(b"\xff\xfe0")
    dataset = read_yolo(tmp_path)
    assert dataset.image_ids.tolist() == ["images/b.jpg"]
    assert [(p.kind, p.severity) for p in dataset.problems] == [("unreadable_annotation", "error")]


@pytest.mark.parametrize(
    ("line", "expected", "message"),
    [
        pytest.param("1 .5 .5 .2 .4", [1, 0.4, 0.3, 0.6, 0.7], None, id="box"),
        pytest.param("1.0 .5 .5 .2 .4", [1, 0.4, 0.3, 0.6, 0.7], None, id="class_as_float"),
        pytest.param("0 .1 .2 .5 .3 .2 .9", [0, 0.1, 0.2, 0.5, 0.9], None, id="polygon"),
        pytest.param("0 .1 .1 .9 .1 .9 .8 .1 .8", [0, 0.1, 0.1, 0.9, 0.8], None, id="rotated_box"),
        pytest.param("0 .5 .5 1.005 1", [0, -0.0025, 0, 1.0025, 1], None, id="within_tolerance"),
        pytest.param("0 .5 .5 .2", None, "4 values", id="four"),
        pytest.param("0 .5 .5 .2 .2 .9", None, "6 values", id="with_confidence"),
        pytest.param("0 .1 .1 .2 .2 .3 .3 .4", None, "8 values", id="odd_points"),
        pytest.param("cat .5 .5 .2 .2", None, "must hold numbers", id="name"),
        pytest.param("-1 .5 .5 .2 .2", None, "whole number", id="negative_class"),
        pytest.param("0.5 .5 .5 .2 .2", None, "whole number", id="half_class"),
        pytest.param("nan .5 .5 .2 .2", None, "whole number", id="nan_class"),
        pytest.param("1e99 .5 .5 .2 .2", None, "whole number", id="huge_class"),
        pytest.param("0 320 240 64 64", None, "fractions", id="pixels"),
        pytest.param("0 nan .5 .2 .2", None, "fractions", id="nan"),
        pytest.param("0 .5 .5 -.2 .2", None, "fractions", id="negative_width"),
    ],
)
def test_label_lines(line: str, expected: Any, message: str | None) -> None:
    labels = parse_labels(f"\n{line}\n", "x.txt")
    rows = np.column_stack([labels.classes, labels.boxes_xyxyn])
    np.testing.assert_allclose(rows, [expected] if expected else np.zeros((0, 5)))
    if message is None:
        assert labels.problems == ()
        assert labels.lines.tolist() == [2]
    else:
        (problem,) = labels.problems
        assert (problem.file, problem.where) == ("x.txt", "line 2")
        assert message in problem.message


def test_repeated_lines_are_left_out() -> None:
    labels = parse_labels("0 .5 .5 .1 .1\n1 .5 .5 .1 .1\n0 0.5 0.50 .1 .1", "x.txt")
    assert labels.lines.tolist() == [1, 2]
    assert [(p.kind, p.where) for p in labels.problems] == [("duplicate_box", "line 3")]


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("/d/images/a.jpg", "/d/labels/a.txt"),
        ("/images/x/images/train/a.b.jpeg", "/images/x/labels/train/a.b.txt"),
        ("/d/photos/a.jpg", "/d/photos/a.txt"),
    ],
)
def test_label_path_is_that_of_ultralytics(image: str, label: str, tmp_path: Path) -> None:
    os.environ.setdefault("YOLO_CONFIG_DIR", str(tmp_path))
    from ultralytics.data.utils import img2label_paths

    assert label_path(image) == label == img2label_paths([image])[0]


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(max_size=60)
    | st.lists(
        st.lists(st.floats().map(str) | st.integers(-2, 2).map(str), min_size=4, max_size=8),
        max_size=4,
    ).map(lambda rows: "\n".join(" ".join(row) for row in rows))
)
def test_any_text_gives_objects_or_problems(text: str) -> None:
    labels = parse_labels(text, "x.txt")
    assert len(labels.classes) == len(labels.boxes_xyxyn) == len(labels.lines)
    assert np.isfinite(labels.boxes_xyxyn).all()
    assert (labels.classes >= 0).all()
    lines = sum(bool(line.split()) for line in text.splitlines())
    assert len(labels.classes) + len(labels.problems) == lines
