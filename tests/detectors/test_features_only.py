"""Image features from weights whose head does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from detal.config import DetectorConfig
from detal.detectors import FeaturesOnly, load_yolo
from detal.errors import DetectorError
from detal.runs.building import build_detector
from tests.detectors.models import picture, prepare, spread_yolo


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return spread_yolo("yolov8n.yaml", tmp_path_factory.mktemp("yolo") / "model.pt")


@pytest.fixture(scope="module")
def below_head(trained: Path) -> Path:
    """A state dict with the head of another network: an old anchor-based one."""
    model = torch.load(trained, weights_only=False)["model"].float().state_dict()
    head = f"model.{max(int(name.split('.')[1]) for name in model)}."
    state = {name: value for name, value in model.items() if not name.startswith(head)}
    state[f"{head}m.0.weight"] = torch.zeros(255, 64, 1, 1)
    path = trained.with_name("state.pt")
    torch.save(state, path)
    return path


def built(**detector):
    config = DetectorConfig(image_size=64, features_only=True, **detector)
    return build_detector(
        config, device="cpu", class_names=("cat", "dog"), category_ids=(1, 2), image_id_of={}
    )


def test_features_are_those_of_the_whole_model(trained: Path, below_head: Path) -> None:
    whole = load_yolo(trained, device="cpu", image_size=64, score_threshold=0.01)
    batch = prepare(whole, [picture(1), picture(2)])
    expected = whole.predict(batch)
    assert expected.num_boxes > 0
    for detector in (
        built(weights=str(below_head), architecture="yolov8n.yaml"),
        built(weights=str(trained)),
    ):
        found = detector.predict(batch)
        assert found.num_boxes == 0
        assert found.logits.shape == (0, 2)
        assert detector.class_names == ("cat", "dog")
        assert detector.settings["features_only"] is True
        assert expected.image_features is not None
        assert found.image_features is not None
        np.testing.assert_allclose(found.image_features, expected.image_features, atol=1e-5)
        nothing = detector.predict([]).image_features
        assert nothing is not None
        assert nothing.shape == (0, expected.image_features.shape[1])


def test_everything_below_the_head_must_fit(below_head: Path, tmp_path: Path) -> None:
    state = torch.load(below_head, weights_only=True)
    torch.save({n: v for n, v in state.items() if not n.startswith("model.15.")}, tmp_path / "x.pt")
    with pytest.raises(DetectorError, match=r"must fit the architecture yolov8n.yaml.*Missing key"):
        built(weights=str(tmp_path / "x.pt"), architecture="yolov8n.yaml")
    with pytest.raises(DetectorError, match=r"must fit the architecture yolov8s.yaml"):
        built(weights=str(below_head), architecture="yolov8s.yaml")
    with pytest.raises(DetectorError, match="must hold a head of v8 or later"):
        load_yolo(below_head, architecture="yolov8n.yaml", device="cpu")


def test_without_classes_there_is_one(trained: Path) -> None:
    config = DetectorConfig(weights=str(trained), image_size=64, features_only=True)
    detector = build_detector(config, device="cpu", class_names=(), category_ids=(), image_id_of={})
    assert detector.class_names == ("object",)


def test_a_detector_without_features_is_refused() -> None:
    class Blind:
        class_names = ("a",)
        score_kind = "sigmoid"

        def predict(self, batch):
            from detal.structures import Detections

            return Detections.empty(len(batch), num_classes=1)

    with pytest.raises(DetectorError, match="features_only needs a detector that gives image"):
        FeaturesOnly(Blind(), class_names=("a",))  # type: ignore[arg-type]


def test_weights_of_the_shared_folder_serve_a_cold_start(shared_data: Path) -> None:
    weights = shared_data.parent / "weights" / "yolov5n" / "yolov5n_state_dict_fp16.pt"
    if not weights.is_file():
        pytest.skip(f"absent: {weights}")
    detector = built(weights=str(weights), architecture="yolov5n.yaml")
    features = detector.predict(prepare(detector, [picture(1), picture(2)])).image_features
    assert features is not None
    assert features.shape == (2, 448)
    assert features.isfinite().all()
    assert (features[0] - features[1]).abs().max() > 0.01
