"""Files that are there in full or not at all, whatever interrupts the writing."""

from __future__ import annotations

import errno
import json
import os
import pickle
import secrets
import stat
import struct
import tokenize
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from detal.errors import StoreError

__all__ = [
    "UNREADABLE",
    "exists",
    "is_file",
    "open_regular",
    "read_json",
    "read_own",
    "remove_leftovers",
    "replacing",
    "write_atomic",
    "write_json",
]


UNREADABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
)
"""What readers of binary files (pickles, archives, arrays) raise on damaged ones."""


def exists(path: str | Path) -> bool:
    """Whether something is there; False for names that no file can have."""
    return os.path.exists(path)  # noqa: PTH110


def is_file(path: str | Path) -> bool:
    """Whether a file is there, through links; False for names that no file can have."""
    return os.path.isfile(path)  # noqa: PTH113


def open_regular(path: str | Path) -> BinaryIO:
    """Open a file to read it, and nothing else: a pipe would wait and a device never end.

    Raises:
        OSError: If it cannot be opened or is no regular file.
        ValueError: If no file can have such a name.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return Path(path).open("rb")


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no JSON in UTF-8, or nested beyond all measure.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError(str(error)) from None


def read_own(path: Path) -> Any:
    """The value in a JSON file that detal wrote.

    Raises:
        StoreError: If it cannot be read or is no JSON.
    """
    try:
        return read_json(path)
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise StoreError(
            f"{path} is damaged: it must be JSON as detal wrote it ({error}); remove it to have it "
            "made again"
        ) from None


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
