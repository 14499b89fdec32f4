"""The main job from end to end, on the embedded sandbox, through the command line."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from detal.runs.run_folder import read_run
from detal.runs.run_report import write_run_report

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "sandbox.yaml"


def command(*arguments: object) -> list[str]:
    return [sys.executable, str(ROOT / "tools" / "select.py"), *map(str, arguments)]


def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, cwd=cwd, check=False)


def selection(output: Path) -> list[dict[str, str]]:
    with (output / "selection.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def files_without_timings(output: Path) -> dict[str, bytes]:
    """Every file of a run; of run.json what does not depend on when and how fast it ran."""
    contents = {}
    for path in sorted(output.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            if path.name == "run.json":
                record = json.loads(data)
                del record["timings"]
                data = json.dumps(record, sort_keys=True).encode()
            elif path.name == ".detal.json":  # digests of the other files, run.json among them
                continue
            contents[str(path.relative_to(output))] = data
    return contents


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished run over the sandbox, and its store beside it."""
    folder = tmp_path_factory.mktemp("run with space ü")
    result = run("--config", CONFIG, "output=out", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert str(folder / "out") in result.stdout
    return folder


def test_the_batch_fits_the_budget(demo: Path) -> None:
    rows = selection(demo / "out")
    record = json.loads((demo / "out" / "run.json").read_text())
    assert len({row["image_id"] for row in rows}) == len(rows) > 5
    assert record["spent"] <= 120
    assert record["counts"]["selected"] == len(rows)
    assert all(row["reason"] for row in rows)


def test_the_picture_is_a_picture(demo: Path) -> None:
    picture = cv2.imread(str(demo / "out" / "contact_sheet.png"))
    assert picture is not None
    assert picture.std() > 10


def test_what_the_report_needs_is_kept(demo: Path) -> None:
    found = read_run(demo / "out")
    assert found.kept is not None
    assert len(found.reserve) >= 8
    assert not {*found.batch.selection.image_ids} & {*found.reserve.selection.image_ids}
    assert len(found.kept.selected) == len(found.batch) + len(found.reserve)
    assert (len(found.kept.pool), len(found.kept.labeled)) == (360, 100)
    page = write_run_report(demo / "out", demo / "report.html").read_text(encoding="utf-8")
    assert f"{len(found.batch)} images to label next" in page


def test_a_reference_set_is_scored_and_counted(demo: Path) -> None:
    result = run(
        *("--config", CONFIG, "output=held_out", "strategy=change_greedy"),
        f"reference={ROOT}/data/sandbox/reference.json",
        cwd=demo,
    )
    assert result.returncode == 0, result.stderr
    record = json.loads((demo / "held_out" / "run.json").read_text())
    assert record["counts"]["reference"] == 80
    assert record["counts"]["excluded"]["reference_content"] == 0
    assert record["timings"]["scored_now"] == 80
    rows = selection(demo / "held_out")
    assert len(rows) > 5
    assert all("points of mAP" in row["reason"] for row in rows)


def test_another_strategy_needs_no_inference(demo: Path) -> None:
    result = run(
        *("--config", CONFIG, "strategy=class_quota", "strategy.quotas={eight: 500}"),
        *(f"output={demo / 'other'}", "--json"),
    )
    assert result.returncode == 0, result.stderr
    record = json.loads(result.stdout)
    assert record["timings"]["scored_now"] == 0
    assert record["timings"]["read_from_store"] > 100
    assert record["notes"][0].startswith("quotas add up to 500 objects")
    assert record["notes"][1].startswith("the pool does not hold the quota of eight (about")
    assert json.loads((demo / "other" / "run.json").read_text())["notes"] == record["notes"]


def test_what_a_strategy_says_is_shown_and_kept(demo: Path) -> None:
    quick = ("strategy.imitation=2", "strategy.iterations=1", "strategy.shortlist=1")
    result = run("--config", CONFIG, "strategy.name=mgral", *quick, "output=agent", cwd=demo)
    assert result.returncode == 0, result.stderr
    [note] = json.loads((demo / "agent" / "run.json").read_text(encoding="utf-8"))["notes"]
    assert "points of mAP by the table" in note
    assert "greedy's" in note
    assert note in result.stderr
    page = write_run_report(demo / "agent").read_text(encoding="utf-8")
    assert "points of mAP by the table" in page


def test_views_are_scored_once_and_recorded(demo: Path) -> None:
    arguments = ["-c", CONFIG, "strategy=cald", "strategy.views=[flip, rotate]"]
    for again in (False, True):
        result = run(*arguments, f"output={demo / 'views'}", "--json")
        assert result.returncode == 0, result.stderr
        record = json.loads(result.stdout)
        assert [part["name"] for part in record["passes"]] == ["own", "flip", "rotate"]
        scored = [part["scored_now"] for part in record["timings"]["passes"]]
        pool = record["counts"]["pool"]
        assert scored == ([0, 0, 0] if again else [0, pool, pool])
    assert any("inconsistency" in row["reason"] for row in selection(demo / "views"))


def test_the_same_seed_gives_the_same_run(demo: Path) -> None:
    store = f"store={demo / 'detal_store'}"
    outputs = []
    for seed in (3, 3, 4):
        output = demo / "seeded"
        result = run("-c", CONFIG, "strategy=random", f"seed={seed}", store, f"output={output}")
        assert result.returncode == 0, result.stderr
        outputs.append(files_without_timings(output))
    assert outputs[0] == outputs[1]
    assert outputs[0]["selection.csv"] != outputs[2]["selection.csv"]


@pytest.mark.slow
def test_killed_runs_go_on_to_the_same_result(demo: Path, tmp_path: Path) -> None:
    arguments = ["-c", CONFIG, "shard_size=16", "batch_size=4", "output=out"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    result = run(*arguments, cwd=whole)
    assert result.returncode == 0, result.stderr

    draw = random.Random(0)
    progress = []
    for _ in range(10):
        process = subprocess.Popen(command(*arguments), cwd=broken, stderr=subprocess.DEVNULL)
        shards = _shards(broken)
        # Wait until this run has finished a shard of its own, then kill at a random moment.
        while process.poll() is None and _shards(broken) == shards:
            time.sleep(0.01)
        time.sleep(draw.random() * 0.3)
        process.send_signal(signal.SIGKILL)
        process.wait()
        progress.append(_shards(broken))
    assert progress == sorted(progress)
    assert progress[-1] > progress[0]

    result = run(*arguments, cwd=broken)
    assert result.returncode == 0, result.stderr
    expected = _relocated(files_without_timings(whole / "out"), whole)
    assert _relocated(files_without_timings(broken / "out"), broken) == expected


def test_an_interrupt_says_that_work_is_kept(tmp_path: Path) -> None:
    arguments = command("-c", CONFIG, "shard_size=8", "output=out")
    process = subprocess.Popen(arguments, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not _shards(tmp_path):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command to go on" in stderr
    assert "Traceback" not in stderr


def _shards(folder: Path) -> int:
    return len([p for p in folder.glob("detal_store/*/*.parquet") if "boxes" not in p.name])


def _relocated(files: dict[str, bytes], folder: Path) -> dict[str, bytes]:
    """The two runs lie in two folders; their own path is the one thing that may differ."""
    return {name: data.replace(str(folder).encode(), b"HERE") for name, data in files.items()}


class TestOddPools:
    WEIGHTS = ROOT / "data" / "sandbox" / "yolo_seed.pt"

    def select(self, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
        return run(
            f"pool={folder / 'pool'}", f"detector={self.WEIGHTS}", f"output={folder / 'out'}", *more
        )

    @staticmethod
    def write(folder: Path, *names: str) -> None:
        (folder / "pool").mkdir(exist_ok=True)
        draw = np.random.default_rng(0)
        for name in names:
            pixels = draw.integers(0, 255, size=(48, 64, 3), dtype=np.uint8)
            data = cv2.imencode(".png", pixels)[1]
            (folder / "pool" / name).write_bytes(data.tobytes())

    def test_names_with_spaces_and_other_scripts_and_a_large_budget(self, tmp_path: Path) -> None:
        self.write(tmp_path, "a b.png", "żółć.png", "写真.png")
        (tmp_path / "pool" / "broken.jpg").write_bytes(b"not an image")
        result = self.select(tmp_path, "budget=50")
        assert result.returncode == 0, result.stderr
        chosen = {Path(row["path"]).name for row in selection(tmp_path / "out")}
        assert chosen == {"a b.png", "żółć.png", "写真.png"}
        assert "broken.jpg" in (tmp_path / "out" / "quarantine.csv").read_text()
        assert "1 unreadable" in result.stdout

    def test_empty_pool(self, tmp_path: Path) -> None:
        (tmp_path / "pool").mkdir()
        result = self.select(tmp_path)
        assert result.returncode == 1
        assert "pool" in result.stderr
        assert "Traceback" not in result.stderr

    def test_every_image_broken(self, tmp_path: Path) -> None:
        (tmp_path / "pool").mkdir()
        for name in ("a.jpg", "b.png"):
            (tmp_path / "pool" / name).write_bytes(b"\x00\x01")
        result = self.select(tmp_path)
        assert result.returncode == 1
        assert "none of the 2 images" in result.stderr
        assert "Traceback" not in result.stderr

    def test_identical_images_are_offered_once(self, tmp_path: Path) -> None:
        self.write(tmp_path, "a.png")
        (tmp_path / "pool" / "b.png").write_bytes((tmp_path / "pool" / "a.png").read_bytes())
        result = self.select(tmp_path, "budget=5")
        assert result.returncode == 0, result.stderr
        assert [row["image_id"] for row in selection(tmp_path / "out")] == ["a.png"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(["pool=nowhere/", "detector=x.pt", "output=o"], 1, "nowhere", id="no-pool"),
        pytest.param([], 2, "pool is required", id="no-arguments"),
        pytest.param(["-c", str(CONFIG), "strategy=entrpy"], 2, "entropy", id="misspelt-strategy"),
        pytest.param(["-c", str(CONFIG), "detector=no.pt"], 1, "no.pt", id="no-weights"),
        pytest.param(["-c", "none.yaml"], 2, "none.yaml", id="no-config"),
    ],
)
def test_user_mistakes_give_one_clear_line(
    tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    result = run(*arguments, cwd=tmp_path)
    assert result.returncode == code, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_python_m_detal_is_the_same_program() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-m", "detal", "show-config", "-c", str(CONFIG), "seed=7"],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert "seed: 7" in result.stdout
    assert str(ROOT / "data" / "sandbox" / "pool.json") in result.stdout
