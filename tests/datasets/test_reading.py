from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detal.config import DatasetConfig
from detal.datasets import FORMATS, IMAGE_COLUMNS, READERS, open_dataset
from detal.datasets.reading import detect_format
from detal.errors import ConfigError, DataError
from tests.datasets.making import (
    coco_box,
    coco_image,
    cvat_shape,
    cvat_xml,
    kinds,
    ls_box,
    ls_task,
    voc_xml,
    write_coco,
    write_image,
    write_text,
)


def make_coco(root: Path) -> Path:
    images = [coco_image(i, file_name=f"{i} ü.jpg") for i in (2, 1)]
    boxes = [coco_box(1, 1, [10, 6, 8, 12]), coco_box(2, 2, [10, 6, 8, 12])]
    categories = [{"id": 1, "name": "cat"}]
    for image in images:
        write_image(root / image["file_name"], seed=image["id"])
    return write_coco(
        root / "instances.json", images=images, annotations=boxes, categories=categories
    )


def make_voc(root: Path) -> Path:
    for name in ("1 ü", "2 ü"):
        write_image(root / f"JPEGImages/{name}.jpg")
        write_text(root / f"Annotations/{name}.xml", voc_xml([("cat", (10, 6, 18, 18))]))
    return root


def make_yolo(root: Path) -> Path:
    for name in ("1 ü", "2 ü"):
        write_image(root / f"images/{name}.jpg")
        write_text(root / f"labels/{name}.txt", "0 0.35 0.4 0.2 0.4\n")
    return write_text(root / "data.yaml", "train: images\nnames: [cat]\n")


def make_folder(root: Path) -> Path:
    for name in ("1 ü", "2 ü"):
        write_image(root / f"{name}.jpg")
    return root


def make_label_studio(root: Path) -> Path:
    for name in ("1 ü", "2 ü"):
        write_image(root / f"{name}.jpg")
    tasks = [ls_task(n, [ls_box()], image=f"{n} ü.jpg") for n in (1, 2)]
    return write_text(root / "export.json", json.dumps(tasks))


def make_cvat(root: Path) -> Path:
    for name in ("1 ü", "2 ü"):
        write_image(root / f"{name}.jpg")
    box = cvat_shape("box", xtl=10, ytl=6, xbr=18, ybr=18)
    return write_text(root / "a.xml", cvat_xml({"1 ü.jpg": [box], "2 ü.jpg": [box]}))


MAKERS: dict[str, Any] = {
    "coco": make_coco,
    "voc": make_voc,
    "yolo": make_yolo,
    "folder": make_folder,
    "label_studio": make_label_studio,
    "cvat": make_cvat,
}


def test_every_reader_is_covered_here_and_in_the_config() -> None:
    assert set(MAKERS) == set(READERS)
    assert set(FORMATS) == {"auto", *READERS}
    for name in FORMATS:
        assert DatasetConfig(path="x", format=name).format == name  # type: ignore[arg-type]


@pytest.mark.parametrize("name", READERS)
class TestContract:
    def test_columns_ids_and_detection(self, name: str, tmp_path: Path) -> None:
        path = MAKERS[name](tmp_path)
        assert detect_format(path) == name
        dataset = open_dataset(path)
        assert dict(list(dataset.images.schema.items())[:5]) == IMAGE_COLUMNS
        assert len(set(dataset.image_ids)) == 2
        assert all(Path(p).is_absolute() and Path(p).is_file() for p in dataset.images["path"])
        assert dataset.problems == ()

    def test_same_boxes_from_every_format(self, name: str, tmp_path: Path) -> None:
        dataset = open_dataset(MAKERS[name](tmp_path))
        if name == "folder":
            assert dataset.annotations is None
            return
        assert dataset.annotations is not None
        assert dataset.class_names == ("cat",)
        np.testing.assert_allclose(dataset.annotations.boxes, [[10, 6, 18, 18]] * 2, atol=1e-4)
        assert dataset.annotations.areas.tolist() == pytest.approx([96, 96], rel=1e-6)

    def test_second_opening_gives_the_same(self, name: str, tmp_path: Path) -> None:
        path = MAKERS[name](tmp_path)
        one, other = open_dataset(path), open_dataset(path)
        assert one.images.equals(other.images)
        assert one.problems == other.problems

    def test_opening_by_name(self, name: str, tmp_path: Path) -> None:
        path = MAKERS[name](tmp_path)
        auto, named = open_dataset(str(path)), open_dataset(path, format=name)
        assert auto.images.equals(named.images)

    def test_relative_paths(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = MAKERS[name](tmp_path / "d")
        absolute = open_dataset(path)
        monkeypatch.chdir(tmp_path)
        assert open_dataset(path.relative_to(tmp_path)).images.equals(absolute.images)

    def test_nothing_there(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no such file or folder"):
            open_dataset(tmp_path / "nothing", format=name)


def test_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown dataset format 'coko': did you mean coco"):
        open_dataset(tmp_path, format="coko")


def test_close_name_is_offered(tmp_path: Path) -> None:
    make_coco(tmp_path)
    with pytest.raises(DataError, match=r"did you mean instances\.json"):
        open_dataset(tmp_path / "instance.json")


@pytest.mark.parametrize("name", ["a.xml", "a.zip"])
def test_file_in_no_format(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must be a COCO or Label Studio \.json"):
        open_dataset(write_text(tmp_path / name, "x"))


def test_folder_in_no_format(tmp_path: Path) -> None:
    write_text(tmp_path / "a.md", "x")
    with pytest.raises(DataError, match=r"found no dataset .* looked for data\.yaml"):
        open_dataset(tmp_path)


def test_stray_files_do_not_mislead_detection(tmp_path: Path) -> None:
    make_folder(tmp_path)
    write_text(tmp_path / "1 ü.json", "{}")
    write_text(tmp_path / "settings.yaml", "a: 1")
    write_text(tmp_path / "feed.xml", "<annotations/>")
    assert detect_format(tmp_path) == "folder"


def test_empty_annotation_folder_is_no_voc(tmp_path: Path) -> None:
    # On file systems that ignore case this is also the folder of a COCO dataset.
    (tmp_path / "Annotations").mkdir()
    make_folder(tmp_path / "photos")
    assert detect_format(tmp_path) == "folder"


def test_home_folder_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    make_folder(tmp_path / "pool")
    assert len(open_dataset("~/pool")) == 2


def test_class_names_of_a_pool(tmp_path: Path) -> None:
    dataset = open_dataset(make_folder(tmp_path), class_names=["a", "b"])
    assert dataset.class_names == ("a", "b")
    assert dataset.category_ids == (0, 1)


def test_metadata_is_joined(tmp_path: Path) -> None:
    csv = write_text(tmp_path / "m.csv", "file_name,group\n1 ü,g\nno,h\n")
    dataset = open_dataset(make_yolo(tmp_path / "d"), metadata=csv)
    assert dataset.images["group"].to_list() == ["g", None]
    assert kinds(dataset.problems) == {"unmatched_metadata": 1}


@pytest.mark.parametrize("name", ["pool", "images", "labels"])
def test_folders_that_cannot_be_listed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pool = tmp_path / "pool"
    write_image(pool / "a.jpg")
    write_image(pool / "images" / "b.jpg")
    (pool / "labels").mkdir()
    listed = os.scandir

    def scandir(path: str) -> Any:
        if Path(path).name == name:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    if name == "images":
        assert open_dataset(pool, format="folder").image_ids.tolist() == ["a.jpg"]
        assert "images is read: Permission denied" in caplog.text
    else:
        reader = "folder" if name == "pool" else "yolo"
        with pytest.raises(DataError, match=rf"cannot read .*{name}: Permission denied"):
            open_dataset(pool, format=reader)
