"""Signals: what Ctrl-C does to the command line, and how worker processes end with their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["INTERRUPTED", "follow_parent", "interruptible"]

INTERRUPTED = 130
"""Exit code after an interrupt, as shells have it."""


@contextmanager
def interruptible() -> Iterator[None]:
    """The first interrupt raises `KeyboardInterrupt`, the second ends the process at once.

    Whatever is on disk stays valid at any moment, so nothing is lost by the second. A process that
    was started with interrupts ignored (in the background, by ``nohup``) goes on ignoring them.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, _end)
    raise KeyboardInterrupt


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)


def follow_parent() -> None:
    """Start of a worker process: its parent sees to interrupts, and takes it along when it ends.

    A worker that outlived a killed parent would go on for hours, and hold its folder.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="detal-parent", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
