import json
from pathlib import Path

import pytest

from detal.errors import ConfigError
from detal.manifests import Batch, check_output, recover_folder, staged_folder, write_manifest
from tests.manifests.factories import batch_of, dataset_of, write_image

RUN = {"seed": 1, "name": "ü", "a": {"z": 1.5, "b": None}}


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    paths = [write_image(tmp_path / "in" / "a b.jpg"), write_image(tmp_path / "in" / "c.jpg")]
    return batch_of(dataset_of(paths), [[(0, 0.9), (1, 0.35)], []])


def contents(folder: Path) -> dict[str, bytes | str]:
    return {
        str(path.relative_to(folder)): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def test_what_is_there(tmp_path: Path, batch: Batch) -> None:
    output = tmp_path / "deep" / "out"
    write_manifest(output, batch, run=RUN)
    assert sorted(contents(output)) == [
        ".detal.json",
        "boxes.csv",
        "coco.json",
        "run.json",
        "selection.csv",
        "yolo/data.yaml",
        "yolo/images.txt",
        "yolo/images/a b.jpg",
        "yolo/images/c.jpg",
        "yolo/labels/a b.txt",
        "yolo/labels/c.txt",
    ]
    assert json.loads((output / "run.json").read_text(encoding="utf-8")) == RUN
    assert [path.name for path in sorted(output.parent.iterdir())] == [".out.lock", "out"]


def test_equal_inputs_equal_bytes(tmp_path: Path, batch: Batch) -> None:
    write_manifest(tmp_path / "one", batch, run=RUN)
    write_manifest(tmp_path / "two", batch, run=dict(reversed(list(RUN.items()))))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_replaces_its_own_older_manifest(tmp_path: Path, batch: Batch) -> None:
    output = tmp_path / "out"
    write_manifest(output, batch, run=RUN)
    (output / "yolo" / "labels.cache").write_text("ultralytics leaves this")
    write_manifest(output, batch, run={"second": True})
    assert json.loads((output / "run.json").read_text()) == {"second": True}
    assert not (output / "yolo" / "labels.cache").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.lock", "in", "out"]


def test_empty_folder_is_used(tmp_path: Path, batch: Batch) -> None:
    (tmp_path / "out").mkdir()
    write_manifest(tmp_path / "out", batch, run=RUN)
    assert (tmp_path / "out" / "coco.json").is_file()


@pytest.mark.parametrize("marker", ["", "[]", '{"files": 3}', "{}"])
def test_refuses_foreign_folders(tmp_path: Path, batch: Batch, marker: str) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "thesis.txt").write_text("two years")
    if marker:
        (output / ".detal.json").write_text(marker)
    with pytest.raises(ConfigError, match=r"a new or empty folder.*out is neither"):
        write_manifest(output, batch, run=RUN)
    assert (output / "thesis.txt").read_text() == "two years"


def test_refuses_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(ConfigError, match="a new or empty folder"):
        check_output(tmp_path / "out")


@pytest.mark.parametrize("change", ["edit", "delete"])
def test_refuses_where_somebody_worked_on_the_labels(
    tmp_path: Path, batch: Batch, change: str
) -> None:
    output = tmp_path / "out"
    write_manifest(output, batch, run=RUN)
    label = output / "yolo" / "labels" / "c.txt"
    if change == "edit":
        label.write_text("1 0.5 0.5 0.2 0.2\n")
    else:
        label.unlink()
    with pytest.raises(ConfigError, match=r"1 files of .* were changed.*labels/c\.txt"):
        write_manifest(output, batch, run=RUN)


def test_failure_leaves_the_older_manifest(tmp_path: Path, batch: Batch) -> None:
    output = tmp_path / "out"
    write_manifest(output, batch, run=RUN)
    before = contents(output)
    with pytest.raises(TypeError):
        write_manifest(output, batch, run={"bad": object()})
    with pytest.raises(ValueError, match="Out of range float"):
        write_manifest(output, batch, run={"bad": float("nan")})
    assert contents(output) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.lock", "in", "out"]


def test_leftovers_of_a_killed_run_do_not_leak_in(tmp_path: Path, batch: Batch) -> None:
    stale = tmp_path / ".out.detal-new"
    stale.mkdir()
    (stale / "half.txt").write_text("x")
    write_manifest(tmp_path / "out", batch, run=RUN)
    assert not (tmp_path / "out" / "half.txt").exists()
    assert not stale.exists()


def test_more_files_may_be_staged(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "out") as folder:
        (folder / "picture.png").write_bytes(b"x")
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out" / "picture.png").read_bytes() == b"x"
    check_output(tmp_path / "out")


@pytest.mark.parametrize("output_is_there", [True, False])
def test_what_kills_left_is_recovered_or_removed(tmp_path: Path, output_is_there: bool) -> None:
    """A kill between the renames left the older folder aside; a later one left it half removed."""
    output, old, new = (tmp_path / n for n in ("out", ".out.detal-old", ".out.detal-new"))
    for folder in (old, new, *([output] if output_is_there else [])):
        folder.mkdir()
        (folder / "file").write_text(folder.name)
    recover_folder(output)
    assert (output / "file").read_text() == ("out" if output_is_there else ".out.detal-old")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
