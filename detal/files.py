"""Files that are there in full or not at all, whatever interrupts the writing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["replacing", "write_atomic", "write_json"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path that becomes ``path``, flushed to disk, when the block succeeds."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    yield temporary
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def write_atomic(path: Path, content: bytes) -> None:
    """Write ``content`` in one step; the folder is made if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any, *, allow_nan: bool = False) -> None:
    """Write JSON in one step; the folder is made if there is none.

    Raises:
        ValueError: If a number is not finite and ``allow_nan`` is off.
    """
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=allow_nan)
    write_atomic(path, f"{text}\n".encode())
