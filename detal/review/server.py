"""The review page on loopback.

What keeps it to the one who started it: it binds to 127.0.0.1; every address begins with a token of
256 random bits; a request whose ``Host`` is not this server's is refused (so a foreign name that is
pointed at loopback cannot reach it), and so is a decision that comes from another page. Images are
named by their number in the run and decoded before they are sent: nothing else of the disk can be
asked for.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
from dataclasses import replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, get_args

from detal.datasets.images import read_image
from detal.errors import DataError, DetalError
from detal.report.html_page import plural
from detal.report.run_page import run_page
from detal.report.thumbnails import encode
from detal.review.decisions import Verdict
from detal.review.export import reviewed_folder, write_reviewed
from detal.review.session import Session
from detal.runs.run_report import run_view

__all__ = ["ReviewServer"]

log = logging.getLogger(__name__)

_ADDRESS = "127.0.0.1"
_LONGEST = {"thumb": (480, 70), "image": (1600, 85)}
_LARGEST_BODY = 10_000
_TIMEOUT_S = 60
_VERDICTS: dict[str, Verdict] = {str(verdict): verdict for verdict in get_args(Verdict)}
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class ReviewServer(ThreadingHTTPServer):
    """Serves the review of one session; `serve_forever` and `shutdown` are those of the library.

    Args:
        session: The review.
        port: 0 for any that is free.
        output: Where the manifest goes; beside the run by default.

    Raises:
        OSError: If the port is taken.
    """

    daemon_threads = True

    def __init__(self, session: Session, *, port: int = 0, output: Path | None = None) -> None:
        self.session = session
        self.output = output or reviewed_folder(session.run.path)
        self.token = secrets.token_urlsafe(32)
        self._view = replace(run_view(session.run, with_reserve=True), served=True)
        self._lock = threading.Lock()
        super().__init__((_ADDRESS, port), _Handler)

    @property
    def url(self) -> str:
        """Address of the page, token included."""
        return f"http://{_ADDRESS}:{self.server_port}/{self.token}/"

    @property
    def hosts(self) -> frozenset[str]:
        """What the ``Host`` of a request may be."""
        return frozenset(f"{name}:{self.server_port}" for name in (_ADDRESS, "localhost"))

    def page(self) -> bytes:
        """The page with the decisions so far."""
        with self._lock:
            state = self.session.state()
        gallery = {**self._view.gallery, "served": True, "state": state}
        return run_page(replace(self._view, gallery=gallery)).encode("utf-8", "replace")

    def picture(self, kind: str, row: int) -> bytes:
        """WebP of one image of the run.

        Raises:
            DataError: If it cannot be read.
        """
        longest, quality = _LONGEST[kind]
        path = self.session.images.images[row].path
        return encode(read_image(path).pixels, longest=longest, quality=quality)

    def decide(self, body: dict[str, Any]) -> dict[str, Any]:
        """Take one decision.

        Raises:
            DataError: If it is none, or not possible.
        """
        row, verdict = body.get("image"), body.get("verdict")
        if type(row) is not int or not isinstance(verdict, str) or verdict not in _VERDICTS:
            raise DataError(f"a decision must name an image and a verdict, got {body}")
        with self._lock:
            said = self.session.decide(row, _VERDICTS[verdict])
            return {"said": said, "state": self.session.state()}

    def export(self) -> dict[str, Any]:
        """Write the manifest.

        Raises:
            DetalError: As `write_reviewed`.
        """
        with self._lock:
            batch = write_reviewed(self.session.run, self.session.decisions, self.output)
        return {"said": f"Wrote {plural(len(batch), 'image')} to {self.output}"}


class _Handler(BaseHTTPRequestHandler):
    """One request; says nothing to those who do not know the token."""

    server: ReviewServer
    protocol_version = "HTTP/1.1"
    server_version = "detal"
    sys_version = ""
    timeout = _TIMEOUT_S

    def do_GET(self) -> None:
        """The page and its pictures."""
        place = self._place()
        if place is None:
            return
        if place == "":
            self._send(self.server.page(), "text/html; charset=utf-8", cache="no-store")
            return
        kind, _, number = place.partition("/")
        rows = len(self.server.session.images)
        if kind not in _LONGEST or not _is_row(number, rows):
            self._refuse(HTTPStatus.NOT_FOUND, "not found")
            return
        try:
            data = self.server.picture(kind, int(number))
        except (DataError, OSError) as error:
            # The message may quote the file.
            log.warning("%s", error)
            self._refuse(HTTPStatus.NOT_FOUND, "the image cannot be read")
            return
        self._send(data, "image/webp", cache="private, max-age=3600")

    def do_POST(self) -> None:
        """Decisions and the export."""
        place = self._place()
        body = None if place is None else self._body()
        if body is None:
            return
        try:
            if place == "decide":
                answer = self.server.decide(body)
            elif place == "export":
                answer = self.server.export()
            else:
                self._refuse(HTTPStatus.NOT_FOUND, "not found")
                return
        except (DetalError, OSError) as error:
            self._refuse(HTTPStatus.CONFLICT, str(error))
            return
        self._send(json.dumps(answer).encode(), "application/json", cache="no-store")

    def _place(self) -> str | None:
        """What is asked for below the token; None, and an answer, if it may not be."""
        if self.headers.get("Host") not in self.server.hosts:
            self._refuse(HTTPStatus.FORBIDDEN, "wrong host")
            return None
        token, slash, place = self.path.removeprefix("/").partition("/")
        if not slash or not secrets.compare_digest(token.encode(), self.server.token.encode()):
            self._refuse(HTTPStatus.NOT_FOUND, "not found")
            return None
        return place

    def _body(self) -> dict[str, Any] | None:
        """The JSON object sent; None, and an answer, if there is none or it is from elsewhere."""
        origin = self.headers.get("Origin")
        if origin is not None and origin.removeprefix("http://") not in self.server.hosts:
            self._refuse(HTTPStatus.FORBIDDEN, "wrong origin")
            return None
        length = self.headers.get("Content-Length", "")
        is_json = self.headers.get("Content-Type", "").split(";")[0] == "application/json"
        if not is_json or not length.isascii() or not length.isdigit():
            self._refuse(HTTPStatus.BAD_REQUEST, "a JSON object is needed")
            return None
        if int(length) > _LARGEST_BODY:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too long")
            return None
        try:
            body = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            self._refuse(HTTPStatus.BAD_REQUEST, "a JSON object is needed")
            return None
        return body

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        # What was not read of a body would be taken for the next request.
        self.close_connection = True
        self._send(
            json.dumps({"error": why}).encode(), "application/json", cache="no-store", status=status
        )

    def _send(
        self, data: bytes, content_type: str, *, cache: str, status: HTTPStatus = HTTPStatus.OK
    ) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": content_type,
            "Content-Length": str(len(data)),
            "Cache-Control": cache,
            **_HEADERS,
        }
        for name, value in headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's signature
        """Requests are told at debug level only, without the token."""
        log.debug("%s", (format % args).replace(self.server.token, "…"))


def _is_row(text: str, rows: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10 and int(text) < rows
