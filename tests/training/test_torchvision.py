from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead

from detal.detectors.torchvision import load_torchvision
from detal.errors import ConfigError, DataError, DetectorError
from detal.seeding import seed_torch
from detal.training import early_weights
from detal.training import torchvision as training_module
from detal.training.torchvision import TorchvisionTraining, train_torchvision

QUICK = TorchvisionTraining(steps=6, batch_size=2, checkpoint_steps=2)


def make_model(name=None):
    """A Faster R-CNN of 50,000 weights, or one of torchvision's own."""
    with torch.random.fork_rng(devices=[]):
        seed_torch(0)
        if name is not None:
            build = getattr(detection, name)
            return build(weights=None, weights_backbone=None, num_classes=3)
        layers = [nn.Conv2d(3, 16, 3, 4, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU()]
        backbone = nn.Sequential(*layers)
        backbone.out_channels = 16  # type: ignore[assignment]
        return detection.FasterRCNN(
            backbone,
            rpn_anchor_generator=AnchorGenerator(sizes=((16, 32),), aspect_ratios=((1.0,),)),
            box_head=TwoMLPHead(16 * 49, 32),
            box_predictor=FastRCNNPredictor(32, 3),
            min_size=64,
            max_size=64,
        )


def train(dataset, output, *, training=QUICK, model=None, **changes):
    return train_torchvision(
        model or make_model(), dataset, output=output, training=training, device="cpu", **changes
    )


def same(a, b):
    left, right = (torch.load(path, weights_only=True) for path in (a, b))
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


class KilledError(Exception):
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
            raise KilledError
        return original(*arguments)

    monkeypatch.setattr(training_module, "_step", step)
    with pytest.raises(KilledError):
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


def test_early_checkpoints_are_kept_and_change_nothing(boxes_dataset, tmp_path):
    plain = train(boxes_dataset, tmp_path / "plain")
    kept = train(boxes_dataset, tmp_path / "kept", training=replace(QUICK, keep_steps=(2, 6)))
    assert same(plain.weights, kept.weights)
    assert same(early_weights(tmp_path / "kept", 6), kept.weights)
    assert not same(early_weights(tmp_path / "kept", 2), kept.weights)


def test_it_learns(boxes_dataset, tmp_path):
    few = train(boxes_dataset, tmp_path / "few", training=replace(QUICK, steps=1))
    training = TorchvisionTraining(
        steps=60, batch_size=4, optimizer="adamw", lr=5e-3, weight_decay=1e-4, augment=False
    )
    many = train(boxes_dataset, tmp_path / "many", training=training)
    assert sum(many.losses.values()) < 0.7 * sum(few.losses.values())


def test_its_weights_load_as_a_detector(boxes_dataset, tmp_path):
    name = "ssdlite320_mobilenet_v3_large"
    training = TorchvisionTraining(steps=1, batch_size=2, optimizer="adamw", lr=1e-3)
    result = train(boxes_dataset, tmp_path, training=training, model=make_model(name))
    assert set(result.losses) == {"bbox_regression", "classification"}
    detector = load_torchvision(
        name, weights=result.weights, class_names=boxes_dataset.class_names, device="cpu"
    )
    assert detector.class_names == ("green", "blue")


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


def test_mistakes_are_named(boxes_dataset, tmp_path):
    with pytest.raises(ConfigError, match="optimizer must be sgd or adamw, got 'adam'"):
        TorchvisionTraining(steps=1, optimizer="adam")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="batch_size must be at least 1"):
        TorchvisionTraining(steps=1, batch_size=0)
    with pytest.raises(DataError, match="squares must have images"):
        train(boxes_dataset.take(np.zeros(0, int)), tmp_path)
    model = make_model()
    model.roi_heads.box_predictor.cls_score.bias.data[0] = float("nan")
    with pytest.raises(DetectorError, match=r"must stay finite, got .* at step 1 of 6"):
        train(boxes_dataset, tmp_path, model=model)
