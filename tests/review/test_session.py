import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from detal.errors import ConfigError, DataError
from detal.loop.asked import read_asked
from detal.review import open_session, write_reviewed
from detal.review.session import decisions_file
from detal.runs.run_folder import read_run
from tests.runs.run_folders import as_older, write_run

ROOT = Path(__file__).resolve().parents[2]


def test_a_second_start_goes_on(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    with open_session(folder) as session:
        assert session.decide(1, "replaced") == "#2 rejected, next 1 comes instead"
        session.decide(0, "accepted")
        state = session.state()
    with open_session(folder) as session:
        assert session.state() == state
        assert session.decisions.kept.tolist() == [0, 2, 3, 4, 5, 6]


def test_a_killed_process_loses_nothing(tmp_path: Path) -> None:
    """The child says when a decision was answered, and dies at once."""
    folder = write_run(tmp_path / "run")
    code = (
        "import sys\nfrom pathlib import Path\nfrom detal.review import open_session\n"
        f"with open_session(Path({str(folder)!r})) as session:\n"
        "    for row in range(3):\n"
        "        session.decide(row, 'rejected')\n"
        "    print('done', flush=True)\n    sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "done\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with open_session(folder) as session:
        assert session.decisions.kept.tolist() == [3, 4, 5]


def test_one_review_at_a_time(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")

    def start() -> None:
        with open_session(folder):
            pass

    with ThreadPoolExecutor(1) as pool, open_session(folder):
        other = pool.submit(start)
        with pytest.raises(ConfigError, match=r"another run writes to .*run\.review\.json"):
            other.result()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("{", "as detal review writes it", id="damaged"),
        pytest.param('{"version": 1, "run": "x"}', "another batch", id="other-batch"),
        pytest.param('{"version": 2}', "version 1", id="version"),
    ],
)
def test_decisions_that_do_not_fit(tmp_path: Path, content: str, message: str) -> None:
    folder = write_run(tmp_path / "run")
    decisions_file(folder).write_text(content)
    with pytest.raises(DataError, match=message), open_session(folder):
        pass


def test_the_manifest_holds_what_is_kept(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    with open_session(folder) as session:
        session.decide(1, "replaced")
        session.decide(4, "rejected")
        batch = write_reviewed(session.run, session.decisions)
    assert batch.selection.image_ids == ("id0000", "id0002", "id0003", "id0005", "id0006")
    output = tmp_path / "run-reviewed"
    run = read_run(output)
    assert run.batch.selection.image_ids == batch.selection.image_ids
    assert run.batch.detections.counts.tolist() == [2, 0, 2, 0, 2]
    assert run.batch.selection.reasons[-1] == "reason 0"  # the first of the reserve
    assert [image.image_id for image in run.reserve.images] == ["id0007", "id0008"]
    assert run.kept is not None
    both, owl = [[0, 0.9], [1, 0.5]], [[2, 0.8]]
    found = [[list(pair) for pair in image] for image in run.kept.expected]
    assert found == [both, [], both, [], both, owl, []]
    assert [image.image_id for image in read_asked(output).images] == [*batch.selection.image_ids]
    record = json.loads((output / "run.json").read_text())["review"]
    assert record["rejected"] == ["id0001", "id0004"]
    assert record["replaced_by"] == {"id0001": "id0006"}
    assert (record["accepted"], record["undecided"]) == (0, 5)
    assert (output / "contact_sheet.png").stat().st_size > 1000


def test_an_older_run_can_be_reviewed(tmp_path: Path) -> None:
    folder = as_older(write_run(tmp_path / "run"))
    with open_session(folder) as session:
        assert "no image is left in reserve" in session.decide(0, "replaced")
        assert len(write_reviewed(session.run, session.decisions, tmp_path / "out")) == 5
    assert not (tmp_path / "out" / "report_data").exists()


def test_everything_rejected(tmp_path: Path) -> None:
    with open_session(write_run(tmp_path / "run", count=1, reserve=0)) as session:
        session.decide(0, "rejected")
        with pytest.raises(DataError, match="at least one image must be kept"):
            write_reviewed(session.run, session.decisions)


def test_work_on_a_manifest_is_not_overwritten(tmp_path: Path) -> None:
    with open_session(write_run(tmp_path / "run")) as session:
        write_reviewed(session.run, session.decisions)
        write_reviewed(session.run, session.decisions)  # its own, untouched
        (tmp_path / "run-reviewed" / "coco.json").write_text("{}")
        with pytest.raises(ConfigError, match="were changed since"):
            write_reviewed(session.run, session.decisions)
