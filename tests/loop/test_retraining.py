"""Retrainings of batches of the embedded sandbox, two steps each at 64 px."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detal.config import SimulateConfig
from detal.errors import ConfigError
from detal.loop import retraining
from detal.loop.arm import finish_round
from detal.loop.retraining import INITIAL, Retrainings
from tests.loop.test_arm import config
from tests.test_bench import load

NAMES = ("random-0", "crowded")


def work_of(output: Path, names: tuple[str, ...] = NAMES, **changes: Any) -> Retrainings:
    return Retrainings(config=config(output, **changes), seed=3, repeats=2, names=names)


def write(work: Retrainings, name: str, repeat: int, **figures: Any) -> None:
    folder = work.unit_folder(name, repeat)
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(figures))


def test_gains_are_against_the_initial_set_of_the_same_repeat(tmp_path: Path) -> None:
    work = work_of(tmp_path, names=("crowded",))
    assert work.units == [(INITIAL, 0), ("crowded", 0), (INITIAL, 1), ("crowded", 1)]
    assert work.seeds == [3, 4]
    write(work, INITIAL, 0, mean_ap=0.1, class_ap=[0.1, None])
    write(work, INITIAL, 1, mean_ap=0.2, class_ap=[0.2, None])
    write(work, "crowded", 0, mean_ap=0.4, class_ap=[0.3, None])
    assert work.done() == 3
    write(work, "crowded", 1, mean_ap=0.3, class_ap=[0.1, None])
    assert work.gains("mean_ap") == pytest.approx(np.array([[0.3, 0.1]]))
    assert work.gains("class_ap") == pytest.approx(
        np.array([[[0.2, np.nan], [-0.1, np.nan]]]), nan_ok=True
    )
    assert work.unit_folder(INITIAL, 0) == tmp_path / "initial" / "seed-3"


@pytest.mark.parametrize(
    ("changes", "repeats", "message"),
    [
        pytest.param({"budget": {"amount": 5}}, 2, "at equal boxes: budget.unit is images", id="u"),
        pytest.param({}, 1, "repeats must be >= 2", id="repeats"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    tmp_path: Path, changes: dict[str, Any], repeats: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Retrainings(config=config(tmp_path, **changes), seed=0, repeats=repeats, names=NAMES)


def in_this_process(stages: Any, *, runner: Any, progress: Any) -> None:
    for units in stages:
        for function, *arguments in units:
            function(*arguments)
            progress()


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retraining, "run_units", in_this_process)
    whole, stopped = work_of(tmp_path / "whole"), work_of(tmp_path / "stopped")
    whole.run(lambda done, total: None)
    assert whole.done() == 6
    real, trained = finish_round, []

    def finish(study: Any, folder: Path, **options: Any) -> None:
        trained.append(folder)
        if len(trained) == 3:
            raise KeyboardInterrupt
        real(study, folder, **options)

    monkeypatch.setattr(retraining, "finish_round", finish)
    with pytest.raises(KeyboardInterrupt):
        stopped.run(lambda done, total: None)
    # The initial set of repeat 0 is trained by the study's own first round.
    assert stopped.done() == 3
    counted: list[tuple[int, int]] = []
    stopped.run(lambda *counts: counted.append(counts))
    assert counted[0] == (3, 6)
    assert counted[-1] == (6, 6)
    assert len(trained) == 6
    assert stopped.batches() == whole.batches()
    assert np.array_equal(stopped.gains("mean_ap"), whole.gains("mean_ap"))
    runs = json.loads((stopped.folder / "runs.json").read_text())
    assert [run["trainings"] for run in runs] == [3, 3]
    assert not list((stopped.folder / "crowded").rglob("*.pt"))
    for results in whole.results().values():
        assert [result["steps"] for result in results] == [2, 2]
        assert results[0]["boxes"] == results[1]["boxes"]


def test_an_unknown_batch_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown batches"):
        work_of(tmp_path, names=("crowdy",)).run(lambda done, total: None)


@pytest.mark.slow
def test_the_bench_writes_a_result_a_picture_and_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In processes, as a person runs it; a second run trains nothing."""
    settings: SimulateConfig = config(tmp_path / "study", workers=2)
    path = tmp_path / "study.yaml"
    path.write_text(settings.model_dump_json())
    bench, readme = load("tools/bench/fidelity.py"), load("tools/readme_tables.py")
    arguments = ["sandbox", "--config", str(path), "--results", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["fidelity.py", *arguments, "--only", *NAMES])
    bench.main()
    assert "6 of 6 trainings" in capsys.readouterr().err
    written = tmp_path / "out" / "fidelity_sandbox.json"
    first = json.loads(written.read_text())
    bench.main()
    assert json.loads(written.read_text()) == first
    assert len(first["runs"]) == 1
    assert first["training_seeds"] == [0, 1]
    assert [batch["name"] for batch in first["batches"]] == list(NAMES)
    for batch in first["batches"]:
        assert 0 < batch["boxes"] <= 12
        assert len(batch["delta_mAP"]) == 2
        assert set(batch["gains"]) == set(first["tables"])
    assert first["tables"]["true_counts"]["sees_truth"]
    assert first["best"] is None or not first["tables"][first["best"]]["sees_truth"]
    assert written.with_suffix(".png").stat().st_size > 10_000
    assert "2 batches of 12 boxes after" in readme.fidelity_table(first)


def test_the_best_table_is_not_one_that_is_told_the_truth() -> None:
    bench = load("tools/bench/fidelity.py")

    def figures(rho: float | None, *, sees_truth: bool = False) -> dict[str, Any]:
        return {"rho": rho, "sees_truth": sees_truth}

    tables = {"oracle": figures(0.9, sees_truth=True), "a": figures(0.3), "b": figures(None)}
    assert bench.best_table(tables) == "a"
    assert bench.best_table({"b": figures(None)}) is None
