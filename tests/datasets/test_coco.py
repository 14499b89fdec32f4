from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detal.datasets import open_dataset
from detal.datasets.coco import read_coco
from detal.errors import DataError
from tests.datasets.making import coco_box, coco_image, kinds, write_coco, write_image, write_text

CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 1, "name": "dog"}]


def test_ids_names_and_boxes_are_kept(tmp_path: Path) -> None:
    path = write_coco(
        tmp_path / "a.json",
        images=[coco_image(9), coco_image(4, file_name="b/ü x.jpg")],
        annotations=[
            coco_box(31, 4, [1, 2, 3, 4], area=5.5, iscrowd=1),
            coco_box(30, 9, [0, 0, 40, 30], category_id=7),
            coco_box(12, 4, [10.5, 0, 2, 2]),
        ],
        categories=CATEGORIES,
    )
    dataset = read_coco(path, images_root=tmp_path)
    assert dataset.image_ids.tolist() == ["9", "4"]
    assert dataset.integer_ids
    assert dataset.images["path"].to_list() == [
        str(tmp_path / "9.jpg"),
        str(tmp_path / "b" / "ü x.jpg"),
    ]
    assert dataset.class_names == ("dog", "cat")  # by id
    assert dataset.category_ids == (1, 7)
    truth = dataset.annotations
    assert truth is not None
    assert truth.offsets.tolist() == [0, 1, 3]
    assert truth.boxes.tolist() == [[0, 0, 40, 30], [1, 2, 4, 6], [10.5, 0, 12.5, 2]]
    assert truth.labels.tolist() == [1, 0, 0]
    assert truth.ids.tolist() == [30, 31, 12]
    assert truth.is_crowd.tolist() == [False, True, False]
    assert truth.areas.tolist() == [1200, 5.5, 4]
    assert kinds(dataset.problems) == {"images_not_found": 1}


@pytest.mark.parametrize(
    ("bbox", "expected", "kind", "severity"),
    [
        pytest.param([0, 0, 40, 30], [0, 0, 40, 30], None, None, id="whole_image"),
        pytest.param([-1, -1, 42, 32], [0, 0, 40, 30], None, None, id="rounding_overhang"),
        pytest.param([-1.5, 0, 5, 5], [0, 0, 3.5, 5], "box_outside", "warning", id="left"),
        pytest.param([38, 28, 9, 1], [38, 28, 40, 29], "box_outside", "warning", id="right"),
        pytest.param([40, 5, 3, 3], None, "box_outside", "error", id="beside"),
        pytest.param([-9, 5, 3, 3], None, "box_outside", "error", id="left_of"),
        pytest.param([3, 3, 0, 5], None, "zero_area_box", "error", id="no_width"),
        pytest.param([3, 3, 5, 0], None, "zero_area_box", "error", id="no_height"),
        pytest.param([30, 3, 1e-9, 5], None, "zero_area_box", "error", id="too_thin_for_float32"),
        pytest.param([3, 3, -2, 5], None, "invalid_box", "error", id="negative_width"),
        pytest.param([3, 3, float("nan"), 5], None, "invalid_box", "error", id="nan"),
        pytest.param([3, 3, float("inf"), 5], None, "invalid_box", "error", id="infinite"),
        pytest.param([3, 3, 1e300, 5], None, "invalid_box", "error", id="huge"),
        pytest.param([3, 3, 5], None, "invalid_box", "error", id="three_numbers"),
        pytest.param(["a", 3, 5, 5], None, "invalid_box", "error", id="text"),
        pytest.param(None, None, "invalid_box", "error", id="none"),
    ],
)
def test_only_sound_boxes_pass(
    bbox: Any, expected: Any, kind: str | None, severity: str | None, tmp_path: Path
) -> None:
    path = write_coco(
        tmp_path / "a.json",
        images=[coco_image(1)],
        annotations=[coco_box(5, 1, bbox), coco_box(6, 1, [1, 1, 2, 2])],
        categories=CATEGORIES,
    )
    write_image(tmp_path / "1.jpg")
    dataset = read_coco(path)
    assert dataset.annotations is not None
    assert dataset.annotations.boxes.tolist() == [*([expected] if expected else []), [1, 1, 3, 3]]
    assert [(p.kind, p.severity) for p in dataset.problems] == ([(kind, severity)] if kind else [])
    for problem in dataset.problems:
        assert problem.file == str(path)
        assert problem.where == "annotation 5"


def test_all_faults_are_reported_at_once(tmp_path: Path) -> None:
    path = write_coco(
        tmp_path / "a.json",
        images=[
            coco_image(1),
            coco_image(1, file_name="again.jpg"),
            {"id": 3},
            {"file_name": "no_id.jpg"},
            "no image",
            coco_image(6, file_name="1.jpg"),
        ],
        annotations=[
            coco_box(1, 1, [1, 1, 2, 2]),
            coco_box(1, 1, [2, 2, 2, 2]),
            coco_box(2, 99, [1, 1, 2, 2]),
            coco_box(3, 1, [1, 1, 2, 2], category_id=99),
            coco_box(4, 3, [1, 1, 2, 2]),
            17,
        ],
        categories=[*CATEGORIES, {"id": 1, "name": "twice"}, {"name": "no id"}],
    )
    write_image(tmp_path / "1.jpg")
    dataset = read_coco(path)
    assert kinds(dataset.problems) == {
        "duplicate_id": 3,  # an image, an annotation, a category
        "unreadable_annotation": 4,
        "duplicate_file": 1,
        "unknown_image": 2,  # 99, and the annotation that is no object
        "unknown_category": 1,
    }
    assert dataset.image_ids.tolist() == ["1", "6"]
    assert dataset.annotations is not None
    assert dataset.annotations.ids.tolist() == [1, 2]  # the second annotation 1 is renumbered
    assert {p.where for p in dataset.problems} >= {"images[1]", "annotation 2", "annotations[5]"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param('{"images": [}', "must be JSON: .* line 1, column 13", id="malformed"),
        pytest.param("[]", "looks like detection results", id="list"),
        pytest.param("3", "a list 'images'", id="number"),
        pytest.param('{"annotations": []}', "a list 'images'", id="no_images"),
        pytest.param('{"images": [], "annotations": {}}', "'annotations' must be", id="object"),
        pytest.param("", "must be JSON", id="empty"),
        pytest.param("[" * 200_000, "must be JSON", id="too_deep"),
        pytest.param(
            '{"images": ' + "9" * 5000 + "}", "must be JSON|a list 'images'", id="huge_number"
        ),
    ],
)
def test_what_is_no_coco_is_a_clear_error(text: str, message: str, tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.json", text)
    with pytest.raises(DataError, match=message) as info:
        read_coco(path)
    assert str(path) in str(info.value)


def test_file_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(DataError, match="is not UTF-8"):
        read_coco(tmp_path / "a.json")


def test_empty_dataset(tmp_path: Path) -> None:
    dataset = read_coco(write_coco(tmp_path / "a.json", images=[]))
    assert len(dataset) == 0
    assert dataset.annotations is None
    assert dataset.class_names == ()
    assert dataset.problems == ()


def test_no_annotations_and_none_of_them_differ(tmp_path: Path) -> None:
    unlabelled = read_coco(write_coco(tmp_path / "a.json", images=[coco_image(1)]))
    assert unlabelled.annotations is None
    empty = read_coco(write_coco(tmp_path / "b.json", images=[coco_image(1)], annotations=[]))
    assert empty.annotations is not None
    assert empty.annotations.offsets.tolist() == [0, 0]


def test_text_ids_and_mixed_ids(tmp_path: Path) -> None:
    path = write_coco(
        tmp_path / "a.json",
        images=[coco_image("17"), coco_image("b/c")],
        annotations=[coco_box(1, 17, [1, 1, 2, 2]), coco_box(2, "17", [1, 1, 2, 2])],
        categories=CATEGORIES,
    )
    dataset = read_coco(path)
    assert not dataset.integer_ids
    assert dataset.image_ids.tolist() == ["17", "b/c"]
    assert dataset.annotations is not None
    assert dataset.annotations.offsets.tolist() == [0, 2, 2]


def test_group_and_metadata_columns(tmp_path: Path) -> None:
    path = write_coco(
        tmp_path / "a.json",
        images=[
            coco_image(1, video_id=3, night=True, score=1.5, path="x", mixed=1, tags=["a"]),
            coco_image(2, sequence_id="s", video_id=4, mixed="one"),
            coco_image(3),
        ],
    )
    images = read_coco(path).images
    assert images["group"].to_list() == ["3", "s", None]
    assert images["night"].to_list() == [True, None, None]
    assert images["score"].to_list() == [1.5, None, None]
    assert images["mixed"].to_list() == ["1", "one", None]
    assert images["path_in_file"].to_list() == ["x", None, None]
    assert "tags" not in images.columns


@pytest.mark.parametrize(
    ("json_name", "image_name"),
    [
        pytest.param("a.json", "1.jpg", id="beside"),
        pytest.param("a.json", "images/1.jpg", id="images_below"),
        pytest.param("annotations/a.json", "1.jpg", id="above"),
        pytest.param("annotations/a.json", "images/1.jpg", id="images_above"),
        pytest.param("annotations/instances_train2017.json", "train2017/1.jpg", id="split"),
        pytest.param("annotations/instances_val.json", "images/val/1.jpg", id="images_split"),
    ],
)
def test_images_are_found(json_name: str, image_name: str, tmp_path: Path) -> None:
    image = write_image(tmp_path / image_name)
    dataset = read_coco(write_coco(tmp_path / json_name, images=[coco_image(1)]))
    assert dataset.images["path"].to_list() == [str(image)]
    assert dataset.problems == ()


def test_unknown_size_is_read_from_images_with_objects(tmp_path: Path) -> None:
    for number in (1, 2):
        write_image(tmp_path / f"{number}.png", width=8, height=6)
    images = [{"id": i, "file_name": f"{i}.png", "width": 0} for i in (1, 2, 3)]
    boxes = [coco_box(1, 1, [6, 0, 9, 3]), coco_box(2, 3, [6, 0, 9, 3])]
    path = write_coco(tmp_path / "a.json", images=images, annotations=boxes, categories=CATEGORIES)
    dataset = read_coco(path)
    assert dataset.images["width"].to_list() == [8, None, None]
    assert dataset.annotations is not None
    assert dataset.annotations.boxes.tolist() == [[6, 0, 8, 3], [6, 0, 15, 3]]
    assert kinds(dataset.problems) == {"missing_file": 1, "box_outside": 1}


def test_class_names_choose_and_order(tmp_path: Path) -> None:
    path = write_coco(
        tmp_path / "a.json",
        images=[coco_image(1)],
        annotations=[coco_box(1, 1, [1, 1, 2, 2]), coco_box(2, 1, [1, 1, 3, 3], category_id=7)],
        categories=CATEGORIES,
    )
    dataset = read_coco(path, class_names=["bird", "cat"])
    assert dataset.class_names == ("bird", "cat")
    assert dataset.category_ids == (8, 7)
    assert dataset.annotations is not None
    assert dataset.annotations.labels.tolist() == [1]
    excluded = [p for p in dataset.problems if p.kind == "excluded_category"]
    assert [p.message for p in excluded] == [
        "1 objects of class 'dog' are left out: it is not among the class names"
    ]
    with pytest.raises(DataError, match="class_names must be distinct, got 'cat' twice"):
        read_coco(path, class_names=["cat", "cat"])


def test_split_of_a_field_and_of_a_folder(tmp_path: Path) -> None:
    images = [coco_image(1, split="train"), coco_image(2, split="val")]
    boxes = [coco_box(i, i, [1, 1, 2, 2]) for i in (1, 2)]
    path = write_coco(tmp_path / "a.json", images=images, annotations=boxes, categories=CATEGORIES)
    chosen = read_coco(path, split="val")
    assert chosen.image_ids.tolist() == ["2"]
    assert "unknown_image" not in kinds(chosen.problems)
    with pytest.raises(DataError, match=r"unknown split 'vall': did you mean val?"):
        read_coco(path, split="vall")
    for name in ("train", "val"):
        write_coco(tmp_path / "d/annotations" / f"instances_{name}.json", images=[coco_image(name)])
    assert open_dataset(tmp_path / "d", split="val").image_ids.tolist() == ["val"]
    with pytest.raises(DataError, match="several COCO files"):
        open_dataset(tmp_path / "d")
    with pytest.raises(DataError, match="have no field 'split'"):
        read_coco(tmp_path / "d/annotations/instances_val.json", split="val")


def test_windows_separators_in_file_names(tmp_path: Path) -> None:
    image = write_image(tmp_path / "sub" / "1.jpg")
    path = write_coco(tmp_path / "a.json", images=[coco_image(1, file_name="sub\\1.jpg")])
    assert read_coco(path).images["path"].to_list() == [str(image)]


def test_garbage_collection_is_left_as_it_was(tmp_path: Path) -> None:
    write_text(tmp_path / "a.json", "{")
    with pytest.raises(DataError, match="must be JSON"):
        read_coco(tmp_path / "a.json")
    assert gc.isenabled()


def test_many_classes(tmp_path: Path) -> None:
    categories = [{"id": i, "name": f"c{i}"} for i in range(3000, 0, -1)]
    boxes = [coco_box(i, 1, [1, 1, 2, 2], category_id=i) for i in range(1, 3001)]
    path = write_coco(
        tmp_path / "a.json", images=[coco_image(1)], annotations=boxes, categories=categories
    )
    dataset = read_coco(path)
    assert dataset.annotations is not None
    assert dataset.annotations.labels.tolist() == list(range(3000))


def test_lone_surrogates_do_not_break_tables(tmp_path: Path) -> None:
    images = [coco_image(1, note="\ud800"), coco_image(2, file_name="\ud800.jpg")]
    dataset = read_coco(write_coco(tmp_path / "a.json", images=images))
    assert dataset.images["note"].to_list() == ["?"]
    assert kinds(dataset.problems)["unreadable_annotation"] == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
ENTRY = st.dictionaries(
    st.sampled_from(
        [
            *("id", "file_name", "width", "height", "image_id", "category_id", "bbox", "area"),
            *("iscrowd", "name", "supercategory", "group", "video_id", "path", "x"),
        ]
    ),
    st.integers(-1, 4) | st.lists(st.floats(-50, 50), min_size=4, max_size=4) | JSON,
)
ENTRIES = st.lists(ENTRY | JSON, max_size=6)


@settings(max_examples=100, deadline=None)
@given(
    document=st.fixed_dictionaries(
        {"images": ENTRIES, "annotations": ENTRIES, "categories": ENTRIES}
    )
)
def test_junk_never_crashes(document: Any, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("junk") / "a.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    dataset = read_coco(path)
    assert dataset.annotations is not None
    boxes = dataset.annotations.boxes
    assert np.isfinite(boxes).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert dataset.images["image_id"].null_count() == 0
    assert isinstance(dataset.images, pl.DataFrame)
