"""Image files on disk and their ids: paths relative to a root, in a stable order."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from detal.datasets.dataset import IMAGE_COLUMNS, Problem
from detal.errors import DataError, reason
from detal.files import open_regular

__all__ = [
    "absolute",
    "absolute_below",
    "column",
    "expand_glob",
    "files_below",
    "image_frame",
    "native",
    "path_ids",
    "read_path_list",
    "read_text",
    "storable",
    "unique_files",
]

log = logging.getLogger(__name__)


def absolute(path: str | Path) -> Path:
    """Absolute and without ``..``; symbolic links stay, because ids must not follow them."""
    return Path(os.path.abspath(os.path.expanduser(path)))  # noqa: PTH100, PTH111


def absolute_below(root: Path, name: str) -> str:
    """Path of a stated file name that may be absolute or relative to ``root`` (absolute)."""
    return os.path.normpath(os.path.join(root, native(name)))  # noqa: PTH118


def files_below(
    folder: Path, suffixes: Collection[str], *, skip: Collection[str] = ()
) -> Iterator[str]:
    """Absolute paths of the files below a folder, through symbolic links, hidden ones left out.

    Of a folder below that cannot be listed (``lost+found``) a warning tells.

    Args:
        folder: Where to look, absolute.
        suffixes: Lower-case endings with their dot.
        skip: Names of folders that are not entered.

    Raises:
        OSError: If the folder itself cannot be listed.
    """

    def left_out(error: OSError) -> None:
        if error.filename == os.fspath(folder):
            raise error
        log.warning("nothing below %s is read: %s", error.filename, reason(error))

    seen = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=left_out):
        real = os.path.realpath(parent)
        if real in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f not in skip)
        for name in files:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes:  # noqa: PTH122
                yield os.path.join(parent, name)  # noqa: PTH118


def path_ids(paths: Iterable[str], root: Path) -> list[str]:
    """Each path relative to ``root``, with forward slashes."""
    prefix = str(root).rstrip(os.sep) + os.sep
    ids = [
        path[len(prefix) :] if path.startswith(prefix) else _relative(path, root) for path in paths
    ]
    return ids if os.sep == "/" else [text.replace(os.sep, "/") for text in ids]


def _relative(path: str, root: Path) -> str:
    try:
        return os.path.relpath(path, root)
    except ValueError:  # another drive
        return path


def read_text(path: Path) -> str:
    """A UTF-8 file, with or without a byte-order mark.

    Raises:
        DataError: If it cannot be read or is not UTF-8.
    """
    try:
        with open_regular(path) as file:
            return file.read().decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except (OSError, ValueError) as error:
        reason = "is not UTF-8" if isinstance(error, UnicodeError) else _reason(error)
        raise DataError(f"cannot read {path}: {reason}") from None


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def read_path_list(path: Path, *, roots: Sequence[Path]) -> list[tuple[int, str]]:
    """Line numbers and absolute paths of a text file with one image path per line.

    Empty lines and lines starting with ``#`` do not count.

    Args:
        path: The text file.
        roots: Folders that relative lines may be relative to, absolute: the one that holds the
            first of them, or else the first.

    Raises:
        DataError: If the file cannot be read.
    """
    lines = [(n, line.strip()) for n, line in enumerate(read_text(path).splitlines(), start=1)]
    lines = [(n, text) for n, text in lines if text and not text.startswith("#")]
    first = next((text for _, text in lines if not os.path.isabs(native(text))), "")  # noqa: PTH117
    holding = (root for root in roots if os.path.exists(absolute_below(root, first)))  # noqa: PTH110
    root = next(holding, roots[0])
    return [(n, absolute_below(root, text)) for n, text in lines]


def native(name: str) -> str:
    """A stated file name with the separators of this system."""
    return name if os.sep == "\\" else name.replace("\\", "/")


def storable(text: str) -> bool:
    """Whether a name is valid Unicode; names in another encoding cannot be stored in tables."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def image_frame(
    image_ids: Sequence[str],
    paths: Sequence[str],
    *,
    widths: Sequence[int | None] | None = None,
    heights: Sequence[int | None] | None = None,
    groups: Sequence[str | None] | None = None,
    metadata: Mapping[str, Sequence[Any]] | None = None,
) -> pl.DataFrame:
    """The ``images`` table of a dataset (`Dataset`)."""
    nothing = [None] * len(image_ids)
    values = (image_ids, paths, widths or nothing, heights or nothing, groups or nothing)
    columns = [
        pl.Series(name, column, dtype=dtype)
        for (name, dtype), column in zip(IMAGE_COLUMNS.items(), values, strict=True)
    ]
    return pl.DataFrame([*columns, *(column(name, v) for name, v in (metadata or {}).items())])


def column(name: str, values: Sequence[Any]) -> pl.Series:
    """A metadata column; values of different types become text."""
    try:
        return pl.Series(name, values)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
        return pl.Series(
            name,
            [None if v is None else str(v).encode("utf-8", "replace").decode() for v in values],
            dtype=pl.String,
        )


def unique_files(
    entries: Iterable[tuple[str, str, str]], root: Path
) -> tuple[list[str], list[str], list[Problem]]:
    """Sort out files that are named twice or cannot be stored.

    Args:
        entries: Path of each image, and file and place that name it, for messages.
        root: What ids are relative to.

    Returns:
        Ids and paths, sorted by id, and problems.
    """
    seen: dict[str, str] = {}
    problems = []
    for path, file, where in entries:
        if not storable(path):
            shown = path.encode("utf-8", "backslashreplace").decode()
            message = f"a file name must be valid UTF-8, got {shown}; rename the file"
            problems.append(Problem("unreadable_name", shown, "", message))
            continue
        image_id = path_ids([path], root)[0]
        if image_id in seen:
            message = f"an image must be listed once, got {image_id} again"
            problems.append(Problem("duplicate_id", file, where, message))
        else:
            seen[image_id] = path
    ids = sorted(seen)
    return ids, [seen[image_id] for image_id in ids], problems


def expand_glob(pattern: str) -> tuple[Path, list[str]]:
    """Root (the folder before the first wildcard) and sorted absolute matches of a pattern."""
    parts = Path(pattern).parts
    plain = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    root = absolute(Path(*parts[:plain]))
    return root, sorted(glob.glob(str(absolute(pattern)), recursive=True))  # noqa: PTH207
