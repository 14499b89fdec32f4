import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detal.boxes import invalid_boxes
from detal.datasets import Dataset
from detal.datasets.label_studio import read_label_studio
from detal.datasets.label_studio_tasks import local_path
from detal.errors import DataError
from tests.datasets.making import (
    kinds,
    ls_annotation,
    ls_box,
    ls_region,
    ls_task,
    write_image,
    write_text,
)

SMALL = ls_box(percent=(0, 0, 10, 10))
LARGE = ls_box(percent=(0, 0, 50, 50))


def read(tmp_path: Path, *tasks: Any, **options: Any) -> Dataset:
    return read_label_studio(write_text(tmp_path / "a.json", json.dumps(tasks)), **options)


def boxes(dataset: Dataset) -> list[list[float]]:
    assert dataset.annotations is not None
    found: list[list[float]] = dataset.annotations.boxes.astype(float).round(3).tolist()
    return found


@pytest.mark.parametrize(
    ("region", "hull"),
    [
        pytest.param(
            ls_region("rectangle", {"x": 50, "y": 50, "width": 10, "height": 20, "rotation": 90}),
            [14, 15, 20, 19],
            id="rotated-around-its-corner-in-pixels",
        ),
        pytest.param(
            ls_region("polygon", {"points": [[10, 10], [50, 20], [25, 90]]}),
            [4, 3, 20, 27],
            id="polygon",
        ),
        pytest.param(
            ls_region("ellipse", {"x": 50, "y": 50, "radiusX": 10, "radiusY": 20}),
            [16, 9, 24, 21],
            id="ellipse",
        ),
    ],
)
def test_hulls(tmp_path: Path, region: dict[str, Any], hull: list[float]) -> None:
    dataset = read(tmp_path, ls_task(3, [region, ls_box()]))
    assert boxes(dataset) == [hull, [10, 6, 18, 18]]
    (problem,) = dataset.problems
    assert (problem.kind, problem.severity) == ("shape_hull", "warning")
    assert problem.where == "task 3, region r1"


@pytest.mark.parametrize("shape", ["brush", "keypoint", "bitmask", "vector"])
def test_shapes_without_corners_are_left_out(tmp_path: Path, shape: str) -> None:
    dataset = read(tmp_path, ls_task(3, [ls_region(shape, {"x": 1, "y": 2}), ls_box()]))
    assert boxes(dataset) == [[10, 6, 18, 18]]
    (problem,) = dataset.problems
    assert (problem.kind, problem.severity) == ("shape_left_out", "error")
    assert f"a {shape} is left out" in problem.message


def test_box_on_a_turned_image_is_not_guessed(tmp_path: Path) -> None:
    dataset = read(tmp_path, ls_task(3, [ls_box(image_rotation=90)]))
    assert boxes(dataset) == []
    assert "image_rotation is 90" in dataset.problems[0].message


def test_other_results_are_no_objects(tmp_path: Path) -> None:
    results = [
        {"type": "choices", "value": {"choices": ["blurred"]}},
        {"type": "rating", "value": {"rating": 4}},
        {"type": "relation", "from_id": "a", "to_id": "b"},
        ls_box(),
    ]
    dataset = read(tmp_path, ls_task(1, results))
    assert boxes(dataset) == [[10, 6, 18, 18]]
    assert dataset.problems == ()


def test_labels_of_their_own_and_several_labels(tmp_path: Path) -> None:
    plain = {**ls_box(), "type": "rectangle"}
    del plain["value"]["rectanglelabels"]
    named = {"id": "r1", "type": "labels", "value": {"labels": ["dog", "owl"]}}
    dataset = read(tmp_path, ls_task(1, [plain, named]))
    assert boxes(dataset) == [[10, 6, 18, 18]]
    assert dataset.class_names == ("dog",)
    assert [problem.message for problem in dataset.problems] == [
        "an object has 2 labels, 'dog' counts"
    ]


class TestWhichAnnotationCounts:
    @pytest.mark.parametrize(
        ("annotations", "expected"),
        [
            pytest.param([ls_annotation([LARGE], 2), ls_annotation([SMALL], 1)], LARGE, id="newer"),
            pytest.param(
                [ls_annotation([LARGE], 2), ls_annotation([SMALL], 1, ground_truth=True)],
                SMALL,
                id="ground-truth",
            ),
            pytest.param(
                [ls_annotation([LARGE], 1), ls_annotation([], 2, was_cancelled=True)],
                LARGE,
                id="cancelled",
            ),
            pytest.param(
                [
                    ls_annotation([LARGE], 1, updated_at="2026-11-28T12:00:00+01:00"),
                    ls_annotation([SMALL], 2, updated_at="2026-11-28T11:30:00Z"),
                ],
                SMALL,
                id="time-zones",
            ),
            pytest.param(
                [
                    ls_annotation([LARGE], 1, updated_at="yesterday"),
                    ls_annotation([SMALL], 2, updated_at=None, created_at=None),
                ],
                SMALL,
                id="unreadable-times-by-id",
            ),
        ],
    )
    def test_of_one_task(self, tmp_path: Path, annotations: list[Any], expected: Any) -> None:
        task = {**ls_task(1), "annotations": annotations}
        side = 40 * expected["value"]["width"] / 100
        assert boxes(read(tmp_path, task))[0][2] == side

    def test_several_annotators_are_told_and_may_be_refused(self, tmp_path: Path) -> None:
        by = [{"id": 1, "email": "a@example.com"}, 2]
        annotations = [ls_annotation([SMALL], n + 1, completed_by=who) for n, who in enumerate(by)]
        task = {**ls_task(1), "annotations": annotations}
        (problem,) = read(tmp_path, task).problems
        assert problem.message == (
            "an image needs one annotation, it has 2 (by a@example.com, 2); "
            "the newest, by 2, counts"
        )
        refused = read(tmp_path, task, several="refuse")
        assert len(refused) == 0
        assert kinds(refused.problems) == {"several_annotations": 1}
        assert refused.problems[0].severity == "error"

    def test_an_image_in_two_tasks_counts_once(self, tmp_path: Path) -> None:
        old = ls_task(1, [LARGE], image="/x/a.jpg", detal_image_id="7")
        new = ls_task(2, image="https://host/a.jpg", detal_image_id=7)
        new["annotations"] = [ls_annotation([SMALL], 5)]
        dataset = read(tmp_path, new, old)
        assert dataset.image_ids.tolist() == ["7"]
        assert boxes(dataset) == [[0, 0, 4, 3]]

    @pytest.mark.parametrize(
        ("task", "why"),
        [
            pytest.param(ls_task(1), "none was submitted", id="untouched"),
            pytest.param({**ls_task(1), "predictions": [{"result": [SMALL]}]}, "none", id="ours"),
            pytest.param({**ls_task(1), "drafts": [{"result": [SMALL]}]}, "a draft", id="draft"),
            pytest.param(
                {**ls_task(1), "annotations": [ls_annotation([SMALL], was_cancelled=True)]},
                r"skipped \(was_cancelled\)",
                id="skipped",
            ),
            pytest.param(
                {"id": 1, "image": "a.jpg", "annotation_id": None, "annotator": ""},
                "none was submitted",
                id="flat",
            ),
        ],
    )
    def test_images_without_any_are_not_labelled(self, tmp_path: Path, task: Any, why: str) -> None:
        dataset = read(tmp_path, task, ls_task(2, [], image="b.jpg"))
        assert [Path(path).name for path in dataset.images["path"]] == ["b.jpg"]
        (problem,) = dataset.problems
        assert (problem.kind, problem.where) == ("not_labelled", "task 1")
        assert re.search(why, problem.message)

    def test_deleted_predictions_do_not_come_back(self, tmp_path: Path) -> None:
        task = {**ls_task(1, []), "predictions": [{"result": [SMALL]}]}
        assert boxes(read(tmp_path, task)) == []


def test_flat_export(tmp_path: Path) -> None:
    values = [{**box["value"], "original_width": 40, "original_height": 30} for box in [SMALL]]
    entry = {"image": "a.jpg", "id": 4, "label": values, "annotator": 1, "annotation_id": 9}
    empty = {"image": "b.jpg", "id": 5, "annotator": 1, "annotation_id": 10}
    dataset = read(tmp_path, entry, empty)
    assert boxes(dataset) == [[0, 0, 4, 3]]
    assert len(dataset) == 2
    assert dataset.problems == ()


def test_size_comes_from_the_image_where_no_result_states_it(tmp_path: Path) -> None:
    write_image(tmp_path / "1.jpg", width=80, height=60)
    dataset = read(tmp_path, ls_task(1, [ls_box(size=None)]), ls_task(2, [ls_box(size=None)]))
    assert boxes(dataset) == [[20, 12, 36, 36]]
    (problem,) = dataset.problems
    assert "needs original_width and original_height, or its image" in problem.message


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        pytest.param("/abs/a.jpg", "/abs/a.jpg", id="absolute"),
        pytest.param("x/a.jpg", "/root/x/a.jpg", id="relative"),
        pytest.param("/data/local-files/?d=x/a%20%26b.jpg", "/root/x/a &b.jpg", id="local-files"),
        pytest.param("http://h:8080/data/local-files/?d=/x/a.jpg", "/root/x/a.jpg", id="with-host"),
        pytest.param("s3://bucket/x/a.jpg", "/root/x/a.jpg", id="s3"),
        pytest.param("https://h/x/a%3F.jpg?key=1", "/root/x/a?.jpg", id="https"),
        pytest.param("file:///x/%C3%BC.jpg", "/x/ü.jpg", id="file"),
    ],
)
def test_what_a_reference_means(reference: str, expected: str) -> None:
    assert local_path(reference, Path("/root")) == expected


@pytest.mark.parametrize(
    ("task", "message"),
    [
        pytest.param("x", "must be an object, got 'x'", id="text"),
        pytest.param({"id": 7}, "must have 'data'", id="no-data"),
        pytest.param({"id": 7, "data": {"text": "hello"}}, "must name an image", id="no-image"),
        pytest.param({**ls_task(7), "annotations": "x"}, "must be a list of objects", id="list"),
        pytest.param({**ls_task(7), "annotations": [ls_annotation("x")]}, "'result'", id="result"),
    ],
)
def test_broken_tasks_are_named(tmp_path: Path, task: Any, message: str) -> None:
    dataset = read(tmp_path, task, ls_task(1, [SMALL]))
    assert len(dataset) == 1
    (problem,) = dataset.problems
    assert problem.kind == "unreadable_annotation"
    assert problem.where == ("[0]" if task == "x" else "task 7")
    assert message in problem.message


@pytest.mark.parametrize(
    ("box", "kind"),
    [
        pytest.param(ls_box(percent=("1", 0, 10, 10)), "invalid_box", id="text"),  # type: ignore[arg-type]
        pytest.param(ls_box(percent=(0, 0, 0, 10)), "zero_area_box", id="flat"),
        pytest.param(ls_box(percent=(0, 0, 150, 10)), "box_outside", id="outside"),
        pytest.param(ls_region("polygon", {"points": [[1, 2], 3]}), "invalid_box", id="points"),
        pytest.param(ls_region("rectangle", {}), "invalid_box", id="nothing"),
        pytest.param(ls_box(label=""), "unknown_category", id="no-label"),
    ],
)
def test_broken_regions_are_named(tmp_path: Path, box: Any, kind: str) -> None:
    dataset = read(tmp_path, ls_task(3, [box]))
    found = [(problem.kind, problem.where) for problem in dataset.problems]
    assert found == [(kind, "task 3, region r1")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("{}", "must hold a list of tasks", id="object"),
        pytest.param('[{"image_id": 1, "bbox": []}]', "detection results are no", id="results"),
        pytest.param("[1, 2]", "none of 2 entries is one", id="numbers"),
        pytest.param("[{", "must be JSON", id="cut"),
        pytest.param("[" * 100_000, "must be JSON", id="deep"),
    ],
)
def test_what_is_no_export(tmp_path: Path, text: str, message: str) -> None:
    file = write_text(tmp_path / "a.json", text)
    with pytest.raises(DataError, match=message) as info:
        read_label_studio(file)
    assert str(file) in str(info.value)


def test_one_image_under_two_names(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg")
    tasks = [ls_task(1, [SMALL], image="a.jpg"), ls_task(2, [SMALL], image="s3://b/a.jpg")]
    dataset = read(tmp_path, *tasks)
    assert len(dataset) == 1
    assert kinds(dataset.problems) == {"duplicate_id": 1}


def test_no_split(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="split must be left out"):
        read(tmp_path, ls_task(1, []), split="train")


def test_classes_wanted(tmp_path: Path) -> None:
    dataset = read(tmp_path, ls_task(1, [SMALL, ls_box("owl")]), class_names=["dog", "cat"])
    assert dataset.class_names == ("dog", "cat")
    assert dataset.annotations is not None
    assert dataset.annotations.labels.tolist() == [1]
    assert kinds(dataset.problems) == {"excluded_category": 1}


def test_nothing_at_all(tmp_path: Path) -> None:
    dataset = read(tmp_path)
    assert (len(dataset), boxes(dataset)) == (0, [])


WORDS = st.sampled_from(
    [
        *("id", "data", "image", "annotations", "result", "value", "type", "labels", "drafts"),
        *("x", "y", "width", "height", "rotation", "points", "radiusX", "rectangle"),
        *("rectanglelabels", "polygonlabels", "ellipselabels", "original_width", "updated_at"),
        *("original_height", "was_cancelled", "ground_truth", "completed_by", "annotation_id"),
        "detal_image_id",
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | WORDS
    | st.sampled_from(
        ["a.jpg", "http://[::1", "/data/local-files/?d=%00", "\ud800", "s3://b/c.jpg"]
    )
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=12,
)
RESULTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["rectanglelabels", "ellipse", "polygonlabels", "labels"])},
    optional={
        "id": VALUES,
        "original_width": SCALARS,
        "original_height": SCALARS,
        "value": st.dictionaries(WORDS, VALUES),
    },
)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    anything=VALUES, results=st.lists(RESULTS, max_size=3), fields=st.dictionaries(WORDS, VALUES)
)
def test_whatever_comes_is_read_or_refused(
    tmp_path: Path, anything: Any, results: Any, fields: Any
) -> None:
    annotation = {**fields, "result": results, "was_cancelled": False}
    tasks = [{"id": 1, "data": {"image": "a.jpg"}, "annotations": [annotation]}, anything]
    for document in (tasks, [{"data": anything, "annotations": [annotation]}], anything):
        file = write_text(tmp_path / "a.json", json.dumps(document))
        with suppress(DataError):
            found = read_label_studio(file).annotations
            assert found is not None
            assert not invalid_boxes(found.boxes).any()
