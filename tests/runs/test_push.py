"""Push against a small stand-in for Label Studio that can fail; the real one has its own test."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from detal.cli import main
from detal.errors import ConfigError, DataError
from detal.manifests import ImagePrefix
from detal.runs.label_studio_api import LabelStudio, TransientError
from detal.runs.push import Pushed, push_run
from tests.loop.worlds import write_pool, write_run

CONTROL = {
    "type": "RectangleLabels",
    "inputs": [{"value": "image"}],
    "labels": ["cat", "dog", "owl"],
}


class Handler(BaseHTTPRequestHandler):
    """The calls that a push makes; ``faults`` has what goes wrong next with an import."""

    projects: ClassVar[list[dict[str, Any]]]
    tasks: ClassVar[list[dict[str, Any]]]
    storages: ClassVar[list[dict[str, Any]]]
    imports: ClassVar[list[int]]
    faults: ClassVar[list[str]]
    tokens: ClassVar[list[str]]

    def do_GET(self) -> None:
        self.tokens.append(self.headers["Authorization"])
        url = urlsplit(self.path)
        if self.headers["Authorization"] == "Token elsewhere":
            self.send_response(302)
            self.send_header("Location", "/api/projects?moved")
            self.end_headers()
        elif self.headers["Authorization"] in {"Token wrong", "Bearer old"}:
            self.answer(401, {"detail": "Invalid token"})
        elif url.path == "/api/projects":
            self.answer(200, {"results": self.projects, "next": None})
        elif url.path == "/api/tasks":
            query = parse_qs(url.query)
            size, page = int(query["page_size"][0]), int(query["page"][0])
            part = self.tasks[(page - 1) * size : page * size]
            self.answer(200, {"tasks": part, "total": len(self.tasks)})
        else:
            self.answer(200, self.storages)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/api/projects":
            config = {"label": CONTROL}
            self.projects.append({"id": 1, **body, "parsed_label_config": config})
            self.answer(201, {"id": 1})
        elif self.path == "/api/storages/localfiles":
            self.storages.append(body)
            self.answer(201, body)
        elif self.path == "/api/token/refresh/":
            self.answer(200, {"access": f"access{len(self.tokens)}"})
        else:
            self.take(body)

    def do_PATCH(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.projects[0].update(body)
        self.answer(200, {})

    def take(self, tasks: list[dict[str, Any]]) -> None:
        fault = self.faults.pop(0) if self.faults else ""
        if fault != "busy":
            self.imports.append(len(tasks))
            self.tasks.extend(tasks)
        if fault == "answer lost":
            self.close_connection = True
        elif fault == "busy":
            self.answer(503, "busy")
        else:
            self.answer(201, {"task_count": len(tasks)})

    def answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def place() -> Iterator[str]:
    for name in ("projects", "tasks", "storages", "imports", "faults", "tokens"):
        setattr(Handler, name, [])
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def waited() -> list[float]:
    return []


@pytest.fixture
def server(place: str, waited: list[float]) -> LabelStudio:
    return LabelStudio(place, "t" * 40, wait=waited.append)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", write_pool(tmp_path / "files" / "pool"))


def push(run: Path, server: LabelStudio, **options: Any) -> Pushed:
    prefix = ImagePrefix(run.parent / "files", "/data/local-files/?d=")
    return push_run(run, server, **{"title": "round 1", "prefix": prefix, **options})


def ids() -> list[str]:
    return [task["data"]["detal_image_id"] for task in Handler.tasks]


def test_first_and_second_push(run: Path, server: LabelStudio) -> None:
    told: list[tuple[int, int]] = []
    pushed = push(run, server, portion=4, progress=lambda done, total: told.append((done, total)))
    assert (pushed.created, pushed.imported, pushed.there) == (True, 6, 0)
    assert pushed.url.endswith("/projects/1/data")
    assert told == [(0, 6), (4, 6), (6, 6)]
    assert Handler.imports == [4, 2]
    assert Handler.tasks[0]["data"]["image"] == "/data/local-files/?d=pool/a.png"
    assert [storage["path"] for storage in Handler.storages] == [str(run.parent / "files/pool")]
    assert Handler.projects[0]["model_version"] == ""
    before = json.dumps([Handler.tasks, Handler.projects, Handler.storages])
    again = push(run, server)
    assert (again.created, again.imported, again.there) == (False, 0, 6)
    assert json.dumps([Handler.tasks, Handler.projects, Handler.storages]) == before


@pytest.mark.parametrize(
    ("faults", "waits"),
    [
        pytest.param(["busy"], [2.0], id="busy"),
        pytest.param(["answer lost"], [2.0], id="imported-but-not-answered"),
        pytest.param(["", "busy", "busy"], [2.0, 4.0], id="later"),
    ],
)
def test_failures_on_the_way(
    run: Path, server: LabelStudio, waited: list[float], faults: list[str], waits: list[float]
) -> None:
    Handler.faults.extend(faults)
    push(run, server, portion=3)
    assert ids() == ["a.png", "b.png", "c.png", "d.png", "e.png", "f.png"]
    assert waited == waits


def test_what_was_interrupted_goes_on(run: Path, server: LabelStudio) -> None:
    Handler.faults.extend(["", *["busy"] * 4])
    with pytest.raises(TransientError, match="got 503"):
        push(run, server, portion=2)
    assert len(ids()) == 2
    assert push(run, server, portion=2).imported == 4
    assert len(set(ids())) == len(ids()) == 6


def test_another_round_goes_into_the_same_project(
    run: Path, server: LabelStudio, tmp_path: Path
) -> None:
    push(run, server)
    paths = write_pool(tmp_path / "files" / "other", ["x", "a"])
    other = write_run(tmp_path / "run2", paths, ids=["x", "a.png"])
    pushed = push(other, server)
    assert (pushed.imported, pushed.there) == (1, 1)
    assert len(Handler.storages) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"labels": ["cat"]}, "it lacks 'dog', 'owl'", id="labels"),
        pytest.param({"type": "PolygonLabels"}, "must have <RectangleLabels", id="control"),
        pytest.param({"inputs": [{"value": "photo"}]}, "must have <RectangleLabels", id="data"),
    ],
)
def test_project_for_something_else(
    run: Path, server: LabelStudio, change: dict[str, Any], message: str
) -> None:
    config = {"label": {**CONTROL, **change}}
    Handler.projects.append({"id": 1, "title": "round 1", "parsed_label_config": config})
    with pytest.raises(ConfigError, match=message):
        push(run, server)
    assert Handler.tasks == []


def test_two_projects_of_one_title(run: Path, server: LabelStudio) -> None:
    Handler.projects.extend([{"id": n, "title": "round 1"} for n in (1, 2)])
    with pytest.raises(ConfigError, match="2 are called 'round 1'"):
        push(run, server)


def test_titles_and_places(run: Path, server: LabelStudio, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="3 to 50 characters, got 'x'"):
        push(run, server, title="x")
    prefix = ImagePrefix(tmp_path / "files" / "pool", "/data/local-files/?d=")
    with pytest.raises(DataError, match="no file directly in its document root"):
        push(run, server, prefix=prefix)


def test_personal_token_is_renewed(place: str) -> None:
    server = LabelStudio(place, "a.b.c")
    server._access = "old"
    assert server.find_projects("x") == []
    assert Handler.tokens == ["Bearer old", "Bearer access1"]


def test_refusals(place: str) -> None:
    with pytest.raises(ConfigError, match=r"got 401: .*Invalid token.*is the token right"):
        LabelStudio(place, "wrong").find_projects("x")
    with pytest.raises(ConfigError, match=r"got 302: .*give the url that it sends on to"):
        LabelStudio(place, "elsewhere").find_projects("x")
    assert Handler.tokens == ["Token wrong", "Token elsewhere"]
    with pytest.raises(ConfigError, match="a token must be given"):
        LabelStudio(place, "")
    with pytest.raises(ConfigError, match="url must be http://host:port"):
        LabelStudio("file:///etc/passwd", "t")
    assert "secret" not in repr(LabelStudio(place, "secret"))


def test_nobody_there(waited: list[float]) -> None:
    server = LabelStudio("http://127.0.0.1:9", "t", wait=waited.append)
    with pytest.raises(TransientError, match="must answer at"):
        server.find_projects("x")
    assert waited == [2.0, 4.0, 8.0]


def test_command(
    run: Path, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "t" * 40)
    base = ["push", "label-studio", str(run), "--url", place, "--project", "round 1"]
    with pytest.raises(SystemExit) as end:
        main(base)
    assert end.value.code == 2
    assert "give --document-root or --image-prefix" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main([*base, "--document-root", str(tmp_path / "files")])
    assert end.value.code in {0, None}
    assert "6 tasks imported, 0 there already" in capsys.readouterr().out
    assert Handler.tokens[0] == f"Token {'t' * 40}"
