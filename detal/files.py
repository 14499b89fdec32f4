"""Files that are there in full or not at all, whatever interrupts the writing."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["remove_leftovers", "replacing", "write_atomic", "write_json"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path that becomes ``path``, flushed to disk, when the block succeeds.

    Its name is its own, whoever else writes the same file: process numbers are alike in containers.
    If the block raises, it is gone; only a kill leaves it behind (see `remove_leftovers`).
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes left of `replacing` ``path``; nobody may be writing it."""
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        leftover.unlink(missing_ok=True)


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
