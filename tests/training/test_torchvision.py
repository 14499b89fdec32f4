import signal
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import multiprocessing
from torchvision.models import detection

from detal.detectors.torchvision import load_torchvision
from detal.errors import ConfigError, DataError, DetectorError
from detal.seeding import seed_torch
from detal.training import torchvision as training_module
from detal.training.torchvision import TorchvisionTraining, train_torchvision

QUICK = TorchvisionTraining(steps=6, batch_size=2, checkpoint_steps=2)


def make_model(seed=0, name="fasterrcnn_mobilenet_v3_large_320_fpn"):
    with torch.random.fork_rng(devices=[]):
        seed_torch(seed)
        size = {"min_size": 64, "max_size": 64} if name.startswith("fasterrcnn") else {}
        build = getattr(detection, name)
        return build(weights=None, weights_backbone=None, num_classes=3, **size)


def train(dataset, output, *, training=QUICK, model=None, **changes):
    return train_torchvision(
        model or make_model(), dataset, output=output, training=training, device="cpu", **changes
    )


def same(a, b):
    left, right = (torch.load(path, weights_only=True) for path in (a, b))
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


class Killed(Exception):
    pass


@pytest.mark.parametrize("stop_at", [2, 5], ids=["before-a-checkpoint", "after-checkpoints"])
def test_an_interrupted_run_gives_the_weights_of_an_uninterrupted_one(
    boxes_dataset, tmp_path, monkeypatch, stop_at
):
    training = replace(QUICK, checkpoint_steps=3)
    whole = train(boxes_dataset, tmp_path / "whole", training=training)
    original, calls = training_module._step, []

    def step(*arguments):
        calls.append(1)
        if len(calls) == stop_at:
            raise Killed
        return original(*arguments)

    monkeypatch.setattr(training_module, "_step", step)
    with pytest.raises(Killed):
        train(boxes_dataset, tmp_path / "cut", training=training)
    monkeypatch.setattr(training_module, "_step", original)
    assert not (tmp_path / "cut" / "weights.pt").exists()
    # The global generator is elsewhere by now, and images are read by other processes.
    result = train(boxes_dataset, tmp_path / "cut", training=replace(training, workers=1))
    assert result.how == ("resumed" if stop_at > 3 else "restarted")
    assert (whole.steps, result.steps) == (6, 6)
    assert same(whole.weights, result.weights)
    assert not (tmp_path / "cut" / "resume.pt").exists()


def test_finished_run_is_recognised_and_other_settings_train_anew(boxes_dataset, tmp_path):
    training = replace(QUICK, steps=2)
    first = train(boxes_dataset, tmp_path, training=training)
    assert (first.how, first.stopped_by, first.steps) == ("trained", "steps", 2)
    assert set(first.losses) >= {"loss_classifier", "loss_box_reg"}
    model = make_model()
    again = train(boxes_dataset, tmp_path, training=training, model=model)
    assert (again.how, again.seconds, again.losses) == ("finished", first.seconds, first.losses)
    saved = torch.load(first.weights, weights_only=True)
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())
    assert not model.training
    kept = tmp_path / "kept.pt"
    first.weights.rename(kept)
    other = train(boxes_dataset, tmp_path, training=replace(training, seed=1))
    assert other.how == "trained"
    assert not same(kept, other.weights)
    fewer = train(boxes_dataset.take([0, 1]), tmp_path, training=replace(training, seed=1))
    assert fewer.how == "trained"


def test_it_learns_and_its_weights_load_as_a_detector(boxes_dataset, tmp_path):
    few = train(boxes_dataset, tmp_path / "few", training=replace(QUICK, steps=1))
    training = TorchvisionTraining(
        steps=30, batch_size=4, optimizer="adamw", lr=5e-4, weight_decay=1e-4, augment=False
    )
    many = train(boxes_dataset, tmp_path / "many", training=training)
    assert sum(many.losses.values()) < 0.7 * sum(few.losses.values())
    detector = load_torchvision(
        "fasterrcnn_mobilenet_v3_large_320_fpn",
        weights=many.weights,
        class_names=boxes_dataset.class_names,
        device="cpu",
    )
    assert detector.class_names == ("green", "blue")


@pytest.mark.parametrize("name", ["ssdlite320_mobilenet_v3_large"])
def test_one_stage_detectors_train_too(boxes_dataset, tmp_path, name):
    result = train(
        boxes_dataset,
        tmp_path,
        training=TorchvisionTraining(steps=1, batch_size=2, optimizer="adamw", lr=1e-3),
        model=make_model(name=name),
    )
    assert set(result.losses) == {"bbox_regression", "classification"}


def test_crowds_are_left_out_and_images_without_objects_train(boxes_dataset, tmp_path):
    empty = boxes_dataset.take([3, 7])
    crowded = boxes_dataset.take([0, 1])
    crowded.annotations.is_crowd[:] = True
    for name, dataset in (("empty", empty), ("crowded", crowded)):
        result = train(dataset, tmp_path / name, training=replace(QUICK, steps=1))
        assert result.losses["loss_box_reg"] == 0.0


def test_time_budget_ends_a_run(boxes_dataset, tmp_path):
    training = replace(QUICK, steps=1000, time_budget_s=1e-9)
    result = train(boxes_dataset, tmp_path, training=training)
    assert (result.steps, result.stopped_by) == (1, "time")


def _train_for_long(dataset, output):
    torch.set_num_threads(1)
    train(dataset, output, training=replace(QUICK, steps=8, checkpoint_steps=1))


def test_a_run_killed_by_the_system_goes_on(boxes_dataset, tmp_path):
    process = multiprocessing.get_context("fork").Process(
        target=_train_for_long, args=(boxes_dataset, tmp_path)
    )
    process.start()
    deadline = time.monotonic() + 60
    while not (tmp_path / "resume.pt").is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    result = train(boxes_dataset, tmp_path, training=replace(QUICK, steps=8, checkpoint_steps=1))
    assert (result.how, result.steps) == ("resumed", 8)


def test_mistakes_are_named(boxes_dataset, tmp_path):
    with pytest.raises(ConfigError, match="optimizer must be sgd or adamw, got 'adam'"):
        TorchvisionTraining(steps=1, optimizer="adam")
    with pytest.raises(ConfigError, match="batch_size must be at least 1"):
        TorchvisionTraining(steps=1, batch_size=0)
    with pytest.raises(DataError, match="squares must have images"):
        train(boxes_dataset.take(np.zeros(0, int)), tmp_path)
    model = make_model()
    model.roi_heads.box_predictor.cls_score.bias.data[0] = float("nan")
    with pytest.raises(DetectorError, match="must stay finite, got .* at step 1 of 6"):
        train(boxes_dataset, tmp_path, model=model)
