from __future__ import annotations

import os
from pathlib import Path

import pytest

from detal.datasets import open_dataset
from detal.datasets.folder import read_folder
from detal.errors import DataError
from tests.datasets.making import kinds, write_image, write_text


def touch(root: Path, *names: str) -> Path:
    for name in names:
        write_text(root / name, "")
    return root


def test_folder_is_searched_and_nothing_is_opened(tmp_path: Path) -> None:
    touch(tmp_path, "b.JPG", "a b/ü.png", "a b/.hidden.jpg", ".git/c.jpg", "notes.md", "z/d.webp")
    dataset = open_dataset(tmp_path)
    assert dataset.image_ids.tolist() == ["a b/ü.png", "b.JPG", "z/d.webp"]
    assert dataset.images["path"].to_list()[0] == str(tmp_path / "a b" / "ü.png")
    assert dataset.images["width"].null_count() == 3
    assert dataset.annotations is None
    assert dataset.class_names == ()
    assert dataset.problems == ()


def test_empty_folder_is_an_empty_pool(tmp_path: Path) -> None:
    dataset = open_dataset(tmp_path)
    assert len(dataset) == 0
    assert dataset.images.schema["path"] == read_folder(tmp_path).images.schema["path"]


def test_links_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "a.jpg")
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/loop").symlink_to(tmp_path / "pool")
    assert read_folder(tmp_path / "pool").image_ids.tolist() == ["link/a.jpg"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        pytest.param("*.jpg", ["a.jpg"], id="one_level"),
        pytest.param("**/*.jpg", ["a.jpg", "s/b.jpg", "s/t/c.jpg"], id="recursive"),
        pytest.param("s/*", ["b.jpg"], id="other_files_do_not_count"),
        pytest.param("s/t/c.jp[eg]g", None, id="no_match"),
    ],
)
def test_globs(pattern: str, expected: list[str] | None, tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "s/b.jpg", "s/notes.md", "s/t/c.jpg")
    if expected is None:
        with pytest.raises(DataError, match="no image matches"):
            open_dataset(tmp_path / pattern)
    else:
        assert open_dataset(tmp_path / pattern).image_ids.tolist() == expected


def test_text_list(tmp_path: Path) -> None:
    touch(tmp_path, "pool/a.jpg", "other/b.jpg")
    path = write_text(
        tmp_path / "pool/list.txt",
        f"\ufeff# chosen\n./a.jpg\n../other/b.jpg\n{tmp_path}/pool/a.jpg\n\ngone.jpg\n",
    )
    dataset = open_dataset(path)
    assert dataset.image_ids.tolist() == ["../other/b.jpg", "a.jpg", "gone.jpg"]
    (problem,) = dataset.problems
    assert (problem.kind, problem.file, problem.where) == ("duplicate_id", str(path), "line 4")


def test_text_list_relative_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "pool/a.jpg")
    path = write_text(tmp_path / "lists/list.txt", "pool/a.jpg\n")
    monkeypatch.chdir(tmp_path)
    assert open_dataset(path).images["path"].to_list() == [str(tmp_path / "pool/a.jpg")]
    monkeypatch.chdir(tmp_path / "lists")
    other = open_dataset(path, images_root=tmp_path)
    assert other.image_ids.tolist() == ["pool/a.jpg"]


def test_single_image(tmp_path: Path) -> None:
    dataset = open_dataset(write_image(tmp_path / "x y.png"))
    assert dataset.image_ids.tolist() == ["x y.png"]


def test_split_is_a_folder_and_keeps_ids(tmp_path: Path) -> None:
    touch(tmp_path, "train/a.jpg", "val/b.jpg")
    assert read_folder(tmp_path, split="val").image_ids.tolist() == ["val/b.jpg"]
    with pytest.raises(DataError, match="split must name a folder"):
        read_folder(tmp_path, split="test")


def test_ids_do_not_depend_on_where_the_pool_lies(tmp_path: Path) -> None:
    names = ["a/1.jpg", "a/2.jpg", "b.jpg"]
    one, other = touch(tmp_path / "one", *names), touch(tmp_path / "two/deeper", *names[::-1])
    assert open_dataset(one).image_ids.tolist() == open_dataset(other).image_ids.tolist() == names


def test_name_that_is_not_utf8_is_reported(tmp_path: Path) -> None:
    try:
        (tmp_path / os.fsdecode(b"\xff.jpg")).touch()
    except OSError:
        pytest.skip("this file system allows UTF-8 names only")
    touch(tmp_path, "a.jpg")
    dataset = open_dataset(tmp_path)
    assert dataset.image_ids.tolist() == ["a.jpg"]
    assert kinds(dataset.problems) == {"unreadable_name": 1}


def test_list_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xff\xfea")
    with pytest.raises(DataError, match="is not UTF-8"):
        open_dataset(tmp_path / "list.txt")
