"""Active learning around a user's own loop: with a real YOLO, a torchvision loop, and stubs."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
import torch
import yaml

from detal.config import DatasetConfig, SelectConfig
from detal.datasets import Dataset, open_dataset
from detal.detectors import import_ultralytics
from detal.errors import ConfigError, DataError, DetectorError
from detal.loop import (
    ActiveLearning,
    LabeledSet,
    Round,
    StopRule,
    merge,
    select_next_batch,
)
from detal.loop.callbacks import select_config
from detal.structures import Annotations

SANDBOX = Path(__file__).resolve().parents[2] / "data" / "sandbox"
WEIGHTS = SANDBOX / "yolo_seed.pt"


def subset(source: str, file: Path, start: int, number: int, *, labels: bool = True) -> Path:
    """Some images of the sandbox as a dataset of their own."""
    document = json.loads((SANDBOX / source).read_text())
    document["images"] = document["images"][start : start + number]
    ids = {image["id"] for image in document["images"]}
    for image in document["images"]:
        image["file_name"] = str(SANDBOX / image["file_name"])
    found = [a for a in document.pop("annotations") if a["image_id"] in ids]
    if labels:
        document["annotations"] = found
    file.write_text(json.dumps(document))
    return file


@pytest.fixture
def oracle(tmp_path: Path) -> Dataset:
    """The truth of the pool's 8 images."""
    return open_dataset(subset("pool_truth.json", tmp_path / "truth.json", 0, 8))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A run over 8 images of the sandbox, 4 others labelled, 2 images a batch."""
    subset("pool_truth.json", tmp_path / "pool.json", 0, 8, labels=False)
    subset("seed.json", tmp_path / "seed.json", 0, 4)
    content = {
        "pool": "pool.json",
        "labeled": "seed.json",
        "detector": {"weights": str(WEIGHTS), "image_size": 96},
        "strategy": "entropy",
        "budget": 2,
        "output": "runs/loop",
        "device": "cpu",
        "threads": 1,
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "run.yaml"


@pytest.fixture
def small_training(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Settings of `YOLO.train` for a training of seconds."""
    threads = torch.get_num_threads()
    yield {
        "epochs": 1,
        "imgsz": 96,
        "batch": 4,
        "device": "cpu",
        "workers": 0,
        "plots": False,
        "verbose": False,
        "project": str(tmp_path / "trained"),
    }
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_around_ultralytics(
    config: Path, oracle: Dataset, tmp_path: Path, small_training: dict[str, Any]
) -> None:
    YOLO = import_ultralytics().YOLO
    val = subset("test.json", tmp_path / "val.json", 0, 3)
    seen = []

    for this in ActiveLearning(config, oracle=oracle, rounds=1, output=tmp_path / "out", val=val):
        model = YOLO(WEIGHTS)
        model.train(data=this.data_yaml, **small_training)
        this.weights = model.trainer.best
        seen.append((this.round_idx, len(model.trainer.train_loader.dataset), len(this.labeled)))

    assert seen == [(0, 4, 4), (1, 6, 6)]
    assert len(model.trainer.validator.dataloader.dataset) == 3
    record = json.loads((tmp_path / "out" / "round-1" / "manifest" / "run.json").read_text())
    assert record["config"]["detector"]["weights"] == str(tmp_path / "out/round-0/weights.pt")
    assert list(ActiveLearning(config, oracle=oracle, rounds=1, output=tmp_path / "out")) == []


@pytest.mark.slow
def test_a_callback_of_ultralytics(
    config: Path, tmp_path: Path, small_training: dict[str, Any]
) -> None:
    data = merge_seed(tmp_path)
    model = import_ultralytics().YOLO(WEIGHTS)
    model.add_callback("on_train_end", select_next_batch(config, output=tmp_path / "next"))
    model.train(data=data, **small_training)
    record = json.loads((tmp_path / "next" / "run.json").read_text())
    assert record["counts"]["selected"] == 2
    assert Path(record["config"]["detector"]["weights"]) == model.trainer.best


def merge_seed(tmp_path: Path) -> str:
    """A data.yaml of the labelled images."""
    start = LabeledSet.start(open_dataset(tmp_path / "seed.json"))
    start.write_files(tmp_path, val=None)
    return str(tmp_path / "yolo" / "data.yaml")


def test_around_a_torchvision_loop(config: Path, oracle: Dataset, tmp_path: Path) -> None:
    """The loop reads the round's dataset as torchvision's detectors take it."""
    shapes = []
    for this in ActiveLearning(config, oracle=oracle, rounds=1):
        dataset = this.dataset()
        loader = torch.utils.data.DataLoader(dataset, batch_size=2, collate_fn=lambda b: b)
        boxes = 0
        for batch in loader:
            for image, target in batch:
                assert image.shape == (3, 160, 160)
                assert image.dtype == torch.float32
                assert target["boxes"].shape == (len(target["labels"]), 4)
                assert target["labels"].min() >= 1
                boxes += len(target["boxes"])
        assert this.labeled.annotations is not None
        assert boxes == len(this.labeled.annotations.boxes) > 0
        shapes.append(len(dataset))
        this.weights = WEIGHTS
    assert shapes == [4, 6]


def go(loop: ActiveLearning) -> list[Round]:
    """A loop whose training gives the same weights every time."""
    rounds = []
    for this in loop:
        this.weights = WEIGHTS
        rounds.append(this)
    return rounds


def test_rounds_grow_by_batches_with_true_boxes(
    config: Path, oracle: Dataset, tmp_path: Path
) -> None:
    rounds = go(ActiveLearning(config, oracle=oracle, rounds=2))
    output = tmp_path / "runs" / "loop"
    assert [(r.round_idx, len(r.labeled), r.output) for r in rounds] == [
        (0, 4, output / "round-0"),
        (1, 6, output / "round-1"),
        (2, 8, output / "round-2"),
    ]
    record = json.loads((output / "round-2" / "manifest" / "run.json").read_text())
    assert record["config"]["detector"]["weights"] == str(output / "round-1" / "weights.pt")
    found = LabeledSet.read(output / "labeled")
    assert found.labeled_round.tolist() == [0] * 4 + [1] * 2 + [2] * 2
    truth = boxes_by_file(oracle)
    for file, boxes in boxes_by_file(found.dataset).items():
        if file in truth:
            assert boxes == pytest.approx(truth[file], abs=0.006)
    assert len(boxes_by_file(found.dataset).keys() & truth.keys()) == 4


def boxes_by_file(dataset: Dataset) -> dict[str, Any]:
    found = dataset.annotations
    assert found is not None
    return {
        path: found.boxes[found.offsets[row] : found.offsets[row + 1]]
        for row, path in enumerate(dataset.images["path"])
    }


def test_a_stopping_rule_ends_the_loop_and_a_second_run_ends_there_too(
    config: Path, oracle: Dataset, tmp_path: Path
) -> None:
    def measured(mean_ap: list[float]) -> int:
        loop = ActiveLearning(config, oracle=oracle, rounds=4, stop=StopRule(under=0.2))
        rounds = 0
        for this in loop:
            this.weights = WEIGHTS
            this.mean_ap = mean_ap[this.round_idx]
            rounds += 1
        return rounds

    assert measured([0.4, 0.4, 0.4, 0.5, 0.6]) == 3
    assert measured([0.4, 0.4, 0.4, 0.5, 0.6]) == 0
    table = pl.read_csv(tmp_path / "runs" / "loop" / "curve.csv")
    assert table["mean_ap"].to_list() == [0.4, 0.4, 0.4]
    assert table["images"].to_list() == [4, 6, 8]
    assert table["boxes"].is_sorted()


def test_ends_when_the_pool_is_labelled(config: Path, oracle: Dataset, caplog) -> None:
    config.write_text(config.read_text().replace("budget: 2", "budget: 8"))
    rounds = go(ActiveLearning(config, oracle=oracle, rounds=9))
    assert [len(r.labeled) for r in rounds] == [4, 12]
    assert "nothing in the pool is left to label" in caplog.text


def test_a_validation_set_comes_to_what_people_merged(config: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(config.read_text())
    del content["labeled"]
    config.write_text(yaml.safe_dump(content))
    val = subset("test.json", tmp_path / "val.json", 0, 3)
    assert go(ActiveLearning(config, rounds=1, val=val)) == []
    manifest = tmp_path / "runs" / "loop" / "round-1" / "manifest"
    merge(
        manifest, DatasetConfig(path=str(manifest / "yolo")), into=manifest.parents[1] / "labeled"
    )
    (this,) = go(ActiveLearning(config, rounds=1, val=val))
    assert len(open_dataset(this.data_yaml, split="val")) == 3
    assert len(open_dataset(this.data_yaml, split="train")) == 2


class TestOracles:
    def test_annotations_of_the_ids_asked_for(self, config: Path, oracle: Dataset) -> None:
        asked = []

        def label(image_ids: list[str]) -> Annotations:
            asked.append(image_ids)
            assert oracle.annotations is not None
            return oracle.annotations.take(oracle.index_of(image_ids))

        rounds = go(ActiveLearning(config, oracle=label, rounds=1))
        assert len(asked[0]) == 2
        truth = boxes_by_file(oracle)
        merged = boxes_by_file(rounds[1].labeled)
        new = [file for file in merged if file in truth]
        assert len(new) == 2
        for file in new:
            assert merged[file] == pytest.approx(truth[file], abs=0.006)

    @pytest.mark.parametrize("known_by", ["path", "image_id"])
    def test_a_dataset_of_another_origin(
        self, config: Path, oracle: Dataset, known_by: str
    ) -> None:
        changed = {"path": "image_id", "image_id": "path"}[known_by]
        images = oracle.images.with_columns(("/other/" + pl.col(changed) + ".of").alias(changed))
        answer = replace(oracle, images=images)
        assert [len(r.labeled) for r in go(ActiveLearning(config, oracle=answer, rounds=1))] == [
            4,
            6,
        ]

    def test_a_part_is_enough(self, config: Path, oracle: Dataset) -> None:
        def label(image_ids: list[str]) -> Dataset:
            return oracle.take(oracle.index_of(image_ids[:1]))

        assert [len(r.labeled) for r in go(ActiveLearning(config, oracle=label, rounds=1))] == [
            4,
            5,
        ]

    def test_nothing_is_not(self, config: Path, oracle: Dataset) -> None:
        with pytest.raises(DataError, match="at least one of the 2 images"):
            go(ActiveLearning(config, oracle=lambda ids: oracle.take([]), rounds=1))

    def test_people(self, config: Path, tmp_path: Path, caplog) -> None:
        """Without an oracle the program ends, people label, `detal merge`, the program again."""
        output = tmp_path / "runs" / "loop"
        assert [r.round_idx for r in go(ActiveLearning(config, rounds=1))] == [0]
        manifest, into = output / "round-1" / "manifest", output / "labeled"
        assert f"detal merge {manifest} ANNOTATIONS --into {into}" in caplog.text
        assert go(ActiveLearning(config, rounds=1)) == []
        merge(manifest, DatasetConfig(path=str(manifest / "yolo")), into=into)
        rounds = go(ActiveLearning(config, rounds=1))
        assert [(r.round_idx, len(r.labeled)) for r in rounds] == [(1, 6)]


def test_goes_on_after_a_stop(config: Path, oracle: Dataset, tmp_path: Path) -> None:
    for this in ActiveLearning(config, oracle=oracle, rounds=2):
        this.weights = WEIGHTS
        if this.round_idx == 1:
            break  # its body has not ended
    again = go(ActiveLearning(config, oracle=oracle, rounds=2))
    assert [(r.round_idx, len(r.labeled)) for r in again] == [(1, 6), (2, 8)]
    whole = go(ActiveLearning(config, oracle=oracle, rounds=2, output=tmp_path / "whole"))
    assert whole[-1].labeled.images.equals(again[-1].labeled.images)
    assert go(ActiveLearning(config, oracle=oracle, rounds=2)) == []
    assert [r.round_idx for r in go(ActiveLearning(config, oracle=oracle, rounds=3))] == [3]


def test_without_a_labelled_set_the_first_batch_is_the_first_round(
    config: Path, oracle: Dataset
) -> None:
    content = yaml.safe_load(config.read_text())
    del content["labeled"]
    config.write_text(yaml.safe_dump(content))
    rounds = go(ActiveLearning(config, oracle=oracle, rounds=2))
    assert [(r.round_idx, len(r.labeled)) for r in rounds] == [(1, 2), (2, 4)]


class TestMistakes:
    def test_no_weights(self, config: Path, oracle: Dataset) -> None:
        with pytest.raises(ConfigError, match=r"must set round\.weights .* in round 0"):
            list(ActiveLearning(config, oracle=oracle, rounds=1))

    def test_none_are_needed_in_the_last_round(self, config: Path, oracle: Dataset) -> None:
        assert len(list(ActiveLearning(config, oracle=oracle, rounds=0))) == 1
        with pytest.raises(ConfigError, match="before round-1 must have left weights"):
            list(ActiveLearning(config, oracle=oracle, rounds=1))

    def test_missing_weights(self, config: Path, oracle: Dataset) -> None:
        rounds = iter(ActiveLearning(config, oracle=oracle, rounds=1))
        next(rounds).weights = "gone.pt"
        with pytest.raises(ConfigError, match=r"must be a file, found none: gone\.pt"):
            next(rounds)

    def test_negative_rounds(self, config: Path) -> None:
        with pytest.raises(ConfigError, match="rounds must be 0 or more, got -1"):
            ActiveLearning(config, rounds=-1)

    def test_an_oracle_without_annotations(self, config: Path, oracle: Dataset) -> None:
        pool = open_dataset(config.parent / "pool.json")
        with pytest.raises(DataError, match="the oracle must give annotations"):
            go(ActiveLearning(config, oracle=pool, rounds=1))

    def test_validation_on_labelled_images(self, config: Path, oracle: Dataset) -> None:
        loop = ActiveLearning(config, oracle=oracle, rounds=1, val=config.parent / "seed.json")
        with pytest.raises(DataError, match="found 4 of 4"):
            next(iter(loop))


class TestCallback:
    def test_wrong_configs_and_outputs_fail_before_the_training(
        self, config: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(ConfigError, match="cannot read config"):
            select_next_batch(tmp_path / "none.yaml")
        with pytest.raises(ConfigError, match="output must be a new or empty folder"):
            select_next_batch(config, output=tmp_path)

    def test_last_weights_where_none_are_best(self, config: Path, tmp_path: Path, caplog) -> None:
        caplog.set_level(logging.INFO)
        callback = select_next_batch(config)
        callback(SimpleNamespace(best=tmp_path / "best.pt", last=WEIGHTS))
        assert (tmp_path / "runs" / "loop" / "selection.csv").is_file()
        assert "2 images to label next" in caplog.text
        with pytest.raises(DetectorError, match="must have saved weights"):
            callback(SimpleNamespace(best=tmp_path / "best.pt", last=tmp_path / "last.pt"))

    def test_a_config_object(self, tmp_path: Path) -> None:
        pool = DatasetConfig(path=str(tmp_path / "pool.json"))
        settings = SelectConfig(pool=pool, output=str(tmp_path / "x"))
        assert select_config(settings) is settings
        assert select_config(settings, output=tmp_path / "y").output == str(tmp_path / "y")

    def test_an_output_that_yaml_would_misread(self, config: Path, tmp_path: Path) -> None:
        output = tmp_path / "a: b #c"
        assert select_config(config, output=output).output == str(output)
