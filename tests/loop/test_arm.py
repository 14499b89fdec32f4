"""The rounds of an arm, on a few images of the embedded sandbox and two training steps a round."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detal.config import SimulateConfig, StrategyConfig
from detal.datasets import Dataset, open_dataset
from detal.errors import DataError
from detal.loop import arm
from detal.loop.arm import Study, arm_folder, initial_folder, open_study, run_arm, run_initial
from detal.loop.simulate import run_simulation
from detal.loop.summary import read_points, write_summary
from detal.strategies import make_strategy
from detal.structures import Budget
from tests.runs.factories import scored_pool

SANDBOX = Path(__file__).resolve().parents[2] / "data" / "sandbox"
RANDOM = StrategyConfig(name="random")


def config(output: Path, **changes: Any) -> SimulateConfig:
    values: dict[str, Any] = {
        "pool": {"path": str(SANDBOX / "seed.json")},
        "test": {"path": str(SANDBOX / "reference.json")},
        "initial": {"amount": 6},
        "training": {
            "init": str(SANDBOX / "yolo_seed.pt"),
            "steps": 2,
            "image_size": 64,
            "batch_size": 2,
        },
        "strategies": ["random", {"name": "entropy", "label": "mean", "aggregation": "mean"}],
        "seeds": [0],
        "rounds": 2,
        "budget": {"amount": 12, "unit": "boxes"},
        "output": str(output),
        **changes,
    }
    return SimulateConfig.model_validate(values)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    opened = open_study(config(tmp_path / "study"))
    few = np.arange(24)
    return replace(opened, pool=opened.pool.take(few), thumbs=opened.thumbs[few])


def results(output: Path) -> dict[str, Any]:
    found = {}
    for path in sorted(output.rglob("result.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        del result["timings"]
        found[str(path.parent.relative_to(output))] = result
    return found


def test_rounds_spend_the_true_budget_and_an_interrupted_arm_goes_on_to_the_same_result(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = Path(study.config.output)
    run_initial(study, 0)
    run_arm(study, RANDOM, 0)
    first, second = (
        json.loads((arm_folder(output, RANDOM, 0) / f"round-{r}" / "result.json").read_text())
        for r in (1, 2)
    )
    start = json.loads((initial_folder(output, 0) / "result.json").read_text())
    assert start["images"] == 6
    assert 0 < first["boxes"] - start["boxes"] <= 12
    assert 0 < second["boxes"] - first["boxes"] <= 12
    assert {start["steps"], first["steps"], second["steps"]} == {2}

    again = replace(study, config=config(tmp_path / "again"))

    def stop(*_args: object, **_kwargs: object) -> None:
        raise KeyboardInterrupt

    run_initial(again, 0)
    with monkeypatch.context() as patch:
        patch.setattr(arm, "coco_metrics", stop)
        with pytest.raises(KeyboardInterrupt):
            run_arm(again, RANDOM, 0)
    assert "arms/random/seed-0/round-1" not in results(tmp_path / "again")
    run_arm(again, RANDOM, 0)
    assert results(tmp_path / "again") == results(output)

    points = read_points(output)
    assert points["round"].to_list() == [0, 1, 2]
    summary = write_summary(output)
    assert summary["seeds"] == [0]
    assert (output / "curves.svg").stat().st_size > 1000


def test_no_image_is_labelled_twice_and_an_exhausted_pool_ends_the_arm(
    study: Study, caplog: pytest.LogCaptureFixture
) -> None:
    output = Path(study.config.output)
    small = replace(study, pool=study.pool.take(np.arange(8)), thumbs=study.thumbs[:8])
    small = replace(small, config=config(output, budget={"amount": 1000, "unit": "boxes"}))
    run_initial(small, 0)
    run_arm(small, RANDOM, 0)
    labeled = [
        image_id
        for path in output.rglob("labeled.json")
        for image_id in json.loads(path.read_text(encoding="utf-8"))
    ]
    assert sorted(labeled) == sorted(small.pool.image_ids)
    assert not (arm_folder(output, RANDOM, 0) / "round-2" / "result.json").exists()
    assert "nothing is left to label" in caplog.text


class TestLabelWithinBudget:
    """Four images with 1, 2, 3 and 4 true boxes; the detector expects 0.1 to 0.4."""

    @pytest.fixture
    def pool(self, tmp_path: Path) -> Any:
        return scored_pool(
            tmp_path / "pool",
            ["a", "b", "c", "d"],
            ["h0", "h1", "h2", "h3"],
            labels=[[0], [0] * 2, [0] * 3, [1] * 4],
        )

    @pytest.mark.parametrize(
        ("budget", "rows"),
        [
            pytest.param(Budget(2, "images"), [3, 2], id="images"),
            pytest.param(Budget(7, "boxes"), [3, 2], id="boxes-to-the-last"),
            pytest.param(Budget(8, "boxes"), [3, 2], id="the-first-that-does-not-fit-ends-it"),
            pytest.param(Budget(3, "boxes"), [], id="not-even-the-first"),
            pytest.param(Budget(100, "boxes"), [3, 2, 1, 0], id="everything"),
        ],
    )
    def test_box_count_takes_the_crowded_first(
        self, pool: Any, budget: Budget, rows: list[int], rng: np.random.Generator
    ) -> None:
        labelled = arm.label_within_budget(
            pool, [], strategy=make_strategy("box_count"), budget=budget, rng=rng
        )
        assert labelled.tolist() == rows

    def test_what_is_labelled_is_left_out(self, pool: Any, rng: np.random.Generator) -> None:
        labelled = arm.label_within_budget(
            pool, [3, 0], strategy=make_strategy("box_count"), budget=Budget(9, "images"), rng=rng
        )
        assert labelled.tolist() == [2, 1]


def test_a_pool_without_annotations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="needs annotations"):
        open_study(config(tmp_path, pool={"path": str(SANDBOX / "pool.json")}))


def test_other_classes_in_the_test_set_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def renamed(path: Any, **options: Any) -> Dataset:
        dataset = open_dataset(path, **options)
        if "reference" in str(path):
            return replace(dataset, class_names=dataset.class_names[::-1])
        return dataset

    monkeypatch.setattr("detal.runs.building.open_dataset", renamed)
    with pytest.raises(DataError, match="same classes in the same order"):
        open_study(config(tmp_path))


@pytest.mark.slow
def test_a_study_in_processes_can_be_extended_but_not_changed(tmp_path: Path) -> None:
    from detal.errors import ConfigError

    small = config(tmp_path / "study", rounds=1, strategies=["random"], workers=2)
    done: list[tuple[int, int]] = []
    run_simulation(small, progress=lambda *counts: done.append(counts))
    assert (done[0], done[-1]) == ((0, 2), (2, 2))
    before = results(tmp_path / "study")
    summary = run_simulation(small.model_copy(update={"rounds": 2}))
    after = results(tmp_path / "study")
    assert len(after) == 3
    assert {name: after[name] for name in before} == before
    assert len(summary["strategies"]["random"]["points"]) == 3
    other = small.model_copy(update={"budget": small.budget.model_copy(update={"amount": 5})})
    with pytest.raises(ConfigError, match="another budget"):
        run_simulation(other)
