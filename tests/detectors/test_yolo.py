from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from detal.datasets.images import read_image
from detal.detectors import import_ultralytics, load_yolo
from detal.errors import DetectorError
from detal.structures import Detections
from tests.detectors.models import picture, prepare, same_boxes, same_detections, spread_yolo

ROOT = Path(__file__).resolve().parents[2]
PICTURES = [picture(1), picture(2, height=97, width=203), picture(3, height=300, width=130)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Checkpoints by model name, made when first asked for."""
    folder = tmp_path_factory.mktemp("yolo")
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            made[name] = spread_yolo(f"{name}.yaml", folder / f"{name} spread.pt")
        return made[name]

    return make


def library_boxes(path: Path, pixels: np.ndarray, **settings: Any) -> Any:
    model = import_ultralytics().YOLO(str(path))
    (result,) = model.predict(
        np.ascontiguousarray(pixels[:, :, ::-1]), device="cpu", verbose=False, **settings
    )
    return result.boxes


@pytest.mark.parametrize(
    ("name", "size", "images"),
    [
        pytest.param("yolov8n", 320, 3, id="v8"),
        pytest.param("yolo11n", 320, 3, id="11"),
        pytest.param("yolo26n", 320, 3, id="26-no-bins"),
        pytest.param("yolov5n", 160, 1, id="v5u"),
        pytest.param("yolov9t", 160, 1, id="v9"),
        pytest.param("yolov10n", 160, 1, id="v10"),
        pytest.param("yolo12n", 160, 1, id="12"),
    ],
)
def test_agrees_with_the_library(checkpoint, name, size, images):
    path = checkpoint(name)
    detector = load_yolo(path, device="cpu", image_size=size, score_threshold=0.1, nms_iou=0.6)
    total = 0
    for pixels in PICTURES[:images]:
        theirs = library_boxes(path, pixels, imgsz=size, conf=0.1, iou=0.6, max_det=300)
        ours = detector.predict(prepare(detector, [pixels]))
        total += agree(ours, theirs)
        assert ours.scores.unique().numel() >= 0.9 * ours.num_boxes
    assert total >= 10 * images


@pytest.mark.parametrize("name", ["yolov10n", "yolo26n"])
def test_one_to_one_head_agrees_with_the_library(checkpoint, name):
    path = checkpoint(name)
    detector = load_yolo(path, device="cpu", image_size=160, score_threshold=0.1, head="one2one")
    settings = {"nms": False} if one2many_by_default() else {}
    theirs = library_boxes(path, PICTURES[0], imgsz=160, conf=0.1, agnostic_nms=True, **settings)
    ours = detector.predict(prepare(detector, PICTURES[:1]))
    assert agree(ours, theirs) > 20
    assert ours.cluster_spread is None
    assert detector.settings["head"] == "one2one"


def agree(ours: Detections, theirs: Any) -> int:
    """`same_boxes` with the library's result.

    Before 8.4.142 it lists an anchor of a one-to-one head once per class, where detal gives one
    label, so ours must be among them down to its lowest score; and it maps boxes back with one
    scale for both sides, which is up to a pixel off.
    """
    data = theirs.data
    if ours.cluster_spread is None and not one2many_by_default():
        rows = ours.scores > theirs.conf.min() + 1e-3
        near = (ours.boxes[rows][:, None] - data[None, :, :4]).abs().amax(2) < 1.0
        near &= (ours.scores[rows][:, None] - data[None, :, 4]).abs() < 1e-3
        assert bool(near.any(dim=1).all())
        return int(rows.sum())
    return same_boxes(
        ours,
        0,
        boxes=data[:, :4],
        scores=data[:, 4],
        labels=data[:, 5],
        pixels=0.5 if one2many_by_default() else 1.0,
    )


def one2many_by_default() -> bool:
    version = tuple(int(n) for n in import_ultralytics().__version__.split(".")[:3])
    return version >= (8, 4, 142)


def test_everything_about_a_box_comes_from_its_anchor(checkpoint):
    path = checkpoint("yolo11n")
    detector = load_yolo(path, device="cpu", image_size=160, score_threshold=0.1)
    found = detector.predict(prepare(detector, PICTURES[:1]))
    top, labels = found.logits.max(dim=1)
    torch.testing.assert_close(top.sigmoid(), found.scores)
    assert labels.tolist() == found.labels.tolist()
    assert found.logits.shape == (found.num_boxes, 80)
    # The last classification convolution of one of the three levels turns features into logits.
    head = import_ultralytics().YOLO(str(path)).model.requires_grad_(False).model[-1]
    features = found.object_features
    assert features is not None
    outputs = [features @ conv[-1].weight.flatten(1).T + conv[-1].bias for conv in head.cv3]
    error = torch.stack([(out - found.logits).abs().amax(dim=1) for out in outputs]).amin(dim=0)
    assert error.max() < 1e-2
    assert found.box_spread is not None
    assert bool((found.box_spread > 0).all())
    assert found.cluster_spread is not None
    assert bool((found.cluster_spread.amax(dim=1) > 0).any())
    assert bool((found.scores.diff() <= 0).all())


def test_result_does_not_depend_on_the_batch(checkpoint):
    detector = load_yolo(checkpoint("yolo11n"), device="cpu", image_size=160, score_threshold=0.2)
    pictures = [picture(seed) for seed in range(5)]
    together = detector.predict(prepare(detector, pictures))
    for i, pixels in enumerate(pictures):
        same_detections(together.take([i]), detector.predict(prepare(detector, [pixels])))


def test_predict_is_safe_in_threads(checkpoint):
    detector = load_yolo(checkpoint("yolov8n"), device="cpu", image_size=160, score_threshold=0.2)
    batches = [prepare(detector, [picture(i, height=80 + 16 * i)]) for i in range(6)]
    alone = [detector.predict(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for expected, found in zip(alone * 2, pool.map(detector.predict, batches * 2), strict=True):
            same_detections(expected, found)


def test_half_precision_on_the_cpu_is_bfloat16(caplog):
    weights = ROOT / "data" / "sandbox" / "yolo_seed.pt"
    paths = sorted((ROOT / "data" / "sandbox" / "images" / "seed").iterdir())[:4]
    pixels = [read_image(str(path)).pixels for path in paths]
    full, half = (load_yolo(weights, device="cpu", half=half) for half in (None, True))
    assert (full.settings["precision"], half.settings["precision"]) == ("fp32", "bf16")
    known = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert known is ("has no bfloat16" not in caplog.text)
    exact, close = (detector.predict(prepare(detector, pixels)) for detector in (full, half))
    assert exact.num_boxes > 10
    found = 0
    for image in range(len(pixels)):
        a, b = exact.take([image]), close.take([image])
        same = (box_iou(a.boxes, b.boxes) > 0.9) & (a.labels[:, None] == b.labels)
        found += int(same.any(dim=1).sum())
    assert found >= 0.8 * exact.num_boxes
    assert close.object_features is not None
    assert close.logits.dtype == close.object_features.dtype == torch.float32


def test_no_images_and_images_without_detections(checkpoint):
    path = checkpoint("yolo11n")
    detector = load_yolo(path, device="cpu", image_size=160, score_threshold=0.999999)
    nothing = detector.predict([])
    empty = detector.predict(prepare(detector, PICTURES[:1]))
    assert (nothing.num_images, empty.num_images, empty.num_boxes) == (0, 1, 0)
    for name in ("logits", "box_spread", "cluster_spread", "object_features", "image_features"):
        assert getattr(nothing, name).shape[1] == getattr(empty, name).shape[1]


def test_one_class_yaml_and_image_size_of_a_yaml(tmp_path):
    source = Path(import_ultralytics().__file__).parent / "cfg" / "models" / "v8" / "yolov8.yaml"
    text = source.read_text(encoding="utf-8").replace("nc: 80", "nc: 1")
    (tmp_path / "yolov8n-one.yaml").write_text(text, encoding="utf-8")
    detector = load_yolo(
        tmp_path / "yolov8n-one.yaml", device="cpu", score_threshold=0.0, class_names=["seal"]
    )
    assert detector.class_names == ("seal",)
    assert detector.settings["image_size_hw"] == [640, 640]
    found = detector.predict(prepare(detector, [picture(0, height=32, width=32)]))
    assert found.num_boxes > 0
    assert found.logits.shape[1] == 1


def test_state_dict_with_its_architecture(checkpoint, tmp_path):
    whole = load_yolo(checkpoint("yolov8n"), device="cpu", image_size=160, score_threshold=0.2)
    model = import_ultralytics().YOLO(str(checkpoint("yolov8n"))).model
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    state = load_yolo(
        tmp_path / "weights.pt",
        architecture="yolov8n.yaml",
        device="cpu",
        image_size=160,
        score_threshold=0.2,
    )
    assert state.fingerprint == whole.fingerprint
    batch = prepare(whole, PICTURES[:1])
    same_detections(whole.predict(batch), state.predict(batch))


def test_fingerprint_tells_weights_apart(checkpoint):
    a, b = (load_yolo(checkpoint(name), device="cpu") for name in ("yolov8n", "yolo11n"))
    assert a.fingerprint != b.fingerprint
    assert a.fingerprint == load_yolo(checkpoint("yolov8n"), device="cpu").fingerprint


@pytest.mark.parametrize(
    ("name", "match"),
    [
        pytest.param("yolo11n-seg.yaml", "a segmentation model", id="segment"),
        pytest.param("yolo11n-pose.yaml", "a pose model", id="pose"),
        pytest.param("yolo11n-obb.yaml", "an oriented-box model", id="obb"),
        pytest.param("yolo11n-cls.yaml", "a classification model", id="classify"),
        pytest.param("rtdetr-resnet50.yaml", "an RT-DETR model", id="rt-detr"),
        pytest.param("yolov8s-world.yaml", "an open-vocabulary model", id="world"),
        pytest.param("nothing-like-it.yaml", "cannot be loaded", id="unknown-yaml"),
        pytest.param("yolo11n.pt", "found no file 'yolo11n.pt'", id="not-on-disk"),
    ],
)
def test_what_is_no_detector_is_refused(name, match):
    with pytest.raises(DetectorError, match=match):
        load_yolo(name, device="cpu")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        pytest.param(b"", "cannot be loaded", id="empty-file"),
        pytest.param(b"no checkpoint at all", "cannot be loaded", id="text"),
    ],
)
def test_damaged_checkpoint(tmp_path, content, match):
    (tmp_path / "best.pt").write_bytes(content)
    with pytest.raises(DetectorError, match=match):
        load_yolo(tmp_path / "best.pt", device="cpu")


def test_state_dict_needs_an_architecture_that_fits(tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "weights.pt")
    with pytest.raises(DetectorError, match="plain state dict: name its model YAML"):
        load_yolo(tmp_path / "weights.pt", device="cpu")
    with pytest.raises(DetectorError, match="must hold a head of v8 or later"):
        load_yolo(tmp_path / "weights.pt", architecture="yolov8n.yaml", device="cpu")


def test_head_that_is_not_there(checkpoint):
    with pytest.raises(DetectorError, match="head=one2one is not in this model, it has one2many"):
        load_yolo(checkpoint("yolov8n"), device="cpu", head="one2one")


def test_class_names_must_be_as_many(checkpoint):
    with pytest.raises(DetectorError, match="80 classes, got 2 class names"):
        load_yolo(checkpoint("yolov8n"), device="cpu", class_names=["a", "b"])


def test_not_finite_output_names_the_image(checkpoint, monkeypatch):
    detector: Any = load_yolo(checkpoint("yolov8n"), device="cpu", image_size=160)
    good, bad = prepare(detector, [picture(0), picture(1)])
    stack = detector._stack
    monkeypatch.setattr(
        detector,
        "_stack",
        lambda batch: stack(batch).index_fill_(0, torch.tensor([1]), float("nan")),
    )
    with pytest.raises(DetectorError, match="must be finite, it is not for picture 1"):
        detector.predict([good, bad])


@pytest.mark.parametrize(
    ("device", "match"),
    [
        pytest.param("cpu9x", "device must be auto, cpu", id="unknown"),
        pytest.param("cuda:99", "cannot be used here", id="absent"),
    ],
)
def test_device_that_cannot_be_used(device, match):
    with pytest.raises(DetectorError, match=match):
        load_yolo("yolov8n.yaml", device=device)


def test_ultralytics_is_not_imported_and_torchvision_works_without_it():
    code = """
import sys
import numpy as np
from detal.detectors import load_torchvision, load_yolo
from detal.errors import DetectorError
if "ultralytics" in sys.modules:
    sys.exit("importing detal.detectors imports ultralytics")
sys.modules["ultralytics"] = None  # as if it were not installed
from detal.structures import Detections
d = load_torchvision("ssdlite320_mobilenet_v3_large", weights=None, class_names=["a"], device="cpu")
found = d.predict([d.prepare(np.zeros((60, 80, 3), dtype=np.uint8), "black")])
assert found.num_images == 1
try:
    load_yolo("yolo11n.yaml")
except DetectorError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "pip install ultralytics; torchvision detectors" in done.stdout
