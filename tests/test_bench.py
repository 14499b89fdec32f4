"""The figures that benchmarks commit."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from detal.config import SimulateConfig, load_config
from detal.loop.summary import write_summary
from tests.loop.test_summary import write_result

ROOT = Path(__file__).resolve().parents[1]


def load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Three seeds of two strategies."""
    for seed in (0, 1, 2):
        write_result(tmp_path / "initial" / f"seed-{seed}", boxes=60, mean_ap=0.1)
        for name, gain in (("random", 0.1), ("core_set", 0.2)):
            folder = tmp_path / "arms" / name / f"seed-{seed}" / "round-1"
            write_result(folder, boxes=120, mean_ap=0.1 + gain)
    run = {"commit": "abc", "machine": {"cores": 2, "processor": "x"}, "seconds": 60.0}
    (tmp_path / "runs.json").write_text(json.dumps([{**run, "trainings": 9}]))
    return tmp_path


def test_a_study_becomes_a_result_file_and_a_table(study: Path) -> None:
    config = load_config(
        SimulateConfig, ROOT / "configs/bench/sandbox_quick.yaml", [f"output={study}", "rounds=1"]
    )
    bench, readme = load("tools/bench/al_quality.py"), load("tools/readme_tables.py")
    result = json.loads(json.dumps(bench.result_of(config, write_summary(study))))
    assert result["seeds"] == [0, 1, 2]
    core_set = result["strategies"]["core_set"]
    assert core_set["curve"][1] == {
        "seed": 0,
        "round": 1,
        "images": 60,
        "boxes": 120,
        "seconds": 840.0,
        "steps": 10,
        "mAP": 0.3,
        "mAP50": 0.45,
        "rare_third_AP": None,
    }
    assert core_set["area"]["boxes"]["mean_ap"]["mean"] == pytest.approx(0.2)
    assert core_set["boxes_to_reach_random"]["boxes"] == pytest.approx([90.0] * 3)
    rows = [row for row in readme.quality_table(result).splitlines() if row.startswith("| `")]
    assert rows[0].startswith("| `core_set` | 20.0 [20.0, 20.0] | +5.0 [+5.0, +5.0] |")
    assert "9 trainings in 1 minutes" in readme.quality_table(result)


def test_agent_table_and_sections() -> None:
    bench, readme = load("tools/bench/agent.py"), load("tools/readme_tables.py")
    for section, jobs in bench.SECTIONS.items():
        labels = [tuple(label.items()) for label, _ in jobs()]
        assert len(set(labels)) == len(labels) > 0, section
    shares = {"to_greedy": 1.05, "random_to_greedy": 0.9, "with_swaps_to_greedy": 1.1}
    tiny = {"instance": "tiny", "to_optimum": 1.0, "greedy_to_optimum": 0.95, **shares}
    wide = {"images": 1000, "budget": 30, "unit": "boxes", **shares}
    result = {
        "small": [tiny, {**tiny, "to_greedy": 0.99, "to_optimum": 0.98}],
        "large": [wide],
        "ablations": [
            {"variant": "default", "seed": seed, "misled": misled, "pool": 1.0}
            for seed, misled in enumerate((1.0, 1.2))
        ],
        "machine": {"cores": 2, "processor": "x"},
        "commit": "abc",
        "command": "python",
    }
    rows = readme.agent_table(result).splitlines()
    assert rows[2] == "| tiny | 102.0 | 99.0 | 90.0 | 110.0 | 98.0 | 95.0 |"
    assert rows[3] == "| 30 boxes of 1,000 images | 105.0 | 105.0 | 90.0 | 110.0 |  |  |"
    assert "| default | 110.0 | 100.0 |" in rows


def test_arms_of_several_files_are_one_study(tmp_path: Path) -> None:
    bench = load("tools/bench/agent.py")
    study = {"rounds": 1, "seeds": [0], "budget": {}, "command": "python", "commit": "abc"}
    files = []
    for name, start, end in (("random", 0.1, 0.2), ("mgral", 0.1, 0.3), ("ppal", 0.15, 0.3)):
        curve = [
            {"seed": 0, "round": r, "boxes": 60.0 * (r + 1), "mAP": ap, "rare_third_AP": ap}
            for r, ap in enumerate((start, end))
        ]
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps({**study, "strategies": {name: {"curve": curve}}}))
    joined = bench.true_map(files[:2])["strategies"]
    assert joined["mgral"]["mAP"] == pytest.approx(0.2)
    assert joined["mgral"]["minus"]["random"]["mean"] == pytest.approx(0.05)
    with pytest.raises(SystemExit, match="start from the same models"):
        bench.true_map(files)


def test_every_selection_of_the_bench_is_measured(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools" / "bench"))
    selection, scale = load("tools/bench/selection.py"), load("tools/bench/scale.py")
    monkeypatch.setattr(selection.synthetic, "LABELED", 30)
    monkeypatch.setattr(selection.synthetic, "REFERENCE", 20)
    selection.write(tmp_path, 200)
    pool, opened = selection.open_pool(tmp_path, 200)
    assert len(pool) == 200
    assert opened["peak_mb"] > 0
    names = ("random", "core_set", "cald", "committee", "variant_greedy", "change_greedy")
    for name in names:
        cost = selection.choose(pool, selection.strategy_of(name, tmp_path), 10)
        assert cost["cpu_s"] > 0
    made_up = {"cpu_s": 1.0, "wall_s": 1.0, "peak_mb": 500}
    costs = {"100": {"random": made_up}, "10000": {"random": made_up | {"cpu_s": 10.0}}}
    found = scale.slopes(costs)["random"]
    assert found == {"from": 100, "to": 10000, "cpu": 0.5, "memory": 0.0}


def test_the_summary_names_what_was_measured_and_what_was_not(tmp_path: Path) -> None:
    summary = load("tools/bench/summary.py")
    said = summary.table(ROOT / "data" / "results")
    assert "scikit-learn's" in said
    assert "textbook k-centre" in said
    assert "Not measured" not in said
    assert "Not measured: scoring, scoring_cpu, store" in summary.table(tmp_path)
