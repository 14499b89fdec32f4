import json
from pathlib import Path
from typing import Any

import pytest

from detal.cli import main
from detal.errors import ConfigError, DataError
from detal.manifests import WRITERS, HandOver, ImagePrefix, write_manifest
from detal.runs.export import export_run
from tests.loop.worlds import write_pool, write_run
from tests.manifests.factories import batch_of, dataset_of


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", write_pool(tmp_path / "pool")[:2])


def command(*arguments: str | Path) -> int:
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_export_gives_what_select_would_have(tmp_path: Path) -> None:
    paths = write_pool(tmp_path / "pool")[:3]
    batch = batch_of(dataset_of(paths), [[(0, 0.87654), (2, 0.5)], [], [(1, 0.3)]])
    everything = HandOver(formats=tuple(WRITERS))
    record = {"detector": {"class_names": ["cat", "dog", "owl"]}}
    write_manifest(tmp_path / "run", batch, run=record, hand_over=everything)
    folder = export_run(tmp_path / "run", everything)
    assert folder == tmp_path / "run-export"
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 15
    for file in files:
        if file.name != ".detal.json":
            assert (folder / file).read_bytes() == (tmp_path / "run" / file).read_bytes(), file


def test_command(run: Path, tmp_path: Path, capsys: Any) -> None:
    prefix = f"{tmp_path / 'pool'}=s3://bucket/x"
    output = tmp_path / "out"
    arguments = ("--to", "label-studio,coco", "--image-prefix", prefix, "-o", output, "--json")
    assert command("export", run, *arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == {"output": str(output), "formats": ["label_studio", "coco"]}
    tasks = json.loads((output / "label_studio" / "tasks.json").read_text(encoding="utf-8"))
    assert [t["data"]["image"] for t in tasks] == ["s3://bucket/x/a.png", "s3://bucket/x/b.png"]
    assert command("export", run, "--to", "cvat", "--link", "-o", output) == 0
    assert (output / "images" / "a.png").is_symlink()
    assert not (output / "label_studio").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "cvat", "--link", "--copy"], "--link or --copy, not both"),
        (["--to", "cvatt"], "unknown manifest format 'cvatt'"),
        (["--to", "cvat", "--image-prefix", "s3://b"], "must be FOLDER=PREFIX"),
    ],
)
def test_wrong_usage(run: Path, arguments: list[str], message: str, capsys: Any) -> None:
    assert command("export", run, *arguments) == 2
    assert message in capsys.readouterr().err
    assert not run.with_name("run-export").exists()


def test_image_that_is_gone_leaves_nothing_behind(run: Path, tmp_path: Path) -> None:
    (tmp_path / "pool" / "a.png").unlink()
    with pytest.raises(DataError, match=r"found no file .*a\.png"):
        export_run(run, HandOver(formats=("cvat",), mode="copy"))
    assert not run.with_name("run-export").exists()


def test_image_outside_the_prefix(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="every image must be below"):
        export_run(run, HandOver(formats=("cvat",), prefix=ImagePrefix(tmp_path / "x", "s3://b")))


def test_work_of_people_is_not_overwritten(run: Path) -> None:
    folder = export_run(run, HandOver(formats=("cvat",)))
    file = folder / "cvat" / "annotations.xml"
    file.write_text(file.read_text().replace("cat", "dog"))
    with pytest.raises(ConfigError, match="were changed since detal wrote them"):
        export_run(run, HandOver(formats=("cvat",)))
