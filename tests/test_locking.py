import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from detal.errors import ConfigError, StoreError
from detal.locking import lock_beside, locked

ROOT = Path(__file__).resolve().parents[1]
HOLD = (
    "import sys\nfrom pathlib import Path\nfrom detal.locking import locked\n"
    "with locked(Path(sys.argv[1]), work=Path('out')):\n"
    "    print('held', flush=True)\n    sys.stdin.read()\n"
)


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return lock_beside(tmp_path / "new" / "out")


def hold_elsewhere(lock: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_another_process_is_named_and_its_death_gives_the_lock_back(lock: Path) -> None:
    process = hold_elsewhere(lock)
    by = rf"writes to out \(process {process.pid} on .* since 20"
    with pytest.raises(ConfigError, match=by), locked(lock, work=Path("out")):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert lock.exists()
    with locked(lock, work=Path("out")):
        pass


def test_a_thread_may_hold_it_twice_and_another_one_not(lock: Path) -> None:
    refused: list[ConfigError] = []

    def try_it() -> None:
        try:
            with locked(lock, work=Path("out")):
                pass
        except ConfigError as error:
            refused.append(error)

    with locked(lock, work=Path("out")), locked(lock, work=Path("out")):
        other = threading.Thread(target=try_it)
        other.start()
        other.join()
    assert len(refused) == 1
    try_it()
    assert len(refused) == 1


def test_waiting(lock: Path, caplog: pytest.LogCaptureFixture) -> None:
    process = hold_elsewhere(lock)
    end = threading.Timer(0.3, process.kill)
    end.start()
    with locked(lock, work=Path("out"), wait=True):
        assert f"waiting for another run that writes to out (process {process.pid}" in caplog.text
    process.communicate()


def test_a_folder_that_cannot_be_made_or_goes_away(tmp_path: Path, lock: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StoreError, match="must be in a folder that can be written to"),
        locked(tmp_path / "file" / "new" / ".lock", work=Path("out")),
    ):
        pass
    with locked(lock, work=Path("out")):
        lock.unlink()
        with pytest.raises(StoreError, match="went away"), locked(lock, work=Path("out")):
            pass
