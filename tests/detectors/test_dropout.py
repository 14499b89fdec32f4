"""What YOLO's last classification layer says under dropout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detal.detectors import load_yolo
from detal.seeding import generator
from tests.detectors.models import picture, prepare, spread_yolo

SAMPLES, RATE = 7, 0.2


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return spread_yolo("yolo11n.yaml", tmp_path_factory.mktemp("yolo") / "spread.pt")


def load(checkpoint: Path, **options: Any) -> Any:
    return load_yolo(
        checkpoint, device="cpu", image_size=160, score_threshold=0.2, max_detections=20, **options
    )


def test_mutual_information_as_one_box_at_a_time(checkpoint: Path) -> None:
    detector = load(checkpoint, dropout_samples=SAMPLES)
    found = detector.predict(prepare(detector, [picture(1), picture(2)]))
    assert found.num_boxes > 20
    features = found.object_features.numpy().astype(np.float64)
    layers = [
        (conv.weight.flatten(1).numpy().astype(np.float64), conv.bias.numpy().astype(np.float64))
        for conv in detector._head.class_outs
    ]
    masks = generator(0, "dropout", SAMPLES, features.shape[1]).random((SAMPLES, features.shape[1]))
    expected = []
    for feature, logits in zip(features, found.logits.numpy(), strict=True):
        # The level of a box is the one whose layer gives its logits.
        weight, bias = min(layers, key=lambda wb: np.abs(wb[0] @ feature + wb[1] - logits).max())
        np.testing.assert_allclose(weight @ feature + bias, logits, atol=1e-3)
        probs = [
            1 / (1 + np.exp(-(weight @ (feature * (mask >= RATE) / (1 - RATE)) + bias)))
            for mask in masks
        ]
        mean = np.mean(probs, axis=0)
        value = 0.0
        for p in probs:
            value += float((p * np.log(p / mean)).sum())
            value += float(((1 - p) * np.log((1 - p) / (1 - mean))).sum())
        expected.append(value / SAMPLES)
    assert found.mutual_information is not None
    np.testing.assert_allclose(found.mutual_information, expected, rtol=2e-3, atol=1e-4)
    assert np.std(expected) > 1e-3


def test_nothing_else_changes(checkpoint: Path) -> None:
    without, with_dropout = load(checkpoint), load(checkpoint, dropout_samples=3)
    a, b = (d.predict(prepare(d, [picture(1)])) for d in (without, with_dropout))
    assert torch.equal(a.boxes, b.boxes)
    assert torch.equal(a.logits, b.logits)
    assert a.mutual_information is None
    assert "dropout" not in without.settings
    assert with_dropout.settings["dropout"] == {"samples": 3, "rate": RATE}
    assert without.predict([]).mutual_information is None
    assert with_dropout.predict([]).mutual_information.shape == (0,)


def test_does_not_depend_on_the_batch(checkpoint: Path) -> None:
    detector = load(checkpoint, dropout_samples=3)
    items = prepare(detector, [picture(1), picture(2)])
    together = detector.predict(items)
    alone = torch.cat([detector.predict([item]).mutual_information for item in items])
    torch.testing.assert_close(together.mutual_information, alone, atol=1e-3, rtol=1e-2)
