from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from detal.detectors import load_torchvision
from detal.detectors.projection import projection
from detal.errors import DetectorError
from tests.detectors.models import calibrate, picture, prepare, same_boxes, same_detections

CLASSES = ("crab", "seal", "whale")
PICTURES = [picture(1), picture(2, height=97, width=203), picture(3, height=180, width=120)]


def spread_model(architecture: str, *, image_size: int | None = None, **settings: Any) -> Any:
    """A detector with random weights whose scores spread."""
    detector: Any = load_torchvision(
        architecture,
        weights=None,
        class_names=CLASSES,
        device="cpu",
        image_size=image_size,
        **settings,
    )
    model = detector._model
    images = [torch.from_numpy(p).permute(2, 0, 1) / 255 for p in PICTURES]
    inputs, _ = model.transform(images)
    generator = torch.Generator().manual_seed(3)
    calibrate(model, inputs.tensors, model.backbone)
    for layer in _outputs(model):
        layer.weight.data.normal_(generator=generator)
        layer.register_forward_hook(_limit)
    with torch.no_grad():
        model(images)
    for layer in _outputs(model):
        layer._forward_hooks.clear()
    if architecture.startswith(("retinanet", "fcos")):
        head = model.head.classification_head
        # torchvision's label 0 stands for no class; it must not take part.
        head.cls_logits.bias.data[:] = -1.0
        head.cls_logits.bias.data[:: head.num_classes] = -30.0
    return detector


def _outputs(model: nn.Module) -> list[Any]:
    words = ("cls_score", "bbox_pred", "cls_logits", "bbox_reg", "module_list")
    return [
        module
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d))
        and module.bias is not None
        and any(word in name for word in words)
        and "rpn" not in name
    ]


def _limit(layer: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
    raw = output - layer.bias.view(-1, *[1] * (output.ndim - 2))
    if bool(raw.abs().max() > 2.5):
        layer.weight.data *= 2.5 / raw.abs().max()
    return output


@pytest.mark.parametrize(
    ("architecture", "size", "images"),
    [
        pytest.param("fasterrcnn_mobilenet_v3_large_320_fpn", 128, 3, id="faster-rcnn-mobilenet"),
        pytest.param("fasterrcnn_resnet50_fpn", 96, 1, id="faster-rcnn-resnet50"),
        pytest.param("retinanet_resnet50_fpn", 96, 1, id="retinanet"),
        pytest.param("fcos_resnet50_fpn", 96, 1, id="fcos"),
        pytest.param("ssdlite320_mobilenet_v3_large", None, 2, id="ssdlite"),
        pytest.param("ssd300_vgg16", None, 1, id="ssd300", marks=pytest.mark.slow),
    ],
)
def test_agrees_with_torchvision(architecture, size, images):
    detector = spread_model(
        architecture, image_size=size, score_threshold=0.2, nms_iou=0.5, max_detections=50
    )
    owner = getattr(detector._model, "roi_heads", detector._model)
    owner.score_thresh, owner.nms_thresh, owner.detections_per_img = 0.2, 0.5, 50
    total = 0
    for pixels in PICTURES[:images]:
        with torch.no_grad():
            (theirs,) = detector._model([torch.from_numpy(pixels).permute(2, 0, 1) / 255])
        ours = detector.predict(prepare(detector, [pixels]))
        labels = theirs["labels"] - 1
        total += same_boxes(ours, 0, boxes=theirs["boxes"], scores=theirs["scores"], labels=labels)
        _check_fields(ours)
    assert total >= 10 * images


def _check_fields(found: Any) -> None:
    probs = found.probs()
    assert probs.shape == (found.num_boxes, len(CLASSES))
    own = probs[torch.arange(found.num_boxes), found.labels]
    if found.score_kind == "softmax":
        torch.testing.assert_close(own, found.scores, atol=1e-5, rtol=1e-4)
    else:  # FCOS multiplies by centerness before the root
        assert bool((own.sqrt() >= found.scores - 1e-5).all())
    assert found.object_features.shape[1] <= 256 or found.object_features.shape[1] == 672
    assert found.image_features.shape[1] <= 512
    assert bool((found.cluster_spread >= 0).all())
    assert bool((found.cluster_spread > 0).any())
    if found.tightness is not None:
        assert found.tightness.shape == found.scores.shape
        assert bool(((found.tightness >= 0) & (found.tightness <= 1)).all())


def test_result_does_not_depend_on_the_batch():
    detector = spread_model("fasterrcnn_mobilenet_v3_large_320_fpn", image_size=128)
    pictures = [picture(1), picture(2), picture(3, height=119)]
    prepared = prepare(detector, pictures)
    assert len({item.batch_key for item in prepared}) == 1
    together = detector.predict(prepared)
    for i, item in enumerate(prepared):
        same_detections(together.take([i]), detector.predict([item]))


@pytest.mark.parametrize("size", [(120, 160), (97, 203), (500, 31), (33, 33)])
def test_batch_key_is_the_size_of_the_network_input(size):
    detector: Any = load_torchvision(
        "fasterrcnn_mobilenet_v3_large_320_fpn", weights=None, class_names=CLASSES, device="cpu"
    )
    inputs, _ = detector._model.transform([torch.zeros(3, *size)])
    pixels = np.zeros((*size, 3), dtype=np.uint8)
    assert detector.prepare(pixels, "x").batch_key == tuple(inputs.tensors.shape[-2:])


def test_no_images_and_images_without_detections():
    detector = load_torchvision(
        "ssdlite320_mobilenet_v3_large",
        weights=None,
        class_names=["one"],
        device="cpu",
        score_threshold=0.999,
    )
    nothing, empty = detector.predict([]), detector.predict(prepare(detector, PICTURES[:1]))
    assert (nothing.num_images, empty.num_images, empty.num_boxes) == (0, 1, 0)
    for name in ("logits", "cluster_spread", "object_features", "image_features"):
        assert getattr(nothing, name).shape[1] == getattr(empty, name).shape[1]
    assert empty.logits.shape[1] == 2


@pytest.mark.parametrize(
    ("architecture", "wrap"),
    [
        pytest.param("ssdlite320_mobilenet_v3_large", False, id="ssdlite-plain"),
        pytest.param("fasterrcnn_mobilenet_v3_large_320_fpn", True, id="faster-rcnn-wrapped"),
    ],
)
def test_checkpoint(tmp_path, architecture, wrap):
    first: Any = load_torchvision(architecture, weights=None, class_names=CLASSES, device="cpu")
    first._model.backbone.requires_grad_(requires_grad=False)
    state = {name: value + 0.01 for name, value in first._model.state_dict().items()}
    torch.save({"model": state, "epoch": 3} if wrap else state, tmp_path / "model.pth")
    second = load_torchvision(
        architecture, weights=tmp_path / "model.pth", class_names=CLASSES, device="cpu"
    )
    assert second.fingerprint != first.fingerprint
    with pytest.raises(DetectorError, match=r"has 4 class outputs .* 2 class names .* needs 3"):
        load_torchvision(
            architecture, weights=tmp_path / "model.pth", class_names=["a", "b"], device="cpu"
        )


def test_dense_detector_trained_on_labels_from_0(tmp_path):
    name = "retinanet_resnet50_fpn"
    first: Any = load_torchvision(name, weights=None, class_names=["a", "b"], device="cpu")
    torch.save(first._model.state_dict(), tmp_path / "model.pth")
    detector = load_torchvision(
        name, weights=tmp_path / "model.pth", class_names=CLASSES, device="cpu", image_size=64
    )
    assert detector.predict(prepare(detector, PICTURES[:1])).logits.shape[1] == 3


@pytest.mark.parametrize(
    ("architecture", "settings", "match"),
    [
        pytest.param("fasterrcn_resnet50", {}, "did you mean fasterrcnn_resnet50_fpn", id="name"),
        pytest.param("ssd300_vgg16", {"class_names": ()}, "at least one class name", id="classes"),
        pytest.param(
            "ssdlite320_mobilenet_v3_large", {"image_size": 640}, "fixed input size 320", id="size"
        ),
        pytest.param("ssd300_vgg16", {"weights": "no.pth"}, "found none at no.pth", id="missing"),
    ],
)
def test_wrong_options(architecture, settings, match):
    options = {"weights": None, "class_names": CLASSES, "device": "cpu", **settings}
    with pytest.raises(DetectorError, match=match):
        load_torchvision(architecture, **options)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        pytest.param({"model": {"a": torch.zeros(1)}}, "no classification layer", id="foreign"),
        pytest.param({"epoch": 3}, "a dict with the keys epoch", id="no-state"),
        pytest.param([1, 2], "holds a list", id="list"),
    ],
)
def test_foreign_checkpoint(tmp_path, content, match):
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(DetectorError, match=match):
        load_torchvision(
            "ssd300_vgg16", weights=tmp_path / "model.pth", class_names=CLASSES, device="cpu"
        )


def test_projection_keeps_distances():
    rows = torch.randn(50, 1024, generator=torch.Generator().manual_seed(0))
    matrix = projection(1024, limit=256)
    assert matrix is not None
    ratio = torch.pdist(rows @ matrix) / torch.pdist(rows)
    assert 0.8 < float(ratio.min()) <= float(ratio.max()) < 1.2
    again = projection(1024, limit=256)
    assert again is not None
    assert torch.equal(matrix, again)
    assert projection(256, limit=256) is None
