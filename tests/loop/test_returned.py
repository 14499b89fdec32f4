"""Exports of tools that are no complete dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from detal.cli import main
from detal.config import DatasetConfig
from detal.errors import DataError
from detal.loop import merge
from tests.datasets.making import (
    cvat_shape,
    cvat_xml,
    ls_annotation,
    ls_box,
    ls_task,
    write_text,
)
from tests.loop.worlds import labeled_objects, write_pool, write_run, write_voc

CAT = ("cat", 16, 12, 32, 36)
SIZE = (64, 48)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", write_pool(tmp_path / "pool", "ab"))


def back(path: Path) -> DatasetConfig:
    return DatasetConfig(path=str(path))


def test_label_files_without_images(run: Path, tmp_path: Path) -> None:
    """As Label Studio exports YOLO: its own order of classes, an empty images folder."""
    folder = tmp_path / "export"
    write_text(folder / "classes.txt", "owl\ncat\n")
    write_text(folder / "labels" / "a.txt", "1 0.375 0.5 0.25 0.5\n")
    (folder / "images").mkdir()
    report = merge(run, back(folder), into=tmp_path / "set")
    assert labeled_objects(tmp_path / "set") == {"a": [CAT]}
    assert report.missing == ("b.png",)


def test_problems_of_label_files_name_these(run: Path, tmp_path: Path) -> None:
    label = write_text(tmp_path / "export" / "labels" / "a.txt", "0 0.375 0.5 0.25 0.5\n0 x\n")
    (problem,) = merge(run, back(tmp_path / "export"), into=tmp_path / "set").problems
    assert problem.file == str(label)


def test_label_files_without_images_and_names(run: Path, tmp_path: Path) -> None:
    write_text(tmp_path / "export" / "labels" / "a.txt", "0 0.375 0.5 0.25 0.5\n")
    merge(run, back(tmp_path / "export"), into=tmp_path / "set")
    assert labeled_objects(tmp_path / "set") == {"a": [CAT]}


@pytest.mark.parametrize("prefix", ["0123abcd__", "0123abcd-"])
def test_names_with_a_hash_before_them(run: Path, tmp_path: Path, prefix: str) -> None:
    folder = write_voc(tmp_path / "export" / "Annotations", {f"{prefix}a": [CAT]}).parent
    (folder / "images").mkdir()
    (folder / "images" / f"{prefix}a.png").write_bytes((tmp_path / "pool/a.png").read_bytes())
    merge(run, back(folder), into=tmp_path / "set")
    assert labeled_objects(tmp_path / "set") == {"a": [CAT]}


def test_a_hash_that_is_part_of_the_name(tmp_path: Path) -> None:
    names = ["a", "0123abcd-a"]
    run = write_run(tmp_path / "run", write_pool(tmp_path / "pool", names))
    folder = write_voc(tmp_path / "export", {"0123abcd-a": [CAT]})
    report = merge(run, back(folder), into=tmp_path / "set")
    assert report.added == ("0123abcd-a.png",)


def tasks(tmp_path: Path, *tasks: Any) -> Path:
    return write_text(tmp_path / "export.json", json.dumps(tasks))


def box(label: str = "cat") -> dict[str, Any]:
    return ls_box(label, percent=(25, 25, 25, 50), size=SIZE)


def test_label_studio_by_id_never_by_position_or_name(run: Path, tmp_path: Path) -> None:
    """The file names are swapped; the ids count."""
    file = tasks(
        tmp_path,
        ls_task(9, [box("owl")], image="s3://x/a.png", detal_image_id="b.png"),
        ls_task(4, [box()], image="s3://x/b.png", detal_image_id="a.png"),
    )
    merge(run, back(file), into=tmp_path / "set")
    assert labeled_objects(tmp_path / "set") == {"a": [CAT], "b": [("owl", *CAT[1:])]}


def test_skipped_tasks_and_unusable_shapes_are_told(run: Path, tmp_path: Path, capsys: Any) -> None:
    skipped = {**ls_task(7, detal_image_id="a.png")}
    skipped["annotations"] = [ls_annotation([], was_cancelled=True)]
    brush = {"id": "z", "type": "brushlabels", "value": {"rle": [], "brushlabels": ["cat"]}}
    file = tasks(tmp_path, skipped, ls_task(8, [brush, box()], detal_image_id="b.png"))
    with pytest.raises(SystemExit) as end:
        main(["merge", str(run), str(file), "--into", str(tmp_path / "set")])
    assert end.value.code in {0, None}
    told = capsys.readouterr().out
    assert "missing: 1: a.png" in told
    assert "not usable: 1: " in told
    assert "task 8, region z: an object must be a rectangle" in told
    assert "task 7: an image needs a completed annotation: it was skipped" in told
    assert labeled_objects(tmp_path / "set") == {"b": [CAT]}


def test_two_annotators(run: Path, tmp_path: Path) -> None:
    task = ls_task(7, detal_image_id="a.png")
    task["annotations"] = [ls_annotation([box("owl")], 1), ls_annotation([box()], 2)]
    file = tasks(tmp_path, task, ls_task(8, [box()], detal_image_id="b.png"))
    report = merge(run, back(file), into=tmp_path / "newest")
    assert labeled_objects(tmp_path / "newest") == {"a": [CAT], "b": [CAT]}
    assert [problem.kind for problem in report.problems] == ["several_annotations"]
    report = merge(run, back(file), into=tmp_path / "refused", several="refuse")
    assert labeled_objects(tmp_path / "refused") == {"b": [CAT]}
    assert report.missing == ("a.png",)


def test_unknown_value_of_several(run: Path, tmp_path: Path, capsys: Any) -> None:
    arguments = ["merge", str(run), "x.json", "--into", str(tmp_path / "s"), "--several", "newst"]
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "did you mean newest" in capsys.readouterr().err


def test_cvat_by_id_before_name(run: Path, tmp_path: Path) -> None:
    attribute = '<attribute name="detal_image_id">b.png</attribute>'
    tag = cvat_shape("tag", attribute, label="detal_selection")
    shape = cvat_shape("box", xtl=16, ytl=12, xbr=32, ybr=36)
    text = cvat_xml({"frame_000000.png": [tag, shape], "a.png": []})
    file = write_text(tmp_path / "annotations.xml", text.replace('"40"', '"64"'))
    file.write_text(file.read_text().replace('height="30"', 'height="48"'))
    merge(run, back(file), into=tmp_path / "set")
    assert labeled_objects(tmp_path / "set") == {"a": [], "b": [CAT]}


def test_other_size_is_left_out(run: Path, tmp_path: Path) -> None:
    region = ls_box(percent=(25, 25, 25, 50), size=(48, 64))
    file = tasks(
        tmp_path,
        ls_task(1, [region], detal_image_id="a.png"),
        ls_task(2, [box()], detal_image_id="b.png"),
    )
    report = merge(run, back(file), into=tmp_path / "set")
    assert report.other_size == ("a.png: 48 x 64 instead of 64 x 48",)


def test_nothing_was_labelled_yet(run: Path, tmp_path: Path) -> None:
    file = tasks(tmp_path, ls_task(1, detal_image_id="a.png"))
    with pytest.raises(DataError, match="1 have no completed annotation"):
        merge(run, back(file), into=tmp_path / "set")


def test_nothing_of_the_run(run: Path, tmp_path: Path) -> None:
    file = tasks(tmp_path, ls_task(1, [box()], image="other.png"))
    with pytest.raises(DataError, match=r"has none of them .*1 others"):
        merge(run, back(file), into=tmp_path / "set")
