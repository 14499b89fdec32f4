"""Where a training starts from."""

from pathlib import Path
from typing import Any

import pytest
import torch

from detal.config import TrainingConfig
from detal.datasets import open_dataset
from detal.detectors import build_torchvision
from detal.runs import training
from detal.runs.training import train_detector

SANDBOX = Path(__file__).resolve().parents[2] / "data" / "sandbox"
MODEL = "fasterrcnn_mobilenet_v3_large_320_fpn"


def test_a_torchvision_training_goes_on_from_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_dataset(SANDBOX / "reference.json").take([0, 1])
    model = build_torchvision(MODEL, num_classes=10, image_size=64, seed=5)
    torch.save(model.state_dict(), tmp_path / "start.pt")
    started: list[Any] = []
    monkeypatch.setattr(
        training, "train_torchvision", lambda model, *_, **__: started.append(model)
    )
    config = TrainingConfig(type="torchvision", init=MODEL, steps=1, image_size=64)
    options: dict[str, Any] = {"output": tmp_path / "run", "seed": 0, "device": "cpu"}
    train_detector(config, dataset, **options)
    train_detector(config, dataset, **options, start=tmp_path / "start.pt")
    fresh, gone_on = (next(m.roi_heads.box_predictor.cls_score.parameters()) for m in started)
    wanted = model.state_dict()["roi_heads.box_predictor.cls_score.weight"]
    assert torch.equal(gone_on, wanted)
    assert not torch.equal(fresh, wanted)


def test_a_yolo_training_goes_on_without_the_backbone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(training, "train_yolo", lambda **options: asked.append(options))
    dataset = open_dataset(SANDBOX / "reference.json").take([0, 1])
    config = TrainingConfig(init="yolov5n.yaml", backbone="backbone.pt")
    options: dict[str, Any] = {"output": tmp_path / "run", "seed": 0, "device": "cpu"}
    train_detector(config, dataset, **options)
    train_detector(config, dataset, **options, start=tmp_path / "start.pt")
    assert [(a["init"], a["backbone"]) for a in asked] == [
        ("yolov5n.yaml", Path("backbone.pt")),
        (tmp_path / "start.pt", None),
    ]
