"""The rounds of an arm, on a few images of the embedded sandbox and two training steps a round."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pytest

from detal.config import SimulateConfig, StrategyConfig
from detal.datasets import Dataset, open_dataset
from detal.errors import ConfigError, DataError
from detal.loop import arm, choosing, units
from detal.loop import study as study_module
from detal.loop.arm import arm_folder, initial_folder, read_rows, run_arm, run_initial
from detal.loop.choosing import label_within_budget
from detal.loop.oracle import best_random_batch, oracle_loss
from detal.loop.simulate import run_simulation
from detal.loop.study import Study, open_study
from detal.loop.summary import read_points, write_summary
from detal.runs import curve_variants
from detal.runs.pool import candidate_pool
from detal.runs.training import train_detector
from detal.runs.variants import measure as measure_variant
from detal.strategies import QueryStrategy, make_strategy
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
        patch.setattr(study_module, "coco_metrics", stop)
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
        labelled = label_within_budget(
            pool, [], strategy=make_strategy("box_count"), budget=budget, rng=rng
        )
        assert labelled.tolist() == rows

    def test_what_is_labelled_is_left_out(self, pool: Any, rng: np.random.Generator) -> None:
        labelled = label_within_budget(
            pool, [3, 0], strategy=make_strategy("box_count"), budget=Budget(9, "images"), rng=rng
        )
        assert labelled.tolist() == [2, 1]

    def test_what_is_in_the_reference_set_is_left_out(
        self, pool: Any, tmp_path: Path, rng: np.random.Generator
    ) -> None:
        seen = []

        class Spy:
            def query(self, candidates: Any, **options: Any) -> Any:
                seen.append(candidates.reference)
                return make_strategy("box_count").query(candidates, **options)

        labelled = label_within_budget(
            pool,
            [0],
            strategy=cast("QueryStrategy", Spy()),
            budget=Budget(9, "images"),
            rng=rng,
            reference=scored_pool(tmp_path / "r", ["r", "s"], ["h3", "h9"], labels=[[0], [1]]),
        )
        assert labelled.tolist() == [2, 1]
        assert [known.num_images for known in seen] == [2] * len(seen)


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


@pytest.mark.slow
def test_a_torchvision_arm(study: Study) -> None:
    training = {
        "type": "torchvision",
        "init": "fasterrcnn_mobilenet_v3_large_320_fpn",
        "steps": 2,
        "image_size": 64,
        "batch_size": 2,
    }
    small = config(Path(study.config.output), training=training, rounds=1, strategies=["core_set"])
    test = study.test.take(np.arange(6))
    few = replace(study, config=small, test=test)
    run_initial(few, 0)
    run_arm(few, small.strategies[0], 0)
    points = read_points(Path(small.output))
    assert points["round"].to_list() == [0, 1]
    assert points["steps"].to_list() == [2.0, 2.0]
    assert points["boxes"].is_sorted()


class TestOracles:
    def test_best_random_batch_is_the_one_judged_best_and_a_killed_run_goes_on(
        self, tmp_path: Path
    ) -> None:
        judged: list[int] = []

        def judge(rows: np.ndarray) -> float:
            judged.append(int(rows[0]))
            if len(judged) == 3:
                raise KeyboardInterrupt
            return [0.1, 0.4, 0.2][int(rows[0])]

        def best() -> np.ndarray:
            return best_random_batch(
                batches=3, draw=lambda n: np.array([n, n + 10]), judge=judge, folder=tmp_path / "o"
            )

        with pytest.raises(KeyboardInterrupt):
            best()
        assert best().tolist() == [1, 11]
        assert judged == [0, 1, 2, 2]

    def test_retraining_judges_on_the_reference_set(
        self, study: Study, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reference = open_dataset(SANDBOX / "test.json").take(np.arange(5))
        study = replace(study, reference=reference)
        seen = []
        real = study_module.measure

        def measure(study: Study, weights: Path, dataset: Dataset, *, store: Path) -> Any:
            seen.append(len(dataset))
            return real(study, weights, dataset, store=store)

        monkeypatch.setattr(choosing, "measure", measure)
        monkeypatch.setattr(arm, "measure", measure)
        best = StrategyConfig.model_validate({"name": "oracle_retraining", "batches": 2})
        study = replace(study, config=study.config.model_copy(update={"rounds": 1}))
        run_initial(study, 0)
        run_arm(study, best, 0)
        assert seen == [len(study.test), 5, 5, len(study.test)]
        folder = arm_folder(Path(study.config.output), best, 0) / "round-1"
        assert sorted(path.name for path in (folder / "oracle").iterdir()) == [
            "batch-0.json",
            "batch-1.json",
        ]

    @pytest.mark.parametrize(
        ("per", "order"),
        [
            pytest.param("box", ["four", "two", "one"], id="box"),
            pytest.param("image", ["four", "two", "one"], id="image"),
        ],
    )
    def test_true_loss_comes_first(
        self, tmp_path: Path, per: Literal["box", "image"], order: list[str]
    ) -> None:
        labels = [[0], [0, 0], [0] * 4]
        pool = scored_pool(tmp_path / "p", ["one", "two", "four"], ["h", "i", "j"], labels=labels)
        seen = candidate_pool(pool, None, class_names=pool.dataset.class_names).candidates
        strategy = oracle_loss(pool, per=per)
        chosen = strategy.query(seen, budget=Budget(3), rng=np.random.default_rng(0))
        assert list(chosen.image_ids) == order
        found, missed = 2 * np.log(2), -np.log(0.01) + 1
        expected = {"box": (found + 3 * missed) / 4, "image": found + 3 * missed}
        assert chosen.scores[0] == pytest.approx(expected[per])

    @pytest.mark.parametrize(
        ("section", "message"),
        [
            pytest.param({"name": "oracle_loss", "per": "boxx"}, "did you mean box", id="value"),
            pytest.param({"name": "oracle_loss", "pr": "box"}, "option of oracle_loss", id="name"),
            pytest.param({"name": "oracle_retraining", "batches": 0}, "whole number", id="number"),
            pytest.param({"name": "oracle_retraining"}, "set `reference`", id="reference"),
        ],
    )
    def test_wrong_options(self, tmp_path: Path, section: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            run_simulation(config(tmp_path / "study", strategies=[section]))


def test_the_initial_set_may_cover_the_pool(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features of the weights that training starts from; the same whenever it is drawn again."""
    drawn = []
    monkeypatch.setattr(
        arm, "finish_round", lambda study, folder, *, rows, **_: drawn.append(rows.tolist())
    )
    run_initial(study, 0)
    for name in ("first", "again"):
        initial = {"amount": 4, "strategy": {"name": "typiclust", "neighbours": 3}}
        run_initial(replace(study, config=config(tmp_path / name, initial=initial)), 0)
    assert len(drawn[0]) == 6
    assert drawn[1] == drawn[2]
    assert len(set(drawn[1])) == 4


def test_a_study_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    """Its file lacks a key that came later, which counts as its default."""
    current = config(tmp_path)
    old = current.model_dump(mode="json")
    del old["detector"]["features_only"]
    (tmp_path / "study.json").write_text(json.dumps(old), encoding="utf-8")
    units._claim(tmp_path, current)
    other = current.detector.model_copy(update={"features_only": True})
    with pytest.raises(ConfigError, match="another detector"):
        units._claim(tmp_path, current.model_copy(update={"detector": other}))


def test_coverage_from_random_weights_is_refused(study: Study, tmp_path: Path) -> None:
    training = {"init": "yolo11n.yaml", "steps": 2, "image_size": 64, "batch_size": 2}
    initial = {"amount": 4, "strategy": "core_set"}
    blind = replace(study, config=config(tmp_path, initial=initial, training=training))
    with pytest.raises(ConfigError, match=r"initial.strategy core_set needs image features before"):
        run_initial(blind, 0)


@pytest.mark.slow
def test_variants_of_an_arm_see_what_is_labelled_and_the_reference_set_alone(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = open_dataset(SANDBOX / "test.json").take(np.arange(5))
    strategy = StrategyConfig.model_validate({"name": "curve_greedy", "curves": "fitted"})
    changes: dict[str, Any] = {"rounds": 1, "tables": {"shares": [0.5]}}
    small = config(
        Path(study.config.output), reference={"path": str(SANDBOX / "test.json")}, **changes
    )
    study = replace(study, config=small, reference=reference)
    run_initial(study, 0)
    seen: dict[str, list[list[str]]] = {"trained": [], "measured": []}

    def spy_train(training: Any, dataset: Dataset, **options: Any) -> Any:
        seen["trained"].append(dataset.images["path"].to_list())
        return train_detector(training, dataset, **options)

    def spy_measure(variants: Any, *args: Any, **options: Any) -> Any:
        seen["measured"].append(variants.reference.images["path"].to_list())
        return measure_variant(variants, *args, **options)

    monkeypatch.setattr(curve_variants, "train_detector", spy_train)
    monkeypatch.setattr(curve_variants, "measure", spy_measure)
    run_arm(study, strategy, 0)
    labeled = study.pool.take(read_rows(study, initial_folder(Path(small.output), 0)))
    assert [set(paths) <= set(labeled.images["path"]) for paths in seen["trained"]] == [True]
    assert seen["measured"] == [reference.images["path"].to_list()] * 2
    tables = arm_folder(Path(small.output), strategy, 0) / "round-1" / "tables"
    assert [path.name for path in tables.rglob("curves.json")] == ["curves.json"]
    assert not list(tables.rglob("*.pt"))


def test_tables_need_a_reference_set(tmp_path: Path) -> None:
    strategies = [{"name": "curve_greedy", "curves": "fitted"}]
    with pytest.raises(ConfigError, match="set `reference`"):
        run_simulation(config(tmp_path / "study", strategies=strategies))
