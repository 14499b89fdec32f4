"""One writer to a folder at a time: a lock that tells who holds it and ends with its holder."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock, Timeout

from detal.errors import ConfigError, StoreError, reason

__all__ = ["lock_beside", "locked"]

log = logging.getLogger(__name__)


def lock_beside(folder: Path) -> Path:
    """The lock's file of a folder that is replaced as a whole, and so cannot hold its lock."""
    folder = folder.absolute()
    return folder.with_name(f".{folder.name}.lock")


@contextmanager
def locked(file: Path, *, work: Path, wait: bool = False) -> Iterator[None]:
    """Hold the lock ``file``; a thread may hold it several times over.

    The system gives a lock back when its holder ends, however it ends: the file that a killed
    process left behind blocks nobody.

    Args:
        file: The lock's own file; its folder is made if there is none.
        work: What the lock protects, for the message.
        wait: Wait for another holder instead of refusing.

    Raises:
        ConfigError: If another process or thread holds it, naming it.
        StoreError: If the file cannot be written, or is gone although this thread holds the lock.
    """
    lock = FileLock(file.absolute(), is_singleton=True)
    if lock.is_locked and not file.exists():
        raise StoreError(
            f"{file.parent} went away in mid-run: mount it again and run the same command to go on"
        )
    again = lock.is_locked
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        held = _acquire(lock, work, wait=wait)
        if not again and type(lock) is FileLock:  # a soft lock's content is its own
            file.write_text(json.dumps(_me()) + "\n", encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"{work} must be in a folder that can be written to and locked, {file.parent} is not: "
            f"{reason(error)}"
        ) from None
    with held:
        yield


def _acquire(lock: FileLock, work: Path, *, wait: bool) -> FileLock:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        by = _holder(Path(lock.lock_file))
        if not wait:
            raise ConfigError(
                f"another run writes to {work} ({by}): wait for it, stop it or choose another "
                "output"
            ) from None
        log.warning("waiting for another run that writes to %s (%s)", work, by)
        lock.acquire()
    return lock


def _me() -> dict[str, object]:
    now = datetime.now(tz=timezone.utc).isoformat(timespec="seconds")
    return {"process": os.getpid(), "host": socket.gethostname(), "since": now}


def _holder(file: Path) -> str:
    """Who holds a lock, as far as its file says."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        by = json.loads(file.read_text(encoding="utf-8"))
        return f"process {by['process']} on {by['host']} since {by['since']}"
    return "an unknown process"
