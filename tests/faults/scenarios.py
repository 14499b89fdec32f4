"""Faults done to victims: each scenario says how often it was injected and what did not survive.

A fault is survived if the run ends as it should (killed, or with its exit code and no traceback)
and the same command, run again once the fault is over, ends with files identical to those of an
undisturbed run.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np

from tests.faults.killing import Fault, Trial, ended, ended_within

_MOST_KILLS = 4
_INTERRUPTED = 130


@dataclass
class Outcome:
    """What a scenario did.

    Attributes:
        fault: What was injected.
        where: Into what.
        injected: How often.
        failures: What did not survive, in words.
    """

    fault: str
    where: str
    injected: int = 0
    failures: list[str] = field(default_factory=list)

    def row(self) -> dict[str, object]:
        """A row of the table of faults."""
        lost = len(self.failures)
        return {
            "fault": self.fault,
            "where": self.where,
            "injected": self.injected,
            "survived": self.injected - lost,
            "lost": lost,
        }


class Bench:
    """A trial, the result of its undisturbed run, and how long that took."""

    def __init__(self, name: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.trial = Trial(name, folder)
        assert self.trial.run() == 0, self.trial.said  # inputs are read once
        self.trial.start_anew()
        started = time.monotonic()
        assert self.trial.run() == 0, self.trial.said
        self.seconds = time.monotonic() - started
        self.expected = self.trial.result()
        self.writes = len(self.trial.writes)

    def finish(self, outcome: Outcome, what: str) -> None:
        """Run the same command again and compare."""
        code = self.trial.run()
        found = self.trial.result()
        names = {*found, *self.expected}
        differ = [n for n in sorted(names) if found.get(n) != self.expected.get(n)]
        if code:
            outcome.failures.append(f"{what}: exit code {code}: {self.trial.said[-500:]}")
        elif differ:
            outcome.failures.append(f"{what}: {len(differ)} files differ: {differ[:5]}")

    def ended(
        self, outcome: Outcome, what: str, code: int, *, expected: int | range, says: str
    ) -> None:
        """Check how a run that was disturbed ended."""
        said = self.trial.said
        codes = (expected,) if isinstance(expected, int) else expected
        if code not in codes or says not in said.replace("\n", " ") or "Traceback" in said:
            outcome.failures.append(f"{what}: exit code {code}: {said[-1500:]}")


def random_kills(bench: Bench, *, kills: int, rng: np.random.Generator) -> Outcome:
    """SIGKILL at random moments, up to four in a row before the run may finish."""
    outcome = Outcome("kill -9 at a random moment", bench.name)
    trial = bench.trial
    while outcome.injected < kills:
        trial.start_anew()
        for _ in range(_MOST_KILLS):
            process = trial.start()
            if ended_within(process, rng.uniform(0, bench.seconds)) is None:
                _send(process, signal.SIGKILL)
            if ended(process) != -signal.SIGKILL:
                break
            outcome.injected += 1
        bench.finish(outcome, f"after {outcome.injected} kills")
    return outcome


def boundary_kills(bench: Bench, boundaries: Iterable[int]) -> Outcome:
    """SIGKILL right before a write; where a file was being written, half of it is there."""
    outcome = Outcome("kill -9 at a write boundary", bench.name)
    for at in boundaries:
        bench.trial.start_anew()
        code = bench.trial.run(Fault(at))
        torn = bench.trial.tear()
        outcome.injected += 1
        what = f"boundary {at} ({bench.trial.writes[-1]}{', torn' if torn else ''})"
        if code != -signal.SIGKILL:
            outcome.failures.append(f"{what}: exit code {code}")
        else:
            bench.finish(outcome, what)
    return outcome


def failing_writes(
    bench: Bench, error: int, *, fault: str, says: str, boundaries: Iterable[int]
) -> Outcome:
    """From a write on, all fail with an error of the system."""
    outcome = Outcome(fault, bench.name)
    for at in boundaries:
        bench.trial.start_anew()
        code = bench.trial.run(Fault(at, error))
        what = f"boundary {at} ({bench.trial.writes[-1]})"
        if error == errno.ENOENT and bench.trial.writes[at - 1][1].endswith(".lock"):
            continue  # filelock takes that for a lock that is just being given back
        if code:  # else only removals were left
            outcome.injected += 1
            bench.ended(outcome, what, code, expected=1, says=says)
        bench.finish(outcome, what)
    return outcome


def interrupts(bench: Bench, *, number: int, rng: np.random.Generator) -> Outcome:
    """SIGINT at random moments after the start."""
    outcome = Outcome("SIGINT at a random moment", bench.name)
    trial = bench.trial
    while outcome.injected < number:
        trial.start_anew()
        process = trial.start()
        _wait_for(lambda: bool(trial.writes))
        if ended_within(process, rng.uniform(0, 0.9 * bench.seconds)) is None:
            _send(process, signal.SIGINT)
        code = ended(process)
        if code == 0:  # it was through
            continue
        outcome.injected += 1
        bench.ended(
            outcome, "SIGINT", code, expected=_INTERRUPTED, says="run the same command to go on"
        )
        bench.finish(outcome, "SIGINT")
    return outcome


def two_at_once(bench: Bench, *, number: int, rng: np.random.Generator) -> Outcome:
    """A second run while the first one has stopped in the middle."""
    outcome = Outcome("a second run in the same folder", bench.name)
    trial = bench.trial
    while outcome.injected < number:
        trial.start_anew()
        process = trial.start()
        _wait_for(lambda: bool(trial.writes))
        if ended_within(process, rng.uniform(0.1, 0.6) * bench.seconds) is not None:
            continue
        _send(process, signal.SIGSTOP)
        second = trial.run()
        _send(process, signal.SIGCONT)
        first = ended(process)
        if second == 0:  # the first one was between two steps, or through
            continue
        outcome.injected += 1
        bench.ended(outcome, "second run", second, expected=2, says="another run writes to")
        if first:
            outcome.failures.append(f"first run: exit code {first}")
        bench.finish(outcome, "afterwards")
    return outcome


def injected(bench: Bench, injection: str, *, fault: str, code: int, says: str) -> Outcome:
    """One of `tests.faults.injections` in the run."""
    outcome = Outcome(fault, bench.name, injected=1)
    bench.trial.start_anew()
    ended = bench.trial.run(injection=injection)
    bench.ended(outcome, injection, ended, expected=code, says=says)
    bench.finish(outcome, injection)
    return outcome


def full_disk(bench: Bench, sizes_kb: Iterable[int]) -> Outcome:
    """A disk (tmpfs) of few kilobytes; then room is made. Needs root."""
    outcome = Outcome("full disk (a real one)", bench.name)
    for size in sizes_kb:
        bench.trial.start_anew()
        with _mounted(bench, "-t", "tmpfs", "-o", f"size={size}k", "tmpfs") as work:
            code = bench.trial.run()
            if code == 0:  # it was large enough
                continue
            outcome.injected += 1
            bench.ended(outcome, f"{size} kB", code, expected=1, says="No space left on device")
            _mount("-o", "remount,size=64m", work)
            bench.finish(outcome, f"{size} kB")
    return outcome


def read_only(bench: Bench) -> Outcome:
    """A disk that is mounted read-only. Needs root."""
    outcome = Outcome("read-only folder (a real one)", bench.name, injected=1)
    bench.trial.start_anew()
    with _mounted(bench, "-t", "tmpfs", "-o", "ro,size=64m", "tmpfs") as work:
        code = bench.trial.run()
        bench.ended(outcome, "read-only", code, expected=1, says="Read-only file system")
        _mount("-o", "remount,rw", work)
        bench.finish(outcome, "read-only")
    return outcome


def vanished(bench: Bench, part: str, *, number: int, rng: np.random.Generator) -> Outcome:
    """The disk of ``inputs`` or ``work`` is unmounted in mid-run, then mounted again; root only."""
    outcome = Outcome(f"{part} unmounted in mid-run", bench.name)
    trial, place = bench.trial, bench.trial.folder / part
    disk = bench.trial.folder / "disk"
    while outcome.injected < number:
        trial.start_anew()
        place.rename(disk)
        place.mkdir()
        _mount("--bind", str(disk), str(place))
        process = trial.start()
        _wait_for(lambda: bool(trial.writes))
        ended_within(process, rng.uniform(0, 0.7) * bench.seconds)
        subprocess.run(["umount", "-l", str(place)], check=True)
        code = ended(process)
        shutil.rmtree(place)  # what was written where nothing was mounted any more
        disk.rename(place)
        if code == 0:
            continue
        outcome.injected += 1
        # Between two commands it is the next one's config that is not there any more: exit code 2.
        bench.ended(outcome, part, code, expected=range(1, 3), says="error: ")
        bench.finish(outcome, part)
    return outcome


def _send(process: BaseProcess, number: signal.Signals) -> None:
    assert process.pid is not None
    with suppress(ProcessLookupError):  # it has just ended
        os.kill(process.pid, number)


@contextmanager
def _mounted(bench: Bench, *options: str) -> Iterator[str]:
    """Mount something as ``work``."""
    work = str(bench.trial.folder / "work")
    _mount(*options, work)
    try:
        yield work
    finally:
        subprocess.run(["umount", "-l", work], check=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _wait_for(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
