"""What the review server answers, and to whom."""

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from detal.review import ReviewServer, open_session
from tests.runs.run_folders import write_run


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ReviewServer]:
    with open_session(write_run(tmp_path / "run")) as session, ReviewServer(session) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def ask(
    server: ReviewServer,
    path: str,
    *,
    token: str | None = None,
    body: Any = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, bytes, dict[str, str]]:
    """Status, content and headers; ``path`` below the token."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    address = f"/{server.token if token is None else token}/{path}"
    if body is None:
        connection.request("GET", address, headers=headers or {})
    else:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = {"Content-Type": "application/json", **(headers or {})}
        connection.request("POST", address, body=content, headers=kind)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, data, dict(answer.getheaders())


def test_it_listens_on_loopback_only(server: ReviewServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_port}/{server.token}/"
    assert len(server.token) >= 43


def test_the_page(server: ReviewServer) -> None:
    status, data, headers = ask(server, "")
    assert status == 200
    assert b"Write manifest" in data
    assert b"connect-src &#39;self&#39;" in data
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize("kind", ["thumb", "image"])
def test_images_of_the_run_by_number(server: ReviewServer, kind: str) -> None:
    status, data, headers = ask(server, f"{kind}/8")  # the last of the reserve
    assert (status, headers["Content-Type"]) == (200, "image/webp")
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    assert pixels.shape == (48, 64, 3)


@pytest.mark.parametrize(
    "path",
    [
        *("image/9", "image/-1", "image/", "image/1/", "image/1e0", "image/%31", "image/²"),
        *("thumb/../image/1", "../../etc/passwd", "image//etc/passwd", "image/..%2f..%2fetc", "x"),
    ],
)
def test_nothing_else_is_served(server: ReviewServer, path: str) -> None:
    assert ask(server, path.replace("²", "%C2%B2"))[0] == 404


def test_a_file_that_is_no_image_is_not_sent(server: ReviewServer) -> None:
    path = Path(server.session.images.images[0].path)
    path.write_bytes(b"secret")
    status, data, _ = ask(server, "image/0")
    assert status == 404
    assert b"secret" not in data


@pytest.mark.parametrize("path", ["", "image/0", "thumb/0"])
@pytest.mark.parametrize("token", ["", "wrong", "%00", "a" * 43])
def test_without_the_token_nothing(server: ReviewServer, path: str, token: str) -> None:
    status, data, _ = ask(server, path, token=token)
    assert (status, data) == (404, b'{"error": "not found"}')


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "localhost:1"])
def test_foreign_names_for_loopback_are_refused(server: ReviewServer, host: str) -> None:
    assert ask(server, "", headers={"Host": host})[0] == 403
    decision = {"image": 0, "verdict": "rejected"}
    assert ask(server, "decide", body=decision, headers={"Host": host})[0] == 403
    assert not server.session.decisions.verdicts


def test_localhost_is_fine(server: ReviewServer) -> None:
    assert ask(server, "", headers={"Host": f"localhost:{server.server_port}"})[0] == 200


@pytest.mark.parametrize(
    ("headers", "token", "status"),
    [
        pytest.param({"Origin": "http://evil.example"}, None, 403, id="other-page"),
        pytest.param({"Origin": "null"}, None, 403, id="page-without-origin"),
        pytest.param({"Content-Type": "text/plain"}, None, 400, id="form"),
        pytest.param({}, "wrong", 404, id="no-token"),
    ],
)
def test_decisions_from_elsewhere_are_refused(
    server: ReviewServer, headers: dict[str, str], token: str | None, status: int
) -> None:
    body = {"image": 0, "verdict": "rejected"}
    assert ask(server, "decide", token=token, body=body, headers=headers)[0] == status
    assert not server.session.decisions.verdicts


def test_decisions_are_saved_and_answered(server: ReviewServer, tmp_path: Path) -> None:
    origin = {"Origin": f"http://127.0.0.1:{server.server_port}"}
    status, data, _ = ask(
        server, "decide", body={"image": 1, "verdict": "replaced"}, headers=origin
    )
    answer = json.loads(data)
    assert status == 200
    assert answer["state"]["came"] == [6]
    assert answer["state"]["summary"]["kept"] == 6
    saved = json.loads((tmp_path / "run.review.json").read_text())
    assert saved["verdicts"] == [["id0001", "rejected"]]
    assert b'"replaced_by":{"1":6}' in ask(server, "")[1]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param({"image": 7, "verdict": "accepted"}, 409, id="waiting-in-reserve"),
        pytest.param({"image": "0", "verdict": "accepted"}, 409, id="number-as-text"),
        pytest.param({"image": True, "verdict": "accepted"}, 409, id="truth"),
        pytest.param({"image": 0, "verdict": ["accepted"]}, 409, id="list"),
        pytest.param({"image": 0, "verdict": "deleted"}, 409, id="unknown-verdict"),
        pytest.param({}, 409, id="empty"),
        pytest.param([1], 400, id="no-object"),
        pytest.param(b"{", 400, id="no-json"),
        pytest.param(b"[" * 5_000, 400, id="deep"),
        pytest.param(b" " * 20_000, 413, id="long"),
    ],
)
def test_what_is_no_decision(server: ReviewServer, body: Any, status: int) -> None:
    found, data, _ = ask(server, "decide", body=body)
    assert found == status
    assert json.loads(data)["error"]
    assert not server.session.decisions.verdicts


def test_export(server: ReviewServer, tmp_path: Path) -> None:
    ask(server, "decide", body={"image": 0, "verdict": "rejected"})
    status, data, _ = ask(server, "export", body={})
    assert status == 200
    assert json.loads(data)["said"] == f"Wrote 5 images to {tmp_path / 'run-reviewed'}"
    assert (tmp_path / "run-reviewed" / "selection.csv").exists()
    (tmp_path / "run-reviewed" / "coco.json").write_text("changed")
    status, data, _ = ask(server, "export", body={})
    assert status == 409
    assert "were changed since" in json.loads(data)["error"]
    assert ask(server, "elsewhere", body={})[0] == 404
