"""Run victims in forked processes, and kill them or let their writes fail where it is asked for.

The processes are forked from a server that has detal and torch imported, but has never used them: a
run costs what its work costs. A write boundary is the moment before a process opens a file for
writing, renames, removes, links or makes a folder below its own: between two boundaries nothing
changes on disk but the content of files that are open. Python tells of these moments by audit
events; product code knows nothing of it.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import polars as pl

from detal.errors import ConfigError, DetalError
from tests.faults.injections import INJECTIONS
from tests.faults.victims import VICTIMS

ROOT = Path(__file__).resolve().parents[2]
_PRELOADED = ["tests.faults.victims", "tests.faults.killing", "tests.faults.cheap"]
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_REMOVALS = frozenset({"os.remove", "os.rmdir"})
_CHANGES = frozenset(
    {"os.rename", "os.mkdir", "os.symlink", "os.link", "os.truncate", "detal.write"}
)

_POLL_S = 0.005
# To start a process looks after all others: two threads would read the same exit code.
_one_at_a_time = threading.Lock()

Act = Callable[[int, str, str], None]
"""Called before each write with its number (1, 2, …), the event and the path."""


@dataclass(frozen=True)
class Fault:
    """What happens at a write boundary.

    Attributes:
        at: Number of the boundary, from 1.
        error: The system's error number that it and all later writes fail with; None: the process
            is killed there.
    """

    at: int
    error: int | None = None

    def __call__(self, number: int, event: str, path: str) -> None:
        """See `Act`."""
        if self.error is None and number == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.error is not None and number >= self.at and event not in _REMOVALS:
            raise OSError(self.error, os.strerror(self.error), path)


class Trial:
    """One victim in one folder; run again until it is done.

    Args:
        name: Of `VICTIMS`.
        folder: Gets ``inputs``, ``work`` and what is told about the runs.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.victim = VICTIMS[name]
        if not (folder / "inputs").exists():
            self.victim.prepare(folder)
        self.start_anew()

    def start_anew(self) -> None:
        """Forget what was done."""
        shutil.rmtree(self.folder / "work", ignore_errors=True)
        (self.folder / "work").mkdir()
        for name in ("done", "said", "writes"):
            (self.folder / name).write_text("", encoding="utf-8")

    def start(self, fault: Fault | None = None, *, injection: str | None = None) -> BaseProcess:
        """Start the next run; ``injection`` is one of `INJECTIONS`."""
        args = (self.name, str(self.folder), fault, injection)
        with _one_at_a_time:
            process: BaseProcess = _server().Process(target=_run, args=args)
            process.start()
        return process

    def run(self, fault: Fault | None = None, *, injection: str | None = None) -> int:
        """Exit code of the next run, negative if a signal ended it."""
        return ended(self.start(fault, injection=injection))

    @property
    def said(self) -> str:
        """What all runs wrote to stdout and stderr."""
        return (self.folder / "said").read_text(encoding="utf-8")

    @property
    def writes(self) -> list[tuple[str, str]]:
        """Event and path of each write of all runs."""
        lines = (self.folder / "writes").read_text(encoding="utf-8").splitlines()
        return [(event, path) for event, _, path in (line.partition(" ") for line in lines)]

    def tear(self) -> bool:
        """Cut the file that was being written last in half, as a kill in mid-write leaves it."""
        event, path = self.writes[-2] if len(self.writes) > 1 else ("", "")
        torn = Path(path)
        if event != "open" or not torn.is_file() or torn.stat().st_size < 2:
            return False
        os.truncate(torn, torn.stat().st_size // 2)
        return True

    def result(self) -> dict[str, bytes]:
        """See `Victim.result`."""
        return self.victim.result(self.folder)


def ended(process: BaseProcess) -> int:
    """Wait for the exit code."""
    code = None
    while code is None:
        code = ended_within(process, 60)
    return code


def ended_within(process: BaseProcess, seconds: float) -> int | None:
    """The exit code, or None if the process still runs after ``seconds``."""
    end = time.monotonic() + seconds
    while True:
        with _one_at_a_time:
            code = process.exitcode
        if code is not None or time.monotonic() > end:
            return code
        time.sleep(_POLL_S)


def _server() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    known = os.environ.get("PYTHONPATH", "")
    if str(ROOT) not in known.split(os.pathsep):
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), known)))
    return context


def _run(name: str, folder: str, fault: Fault | None, injection: str | None) -> None:
    """In the forked process: go on with the first step that is not done."""
    if injection is not None:
        INJECTIONS[injection]()
    here = Path(folder)
    said = os.open(here / "said", os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(said, stream)
    done = os.open(here / "done", os.O_WRONLY | os.O_APPEND)
    steps = VICTIMS[name].steps[(here / "done").stat().st_size :]
    writes = os.open(here / "writes", os.O_WRONLY | os.O_APPEND)

    def act(number: int, event: str, path: str) -> None:
        os.write(writes, f"{event} {path}\n".encode())
        if fault is not None:
            fault(number, event, path)

    _watch(str(here / "work"), act)
    try:
        for step in steps:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            step(here)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # which nobody means to interrupt
            os.write(done, b".")
    except DetalError as error:  # of a step that is no command line
        os.write(2, f"error: {error}\n".encode())
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _watch(root: str, act: Act) -> None:
    """Call ``act`` before every write below ``root``, until the process ends."""
    for name in ("write_parquet", "write_csv"):
        setattr(pl.DataFrame, name, _told(getattr(pl.DataFrame, name)))
    number = 0

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal number
        path = _written(event, args)
        if path is not None and (path.startswith(root) or not Path(path).is_absolute()):
            number += 1
            act(number, event, path)

    sys.addaudithook(hook)


def _told(write: Callable[..., Any]) -> Callable[..., Any]:
    """Polars writes files itself, unseen by Python."""

    def told(table: pl.DataFrame, file: Any, **options: Any) -> Any:
        sys.audit("detal.write", str(file))
        return write(table, file, **options)

    return told


def _written(event: str, args: tuple[Any, ...]) -> str | None:
    """The path that is about to be changed, if the event is a change."""
    if event == "open":
        path, mode, flags = args
        writes = any(c in mode for c in "wax+") if isinstance(mode, str) else flags & _WRITES
        return str(path) if writes and not isinstance(path, int) else None
    if (event in _REMOVALS or event in _CHANGES) and not isinstance(args[0], int):
        return os.fsdecode(args[0])
    return None


FULL = errno.ENOSPC
READ_ONLY = errno.EROFS
GONE = errno.ENOENT
