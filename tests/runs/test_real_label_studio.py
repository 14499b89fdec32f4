"""The real Label Studio: push, annotate, export, merge. `make test-label-studio` runs it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from detal.cli import main
from detal.config import DatasetConfig
from detal.datasets import open_dataset
from detal.errors import ConfigError
from detal.loop import merge
from detal.manifests import HandOver
from detal.runs.export import export_run
from detal.runs.label_studio_api import LabelStudio
from tests.loop.worlds import Object, objects_of, write_pool, write_run
from tests.runs.label_studio_server import TOKEN, fetch, label_studio

PYTHON = os.environ.get("DETAL_LS_PYTHON")
CLASSES = ("cat", "a \"quoted\" <dog> & 'owl'", "line\nbreak", "🐱 ü 日本", "dog")

pytestmark = pytest.mark.skipif(
    not PYTHON, reason="DETAL_LS_PYTHON names no Python with Label Studio (make test-label-studio)"
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("label_studio")


@pytest.fixture(scope="module")
def run(root: Path) -> Path:
    """A run whose images have names that need encoding; one box each."""
    names = ["a", "b c", "d&e", "f#g", "h%20i", "ü"]
    paths = write_pool(root / "files" / "pool x", names)
    return write_run(root / "run", paths, class_names=CLASSES)


@pytest.fixture(scope="module")
def url(root: Path, run: Path) -> Iterator[str]:
    with label_studio(Path(str(PYTHON)), root / "ls", document_root=root / "files") as place:
        yield place


@pytest.fixture(scope="module")
def server(url: str) -> LabelStudio:
    return LabelStudio(url, TOKEN)


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)


def push(run: Path, url: str, root: Path, title: str, capsys: Any) -> dict[str, Any]:
    arguments = ["push", "label-studio", str(run), "--url", url, "--project", title, "--json"]
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--document-root", str(root / "files")])
    assert end.value.code in {0, None}
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def tasks_of(server: LabelStudio, project: int) -> list[dict[str, Any]]:
    path = f"/api/tasks?project={project}&page=1&page_size=100&fields=all"
    tasks: list[dict[str, Any]] = server.get(path)["tasks"]
    return sorted(tasks, key=lambda task: task["data"]["detal_rank"])


def rectangle(label: str, percent: tuple[float, float, float, float], **fields: Any) -> Any:
    value = dict(zip(("x", "y", "width", "height"), percent, strict=True))
    return {
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": 64,
        "original_height": 48,
        "image_rotation": 0,
        "value": {**value, "rotation": 0, "rectanglelabels": [label], **fields},
    }


@pytest.mark.usefixtures("token")
def test_push_annotate_export_merge(
    run: Path, url: str, root: Path, server: LabelStudio, tmp_path: Path, capsys: Any
) -> None:
    first = push(run, url, root, "round 1", capsys)
    assert (first["created"], first["imported"], first["there"]) == (True, 6, 0)
    second = push(run, url, root, "round 1", capsys)
    assert (second["created"], second["imported"], second["there"]) == (False, 0, 6)
    tasks = tasks_of(server, first["project"])
    assert len(tasks) == 6
    assert len(server.get(f"/api/storages/localfiles?project={first['project']}")) == 1
    for task in tasks:  # the server finds every image, whatever its name
        assert fetch(url + task["data"]["image"]).startswith(b"\x89PNG")

    expected: dict[str, list[Object]] = {}
    labels = [*CLASSES, "cat"]
    for number, task in enumerate(tasks):
        accepted = task["predictions"][0]["result"]
        drawn = rectangle(labels[number], (10 * number, 25, 12.5, 50))
        answer = f"/api/tasks/{task['id']}/annotations/"
        if number == 5:
            server.call("POST", answer, {"result": accepted, "was_cancelled": True})
            continue
        if number == 4:  # all predictions deleted, nothing drawn
            server.call("POST", answer, {"result": []})
            expected[Path(task["data"]["detal_image_id"]).stem] = []
            continue
        server.call("POST", answer, {"result": [*accepted, drawn]})
        left = 6.4 * number
        expected[Path(task["data"]["detal_image_id"]).stem] = sorted(
            [("cat", 0, 5, 10, 15), (labels[number], left, 12, left + 8, 36)]
        )
    for kind in ("JSON", "JSON_MIN", "COCO", "VOC", "YOLO"):
        file = export(url, first["project"], kind, tmp_path / kind)
        if kind in {"VOC", "YOLO"}:
            continue  # their files cannot hold a line break in a name; below
        report = merge(run, DatasetConfig(path=str(file)), into=tmp_path / f"set {kind}")
        assert report.missing == ("ü.png",)
        found = objects_of(open_dataset(tmp_path / f"set {kind}" / "labeled.json"))
        assert {stem: sorted(things) for stem, things in found.items()} == {
            stem: [(name, *map(pytest.approx, box)) for name, *box in things]
            for stem, things in expected.items()
        }, kind


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize("kind", ["VOC", "YOLO"])
def test_its_other_exports_come_back(
    url: str, root: Path, server: LabelStudio, tmp_path: Path, capsys: Any, kind: str
) -> None:
    paths = write_pool(root / "files" / f"plain {kind}", ["a", "b"])
    run = write_run(tmp_path / "run", paths, class_names=["zebra", "cat"])
    project = push(run, url, root, f"plain {kind}", capsys)["project"]
    for task in tasks_of(server, project):
        result = [*task["predictions"][0]["result"], rectangle("cat", (50, 50, 25, 25))]
        server.call("POST", f"/api/tasks/{task['id']}/annotations/", {"result": result})
    file = export(url, project, kind, tmp_path / "back")
    report = merge(run, DatasetConfig(path=str(file)), into=tmp_path / "set")
    assert report.added == ("a.png", "b.png")
    found = objects_of(open_dataset(tmp_path / "set" / "labeled.json"))
    expected = [("cat", 32, 24, 48, 36), ("zebra", 0, 5, 10, 15)]
    for things in found.values():
        assert [thing[0] for thing in sorted(things)] == ["cat", "zebra"]
        for (_, *box), (_, *wanted) in zip(sorted(things), expected, strict=True):
            assert box == pytest.approx(wanted, abs=1)  # its VOC has whole pixels


def export(url: str, project: int, kind: str, folder: Path) -> Path:
    """An export as a user downloads it."""
    content = fetch(f"{url}/api/projects/{project}/export?exportType={kind}")
    folder.mkdir()
    if not content.startswith(b"PK"):
        (folder / "export.json").write_bytes(content)
        return folder / "export.json"
    zipfile.ZipFile(io.BytesIO(content)).extractall(folder)
    return folder / "result.json" if kind == "COCO" else folder


def test_predictions_are_valid_for_the_sdk(run: Path, root: Path) -> None:
    folder = export_run(run, HandOver(formats=("label_studio",)), output=root / "export")
    code = (
        "import json, pathlib, sys\n"
        "from label_studio_sdk.label_interface import LabelInterface\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "interface = LabelInterface((folder / 'config.xml').read_text(encoding='utf-8'))\n"
        "tasks = json.loads((folder / 'tasks.json').read_text(encoding='utf-8'))\n"
        "errors = [interface.validate_prediction(p, return_errors=True)\n"
        "          for task in tasks for p in task['predictions']]\n"
        "wrong = dict(tasks[0]['predictions'][0])\n"
        "wrong['result'] = [dict(wrong['result'][0], from_name='other')]\n"
        "print(json.dumps([errors, interface.validate_prediction(wrong, return_errors=True)]))\n"
    )
    command = [str(PYTHON), "-c", code, str(folder / "label_studio")]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    errors, of_wrong = json.loads(answer.stdout.splitlines()[-1])
    assert errors == [[]] * 6
    assert of_wrong  # the oracle does see what is wrong


def test_personal_access_token(url: str, server: LabelStudio) -> None:
    server.call("POST", "/api/jwt/settings", {"api_tokens_enabled": True})
    personal = server.call("POST", "/api/token/")["token"]
    assert personal.count(".") == 2
    assert LabelStudio(url, personal).find_projects("no such project") == []


def test_wrong_token_and_other_labels(
    run: Path, url: str, root: Path, server: LabelStudio, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"got 401.*is the token right"):
        LabelStudio(url, "f" * 40).find_projects("x")
    config = '<View><Image name="image" value="$image"/><RectangleLabels name="label" '
    config += 'toName="image"><Label value="cat"/></RectangleLabels></View>'
    server.call("POST", "/api/projects", {"title": "other labels", "label_config": config})
    from detal.manifests import ImagePrefix
    from detal.runs.push import push_run

    with pytest.raises(ConfigError, match="must have all classes as labels, it lacks"):
        push_run(run, server, title="other labels", prefix=ImagePrefix(root, "x://"))
