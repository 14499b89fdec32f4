"""``detal score``: every runner fills the store with the same files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from detal.config import SelectConfig, load_config
from detal.runs.score import in_this_process, run_score
from detal.runs.select import run_select
from detal.runs.slices import Slice
from detal.store import Store

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "sandbox.yaml"


def config_of(folder: Path, *overrides: str) -> SelectConfig:
    """The sandbox's labelled images as the pool, shards of 8, in a store of its own."""
    return load_config(
        SelectConfig,
        CONFIG,
        [
            f"pool={ROOT / 'data' / 'sandbox' / 'seed.json'}",
            "labeled=null",
            "budget=5",
            "budget.unit=images",
            "strategy=entropy",
            "dedup.per_group=null",
            "detector.image_size=64",
            "shard_size=8",
            f"output={folder / 'out'}",
            f"store={folder / 'store'}",
            *overrides,
        ],
    )


def files(folder: Path) -> dict[str, bytes]:
    """All files of the store; what a killed process had not finished begins with a dot."""
    store = folder / "store"
    found = [path for path in store.rglob("*") if path.is_file() and path.name[0] != "."]
    return {str(path.relative_to(store)): path.read_bytes() for path in found}


def part(index: int, count: int) -> Any:
    return partial(in_this_process, part=Slice(index, count))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the engine local writes."""
    folder = tmp_path_factory.mktemp("whole")
    (outcome,) = run_score(config_of(folder))
    assert outcome["scored_now"] == outcome["images"] == 100
    assert (outcome["left"], outcome["unreadable"]) == (0, 0)
    return folder


def test_selecting_after_it_scores_nothing(whole: Path) -> None:
    result = run_select(config_of(whole))
    assert result.run["timings"]["scored_now"] == 0
    assert run_score(config_of(whole))[0]["scored_now"] == 0


def test_slices_that_start_at_any_time_write_the_same_files(whole: Path, tmp_path: Path) -> None:
    config = config_of(tmp_path)
    # The second slice sees a shorter list of what is missing than the first one did.
    first, second, third = (run_score(config, runner=part(i, 3))[0] for i in (2, 0, 1))
    assert [first["scored_now"], second["scored_now"], third["scored_now"]] == [32, 36, 32]
    assert (first["left"], first["unreadable"]) == (68, None)
    assert (third["left"], third["unreadable"]) == (0, 0)
    assert files(tmp_path) == files(whole)


def test_a_slice_that_was_killed_goes_on(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, write = config_of(tmp_path), Store.write
    writes: list[int] = []

    def dies(self: Store, *args: Any) -> None:
        if len(writes) == 2:
            raise KeyboardInterrupt
        write(self, *args)
        writes.append(1)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", dies)
        with pytest.raises(KeyboardInterrupt):
            run_score(config, runner=part(0, 2))
    assert run_score(config, runner=part(1, 2))[0]["left"] == 52 - 16
    assert run_score(config, runner=part(0, 2))[0]["scored_now"] == 52 - 16
    assert files(tmp_path) == files(whole)


def test_two_processes_of_torchrun_at_once(whole: Path, tmp_path: Path) -> None:
    overrides = config_of(tmp_path).model_dump_json()
    (tmp_path / "run.yaml").write_text(overrides)
    command = [sys.executable, "-m", "detal", "score", "-c", str(tmp_path / "run.yaml")]
    running = []
    for rank in ("0", "1"):
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "RANK": rank,
            "WORLD_SIZE": "2",
        }
        running.append(
            subprocess.Popen(
                [*command, "--engine", "slice", "--json"],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    told = [json.loads(process.communicate()[0])[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert sorted(outcome["scored_now"] for outcome in told) == [48, 52]
    assert files(tmp_path) == files(whole)


def test_further_passes_and_the_labelled_set_are_scored_too(tmp_path: Path) -> None:
    config = config_of(
        tmp_path,
        "strategy=flip_inconsistency",
        f"labeled={ROOT / 'data' / 'sandbox' / 'reference.json'}",
    )
    pool, labeled = run_score(config)
    assert len(pool["stores"]) == 2
    assert pool["scored_now"] == 200
    assert labeled["scored_now"] == labeled["images"] > 0
    assert run_select(config).run["timings"]["scored_now"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--engine", "dask"], "unknown engine 'dask'", id="unknown"),
        pytest.param(["--engine", "slice"], "RANK and WORLD_SIZE", id="no slice"),
        pytest.param(["--engine", "ray"], "pip install 'detal\\[ray\\]'", id="no Ray"),
    ],
)
def test_engines_that_cannot_be(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from detal.cli import main

    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit, match="2"):
        main(["score", "-c", str(CONFIG), *arguments])
    import re

    assert re.search(message, capsys.readouterr().err)


def test_only_the_engine_ray_imports_ray() -> None:
    code = (
        "import sys, detal.runs.score, detal.runs.select, detal.loop.simulate, detal.cli; "
        "sys.exit('ray' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert done.returncode == 0
