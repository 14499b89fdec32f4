"""Run bad inputs through the command line, each in a process of its own."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bad_inputs.cases import Case

__all__ = ["MOST_MIB", "MOST_SECONDS", "Outcome", "in_child", "run_case", "warm_up"]

MOST_SECONDS = 10.0
MOST_MIB = 2048.0
_KILL_AFTER_S = 40
_NAMED = ("problems", "quarantine", "unreadable", "not usable", "to look at", "not asked for")


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        kind: ``error``, ``named``, ``used`` or, which must not be, ``traceback``, ``hang``,
            ``killed``.
        code: Exit code.
        seconds: Wall time.
        cpu_seconds: Of processor time.
        mib: Peak resident memory above that of the process when it began.
        text: What was printed, the end of it.
    """

    kind: str
    code: int
    seconds: float
    cpu_seconds: float
    mib: float
    text: str

    def fault(self, case: Case) -> str | None:
        """What is wrong with it, or None."""
        wanted = ("used",) if case.used else ("error", "named")
        if self.kind not in wanted:
            return f"{' or '.join(wanted)} is needed, it was {self.kind}"
        if self.seconds > MOST_SECONDS:
            return f"took {self.seconds:.1f} s"
        if self.mib > MOST_MIB:
            return f"took {self.mib:.0f} MiB"
        return None


def warm_up() -> None:
    """Import what the verbs import, once for all children; starts no threads."""
    import matplotlib.figure  # noqa: F401
    import torch

    from detal.detectors import import_ultralytics

    torch.set_num_threads(1)
    import_ultralytics()
    __import__("ultralytics.nn.tasks")


def run_case(case: Case, *, world: Path, scratch: Path) -> Outcome:
    """Make a case in an empty folder and meet it with its command line."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    output = scratch.with_suffix(".txt")
    read_end, write_end = os.pipe()
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        _child(case, world, scratch, output, write_end)
    os.close(write_end)
    code, seconds, hung, usage = _wait(child, start)
    with os.fdopen(read_end) as pipe:
        began = pipe.read().split()
    if len(began) == 2:
        seconds, before = seconds - float(began[0]), float(began[1])
    else:
        before = 0.0
    text = output.read_text(encoding="utf-8", errors="replace")
    mib = max(usage.ru_maxrss / 1024 - before, 0)
    return Outcome(
        kind="hang" if hung else _kind(code, text, scratch),
        code=code,
        seconds=seconds,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        mib=mib,
        text=text[-3000:],
    )


def in_child(work: Callable[[], None]) -> None:
    """Do something in a process of its own, so that no thread pool starts in this one."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - whatever it is, this process ends here
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError("the world of the bad inputs could not be built")


def _child(case: Case, world: Path, scratch: Path, output: Path, pipe: int) -> None:
    code = 99
    try:
        start = time.monotonic()
        shutil.copytree(world, scratch / "world", symlinks=True)
        arguments = [str(argument) for argument in case.make(scratch)]
        os.chdir(scratch)
        handle = os.open(output, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="replace", closefd=False)
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="replace", closefd=False)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.write(pipe, f"{time.monotonic() - start} {_resident_mib()}".encode())
        os.close(pipe)
        code = _command_line(arguments)
    except BaseException:  # noqa: BLE001 - whatever it is, this process ends here
        output.open("a").write(f"making the case failed\n{traceback.format_exc()}")
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _command_line(arguments: list[str]) -> int:
    from rich.console import Console

    import detal.cli

    detal.cli._errors = Console(stderr=True, file=sys.stderr, width=200)
    try:
        detal.cli.main(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - what a user would see as a traceback
        traceback.print_exc()
        return 98
    return 0


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def _wait(child: int, start: float) -> tuple[int, float, bool, resource.struct_rusage]:
    hung = False
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        seconds = time.monotonic() - start
        if done:
            return os.waitstatus_to_exitcode(status), seconds, hung, usage
        if seconds > _KILL_AFTER_S and not hung:
            hung = True
            os.kill(child, signal.SIGKILL)
        time.sleep(0.005)


def _kind(code: int, text: str, scratch: Path) -> str:
    if "Traceback (most recent call last)" in text or code in (98, 99):
        return "traceback"
    if code < 0:
        return "killed"
    lines = text.splitlines()
    if code in (1, 2) and any(line.startswith("error: ") for line in lines):
        return "error"
    if code == 2 and "Usage:" in text:
        return "error"
    quarantine = scratch / "out" / "quarantine.csv"
    quarantined = quarantine.exists() and len(quarantine.read_text().splitlines()) > 1
    if quarantined or ("no problems" not in text and any(word in text for word in _NAMED)):
        return "named"
    return "used" if code == 0 else "traceback"
