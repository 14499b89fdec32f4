"""The errors that detal raises on purpose.

    DetalError
    ├── ConfigError      a config, an option or a name is wrong
    ├── DataError        an image, an annotation file or a manifest is wrong
    ├── BudgetError      a budget cannot be read or met
    ├── DetectorError    a model cannot be loaded or gave unusable output
    ├── StoreError       files that detal wrote are missing, foreign or damaged
    └── WorkerError      a worker process was killed

A message says what must hold, what was found, and where.
"""

from __future__ import annotations

import difflib
import errno
import os
import re
from collections.abc import Iterable

__all__ = [
    "AWAY",
    "BudgetError",
    "ConfigError",
    "DataError",
    "DetalError",
    "DetectorError",
    "StoreError",
    "WorkerError",
    "is_out_of_memory",
    "machine_fault",
    "reason",
    "unknown_name",
]

AWAY = frozenset(
    (
        *(errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT),
        *(errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH),
    )
)
"""Error numbers of a disk or network folder that failed or went away."""
_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_FORBIDDEN = frozenset((errno.EACCES, errno.EPERM, errno.EROFS))


class DetalError(Exception):
    """Base of every error a user can mend; the command line prints it without a traceback."""


class ConfigError(DetalError):
    """A config, an option or a name is wrong."""


class DataError(DetalError):
    """An image, an annotation file or a manifest is wrong."""


class BudgetError(DetalError):
    """A budget cannot be read or met."""


class DetectorError(DetalError):
    """A model cannot be loaded or gave unusable output."""


class StoreError(DetalError):
    """Files that detal wrote are missing, foreign or damaged."""


class WorkerError(DetalError):
    """A worker process was killed."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the machine or of an accelerator."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's
        return True
    words = ("out of memory", "can't allocate memory")
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)


def reason(error: BaseException) -> str:
    """The fault of a file in words; libraries that write themselves give no ``strerror``."""
    strerror = getattr(error, "strerror", None)
    if strerror:
        return str(strerror)
    number = _error_number(error)
    return str(error) if number is None else os.strerror(number)


def machine_fault(error: BaseException) -> str | None:
    """What happened and what to do, where disk or memory are to blame; None for other errors."""
    if is_out_of_memory(error):
        return (
            f"memory ran out ({str(error).splitlines()[0] if str(error) else 'MemoryError'}): "
            "lower batch_size, image_size, shard_size or workers"
        )
    number = _error_number(error)
    if number is None and not isinstance(error, OSError):
        return None
    place = getattr(error, "filename2", None) or getattr(error, "filename", None)
    what = reason(error) + (f": {place}" if place else "")
    if number in _FULL:
        return f"the disk is full ({what}): make room"
    if number in _FORBIDDEN:
        return f"not permitted ({what}): choose another folder or change its permissions"
    if number in AWAY or number in (errno.ENOENT, errno.ENOTDIR):
        return f"a file or folder is gone ({what}): see whether its disk is still mounted"
    if number in (errno.EMFILE, errno.ENFILE):
        return f"too many files are open ({what}): raise the limit (ulimit -n)"
    return what


def _error_number(error: BaseException) -> int | None:
    """The system's error number, also of libraries that hide it in their words."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    text = str(error)
    found = re.search(r"\(os error (\d+)\)", text)  # polars
    if found:
        return int(found.group(1))
    if isinstance(error, OSError) and re.fullmatch(r"\d+ requested and \d+ written", text):
        return errno.ENOSPC  # numpy
    if isinstance(error, RuntimeError) and "inline_container" in text:
        return errno.ENOSPC  # torch
    return None


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> str:
    """Message for an unknown name, with the closest valid ones first.

    Args:
        kind: What the name stands for, for example ``"strategy"``.
        name: The name that was given.
        valid: The names that exist.
    """
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return f"unknown {kind} {name!r}: {hint}valid are {', '.join(names)}"
