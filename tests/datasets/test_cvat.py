from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detal.boxes import invalid_boxes
from detal.datasets import Dataset
from detal.datasets.cvat import read_cvat
from detal.errors import DataError
from tests.datasets.making import cvat_shape, cvat_xml, kinds, write_image, write_text

BOX = cvat_shape("box", xtl=10, ytl=6, xbr=18, ybr=18)


def read(tmp_path: Path, *shapes: str, **options) -> Dataset:
    write_image(tmp_path / "a.jpg")
    return read_cvat(write_text(tmp_path / "a.xml", cvat_xml({"a.jpg": shapes})), **options)


@pytest.mark.parametrize(
    ("shape", "hull"),
    [
        pytest.param(
            cvat_shape("box", xtl=10, ytl=8, xbr=18, ybr=12, rotation=90),
            (12, 6, 16, 14),
            id="rotated-around-its-centre",
        ),
        pytest.param(
            cvat_shape("polygon", points="3.00,4.00;9.50,2.00;8.00,7.25"),
            (3, 2, 9.5, 7.25),
            id="polygon",
        ),
        pytest.param(cvat_shape("ellipse", cx=10, cy=9, rx=4, ry=2), (6, 7, 14, 11), id="ellipse"),
        pytest.param(
            cvat_shape("mask", rle="1", left=3, top=4, width=5, height=6), (3, 4, 8, 10), id="mask"
        ),
    ],
)
def test_hulls(tmp_path: Path, shape: str, hull: tuple[float, ...]) -> None:
    dataset = read(tmp_path, BOX, shape)
    assert dataset.annotations is not None
    expected = [(10, 6, 18, 18), hull]
    np.testing.assert_allclose(dataset.annotations.boxes, expected, atol=1e-4)
    (problem,) = dataset.problems
    assert (problem.kind, problem.severity) == ("shape_hull", "warning")
    assert problem.where.startswith("image a.jpg")
    assert problem.file.endswith("a.xml")


@pytest.mark.parametrize("tag", ["polyline", "points", "cuboid", "skeleton"])
def test_shapes_without_an_area_are_left_out(tmp_path: Path, tag: str) -> None:
    dataset = read(tmp_path, BOX, cvat_shape(tag, points="1,2;3,4"))
    assert dataset.annotations is not None
    assert len(dataset.annotations.boxes) == 1
    (problem,) = dataset.problems
    assert (problem.kind, problem.severity) == ("shape_left_out", "error")
    assert f"a {tag} is left out" in problem.message


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        pytest.param(cvat_shape("box", xtl=1, ytl=2, xbr="x", ybr=4), "invalid_box", id="text"),
        pytest.param(cvat_shape("box"), "invalid_box", id="nothing"),
        pytest.param(cvat_shape("polygon", points="1,2;3"), "invalid_box", id="half-a-point"),
        pytest.param(
            cvat_shape("box", xtl=1, ytl=2, xbr=3, ybr=4, rotation="x"), "invalid_box", id="turn"
        ),
        pytest.param(
            cvat_shape("box", label="", xtl=1, ytl=2, xbr=3, ybr=4), "unknown_category", id="label"
        ),
    ],
)
def test_broken_shapes_are_named(tmp_path: Path, shape: str, kind: str) -> None:
    dataset = read(tmp_path, shape, BOX)
    assert dataset.annotations is not None
    assert len(dataset.annotations.boxes) == 1
    assert kinds(dataset.problems) == {kind: 1}
    assert dataset.problems[0].where.startswith("image a.jpg")


def test_id_and_names_of_ours(tmp_path: Path) -> None:
    attribute = '<attribute name="detal_image_id">17</attribute>'
    tag = cvat_shape("tag", attribute, label="detal_selection")
    text = cvat_xml(
        {"a.jpg": [tag, BOX], "b.jpg": []}, labels=["owl", "detal_selection", "cat", "dog"]
    )
    dataset = read_cvat(write_text(tmp_path / "annotations.xml", text).parent)
    assert dataset.images["detal_image_id"].to_list() == ["17", None]
    assert dataset.class_names == ("owl", "cat", "dog")
    assert dataset.annotations is not None
    assert np.diff(dataset.annotations.offsets).tolist() == [1, 0]


def test_split_is_a_subset(tmp_path: Path) -> None:
    text = cvat_xml({"a.jpg": [BOX], "b.jpg": []})
    text = text.replace('name="b.jpg"', 'name="b.jpg" subset="val"')
    file = write_text(tmp_path / "a.xml", text)
    assert [Path(path).name for path in read_cvat(file, split="val").images["path"]] == ["b.jpg"]
    with pytest.raises(DataError, match="unknown split 'vale': did you mean val"):
        read_cvat(file, split="vale")


def test_images_without_name_or_twice(tmp_path: Path) -> None:
    text = cvat_xml({"a.jpg": [BOX], "": [], "b.jpg": []}).replace("b.jpg", "a.jpg")
    dataset = read_cvat(write_text(tmp_path / "a.xml", text))
    assert len(dataset) == 1
    found = kinds(dataset.problems)
    assert found == {"unreadable_annotation": 1, "duplicate_id": 1, "images_not_found": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("<annotations><track/></annotations>", "tracks of a video", id="video"),
        pytest.param("<annotation/>", "root element <annotations>, got <annotation>", id="voc"),
        pytest.param("<annotations><image", "must be XML", id="cut"),
        pytest.param(
            '<!DOCTYPE a [<!ENTITY b "boom">]><annotations>&b;</annotations>',
            "must not declare",
            id="entities",
        ),
        pytest.param(
            "<annotations>\0</annotations>", "must be UTF-8 text, got NUL bytes", id="utf-16"
        ),
    ],
)
def test_what_is_no_cvat_file(tmp_path: Path, text: str, message: str) -> None:
    file = write_text(tmp_path / "a.xml", text)
    with pytest.raises(DataError, match=message) as info:
        read_cvat(file)
    assert str(file) in str(info.value)


NUMBERS = st.sampled_from(["", "x", "inf", "-inf", "nan", "1e999", "-3", "2", "7.5", "40", "1e-9"])
FIELDS = ("xtl", "ytl", "xbr", "ybr", "rotation", "cx", "cy", "rx", "ry", "left", "top")
SHAPES = st.builds(
    lambda tag, fields: cvat_shape(tag, **fields),
    st.sampled_from(["box", "ellipse", "polygon", "mask", "tag"]),
    st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(FIELDS, NUMBERS),
            "points": st.lists(NUMBERS, max_size=4).map(lambda p: ";".join(f"{v},{v}" for v in p)),
        },
    ),
)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(shapes=st.lists(SHAPES, max_size=4))
def test_whatever_numbers_come_boxes_are_valid(tmp_path: Path, shapes: list[str]) -> None:
    found = read(tmp_path, *shapes).annotations
    assert found is not None
    assert not invalid_boxes(found.boxes).any()
