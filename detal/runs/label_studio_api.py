"""The few calls of Label Studio's REST API that `detal push` makes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from detal.errors import ConfigError, DetalError

__all__ = ["LabelStudio", "TransientError"]

_TIMEOUT_S = 300
_TRANSIENT = frozenset({429, 500, 502, 503, 504})
_PAGE = 1000
_SHOWN = 300


class _NoRedirects(HTTPRedirectHandler):
    """Follows no redirect: the token must not go to another server."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """None: the answer is an error."""


_OPENER = build_opener(_NoRedirects)


class TransientError(DetalError):
    """The server did not answer, or said that it cannot at the moment; another try may succeed."""


@dataclass
class LabelStudio:
    """A server.

    Attributes:
        url: Where it is, for example ``http://127.0.0.1:8080``.
        token: Legacy token (40 characters) or personal access token (a JWT), which is exchanged for
            short-lived ones.
        tries: How often a call that changes nothing is made before it counts as failed.
        wait: Waits for some seconds.
    """

    url: str
    token: str = field(repr=False)
    tries: int = 4
    wait: Callable[[float], None] = time.sleep
    _access: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme not in {"http", "https"} or not urlsplit(self.url).netloc:
            raise ConfigError(f"url must be http://host:port or https://host, got {self.url!r}")
        if not self.token:
            raise ConfigError("a token must be given, see your account page in Label Studio")

    def find_projects(self, title: str) -> list[dict[str, Any]]:
        """The projects of exactly this title."""
        found: list[dict[str, Any]] = []
        page = 1
        while True:
            query = urlencode({"title": title, "page": page, "page_size": _PAGE})
            answer = self.get(f"/api/projects?{query}")
            found += [project for project in answer["results"] if project["title"] == title]
            if not answer.get("next"):
                return found
            page += 1

    def task_values(self, project: int, key: str) -> set[str]:
        """What the tasks of a project have in their data under a key, as text."""
        values: set[str] = set()
        seen, page = 0, 1
        while True:
            query = urlencode(
                {
                    "project": project,
                    "page": page,
                    "page_size": _PAGE,
                    "fields": "task_only",
                    "include": "id,data",
                }
            )
            answer = self.get(f"/api/tasks?{query}")
            tasks = answer["tasks"]
            values |= {str(t["data"][key]) for t in tasks if t["data"].get(key) is not None}
            seen, page = seen + len(tasks), page + 1
            if not tasks or seen >= answer["total"]:
                return values

    def get(self, path: str) -> Any:
        """Read something, trying again while the server is not available.

        Raises:
            TransientError: If it stays unavailable.
            ConfigError: If it refuses.
        """
        for attempt in range(1, self.tries):
            try:
                return self.call("GET", path)
            except TransientError:
                self.wait(2.0**attempt)
        return self.call("GET", path)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Make a call once.

        Raises:
            TransientError: If there is no answer, or another try may succeed.
            ConfigError: If the server refuses.
        """
        status, answer = self._send(method, path, body)
        if status == 401 and self._is_personal:  # the short-lived token has expired
            self._access = ""
            status, answer = self._send(method, path, body)
        if 200 <= status < 300:
            return answer
        message = f"Label Studio at {self.url} must accept {method} {path}, got {status}: "
        message += json.dumps(answer, ensure_ascii=False)[:_SHOWN]
        if status in _TRANSIENT:
            raise TransientError(message)
        if 300 <= status < 400:
            message += "; give the url that it sends on to"
        if status in {401, 403}:
            message += "; is the token right, and are tokens of its kind switched on?"
        raise ConfigError(message)

    @property
    def _is_personal(self) -> bool:
        return self.token.count(".") == 2

    def _send(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if self._is_personal and not self._access:
            status, answer = self._request(
                "POST", "/api/token/refresh/", {"refresh": self.token}, authorization=None
            )
            if status != 200:
                return status, answer
            self._access = answer["access"]
        kind, token = ("Bearer", self._access) if self._is_personal else ("Token", self.token)
        return self._request(method, path, body, authorization=f"{kind} {token}")

    def _request(
        self, method: str, path: str, body: Any, *, authorization: str | None
    ) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body, allow_nan=False).encode()
        headers = {"Content-Type": "application/json"}
        if authorization is not None:
            headers["Authorization"] = authorization
        request = Request(self.url.rstrip("/") + path, data=data, headers=headers, method=method)
        try:
            with _OPENER.open(request, timeout=_TIMEOUT_S) as response:
                return response.status, _decode(response.read())
        except HTTPError as error:
            with error:
                return error.code, _decode(error.read())
        except (URLError, OSError) as error:  # refused, reset, timed out
            reason = getattr(error, "reason", error)
            raise TransientError(f"Label Studio must answer at {self.url}: {reason}") from None


def _decode(content: bytes) -> Any:
    try:
        return json.loads(content) if content else None
    except ValueError:
        return content.decode("utf-8", "replace")
