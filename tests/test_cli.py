"""The verbs that `tests/runs` does not run: what they print, and how they end."""

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest

from detal.cli import main
from detal.review import open_session
from tests.loop.test_study_report import write_study
from tests.reward.factories import group_gains
from tests.runs.run_folders import write_run

ROOT = Path(__file__).resolve().parents[1]


def detal(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    code = caught.value.code
    return (code if isinstance(code, int) else 0), captured.out, captured.err


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Two images, the second one cut off."""
    folder = tmp_path / "pool"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, size=(32, 32, 3), dtype=np.uint8)
    data = cv2.imencode(".jpg", pixels)[1].tobytes()
    (folder / "a.jpg").write_bytes(data)
    (folder / "b.jpg").write_bytes(data[: len(data) // 2])
    return folder


def test_check_names_what_is_wrong(
    pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = detal(capsys, "check", pool, "--output", tmp_path / "problems.csv")
    assert code == 1
    assert "2 images" in out
    assert "b.jpg" in (tmp_path / "problems.csv").read_text()


def test_check_as_json(pool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = detal(capsys, "check", pool, "--json")
    report = json.loads(out)
    assert (code, report["images"], report["boxes"]) == (1, 2, None)
    assert [Path(problem["file"]).name for problem in report["problems"]] == ["b.jpg"]


def test_check_of_a_good_set(pool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (pool / "b.jpg").unlink()
    code, out, _ = detal(capsys, "check", pool)
    assert (code, "no problems" in out) == (0, True)


def test_show_config_prints_absolute_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = detal(capsys, "show-config", "pool=here", "output=out")
    assert code == 0
    assert f"path: {tmp_path / 'here'}" in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(["show-config", "pool=x", "output=y", "sead=1"], 2, "seed", id="config"),
        pytest.param(["check", "nowhere.json"], 1, "nowhere.json", id="data"),
        pytest.param(["selct"], 2, "selct", id="verb"),
        pytest.param(["curves", "nowhere"], 1, "no finished round", id="study"),
        pytest.param(["report", "nowhere"], 1, "written by detal select", id="report"),
        pytest.param(["review", "nowhere"], 1, "written by detal select", id="review"),
    ],
)
def test_mistakes_end_with_a_message(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, out, err = detal(capsys, *arguments)
    assert ended == code
    assert message in err
    assert not out


def test_debug_shows_where_it_happened(capsys: pytest.CaptureFixture[str]) -> None:
    from detal.errors import ConfigError

    with pytest.raises(ConfigError, match="pool is required"):
        main(["show-config", "--debug"])
    capsys.readouterr()


def test_help_needs_no_torch() -> None:
    code = (
        "import sys\n"
        "sys.argv = ['detal', '--help']\n"
        "from detal.cli import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit:\n"
        "    pass\n"
        "sys.exit('torch' in sys.modules or 'ultralytics' in sys.modules)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "select" in result.stdout


def test_tables_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from detal.reward import FittedCurves

    FittedCurves.fit(
        ("cat", "dog"),
        counts=np.array([[5.0, 5], [50, 50]]),
        ap=np.array([[0.1, 0.2], [0.4, 0.3]]),
        labeled_counts=np.array([50.0, 50]),
        made_of={},
    ).save(tmp_path / "table")
    picture = tmp_path / "b.png"
    code, out, _ = detal(capsys, "tables", "show", tmp_path / "table", "--output", picture)
    assert code == 0
    assert "10 more objects add" in out
    assert picture.stat().st_size > 1000
    code, out, _ = detal(capsys, "tables", "show", tmp_path / "table", "--json")
    assert [row["class"] for row in json.loads(out)["curves"]] == ["cat", "dog"]
    group_gains([[0.6, 0.5, 0.5], [0.5, 0.5, 0.5]], [[0.5, 0.5, 0.5]] * 2).save(tmp_path / "table")
    code, out, _ = detal(capsys, "tables", "show", tmp_path / "table")
    assert code == 0
    assert "+3.33" in out
    assert str(tmp_path / "table" / "groups.png") in out.replace("\n", "")
    code, out, _ = detal(capsys, "tables", "show", tmp_path / "table", "--json")
    assert [row["group"] for row in json.loads(out)["groups"]] == [1, 2]
    code, _, err = detal(capsys, "tables", "show", tmp_path)
    assert (code, "detal tables build" in err) == (1, True)


def test_report_and_review(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run")
    code, out, _ = detal(capsys, "report", run, "-o", tmp_path / "r.html")
    assert (code, f"report: {tmp_path / 'r.html'}" in out) == (0, True)
    with open_session(run) as session:
        session.decide(0, "rejected")
    code, out, _ = detal(capsys, "review", run, "--export")
    assert (code, "run-reviewed (5 images)" in out) == (0, True)


def test_report_of_a_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = detal(capsys, "report", write_study(tmp_path / "study"))
    assert (code, "study/report.html" in out) == (0, True)


def test_review_serves_until_interrupted(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "detal", "review", str(write_run(tmp_path / "run"))]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    address = process.stdout.readline().removeprefix("review: ").strip()
    with urllib.request.urlopen(address, timeout=20) as answer:
        assert b"6 images to label next" in answer.read()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "6 images are kept so far" in out
    assert "Traceback" not in err
