"""Interrupts, and processes that are killed, in processes of their own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from detal.errors import WorkerError
from detal.runs.workers import process_tasks

ROOT = Path(__file__).resolve().parents[1]
UNITS = (
    "import time\nfrom detal.runs.workers import process_tasks\n"
    "if __name__ == '__main__':\n"
    "    with process_tasks(1) as run:\n"
    "        for seconds in (0, 60):\n"
    "            for _ in run([(time.sleep, seconds)]):\n"
    "                print('one is done', flush=True)\n"
)
TWICE = (
    "import time\nfrom detal.interrupts import interruptible\n"
    "with interruptible():\n"
    "    try:\n        print('on', flush=True)\n        time.sleep(60)\n"
    "    except KeyboardInterrupt:\n        print('once', flush=True)\n        time.sleep(60)\n"
)


def start(code: str, folder: Path) -> subprocess.Popen[str]:
    file = folder / "program.py"
    file.write_text(code)
    return subprocess.Popen(
        [sys.executable, str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    )


def says(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == f"{line}\n"


def children(pid: int) -> list[int]:
    """Processes that a process started, the tracker of Python's resources left out."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(c) for c in found if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()]


def is_gone(pid: int) -> bool:
    for _ in range(300):
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return False


def test_the_second_interrupt_ends_it_at_once(tmp_path: Path) -> None:
    process = start(TWICE, tmp_path)
    says(process, "on")
    process.send_signal(signal.SIGINT)
    says(process, "once")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["kill", "interrupt"])
def test_workers_end_with_their_parent(tmp_path: Path, number: signal.Signals) -> None:
    process = start(UNITS, tmp_path)
    says(process, "one is done")
    workers = children(process.pid)
    assert len(workers) == 1
    process.send_signal(number)
    process.communicate(timeout=30)
    assert is_gone(workers[0])


def test_a_killed_worker_is_an_error_that_says_what_to_do() -> None:
    refused = pytest.raises(WorkerError, match=r"memory ran out with 1 of them: take fewer workers")
    with refused, process_tasks(1) as run:
        list(run([(os._exit, 1)]))
