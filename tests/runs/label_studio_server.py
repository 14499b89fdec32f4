"""A real Label Studio on loopback, started and stopped by the tests."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

TOKEN = "0123456789abcdef0123456789abcdef01234567"
_START_S = 240


@contextmanager
def label_studio(python: Path, data: Path, *, document_root: Path) -> Iterator[str]:
    """Start a server on a free port with SQLite below ``data``; it is stopped at the end.

    Yields:
        Its URL.
    """
    data.mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [
        str(python.parent / "label-studio"), "start", "--no-browser",
        "--internal-host", "127.0.0.1", "--port", str(port), "--data-dir", str(data),
        "--username", "detal@example.com", "--password", "Local-test-1", "--user-token", TOKEN,
        "--enable-legacy-api-token", "--log-level", "WARNING",
    ]  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {
        "COLLECT_ANALYTICS": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "LATEST_VERSION_CHECK": "false",
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(document_root),
    }
    log = data.with_name("server.log")
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        try:
            _wait(url, server, log)
            yield url
        finally:
            server.terminate()
            try:
                server.wait(timeout=20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def fetch(url: str, *, token: str = TOKEN) -> bytes:
    """What the server answers to a GET."""
    with urlopen(Request(url, headers={"Authorization": f"Token {token}"}), timeout=60) as answer:
        content: bytes = answer.read()
    return content


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end:
        if server.poll() is not None:
            break
        with suppress(URLError, OSError), urlopen(f"{url}/health", timeout=5):
            return
        time.sleep(0.5)
    raise RuntimeError(f"Label Studio did not start: {log.read_text(errors='replace')[-2000:]}")
