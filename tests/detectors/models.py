"""Random models whose scores spread, and pictures for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from detal.detectors import Detector, Prepared, import_ultralytics
from detal.seeding import seed_torch
from detal.structures import Detections


def picture(seed: int, *, height: int = 120, width: int = 160) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB: bright and dark rectangles on a smooth background."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 6, 3)).astype(np.uint8)
    pixels = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
    for _ in range(8):
        x, y = rng.integers(0, width - 20), rng.integers(0, height - 20)
        w, h = rng.integers(10, 60, 2)
        pixels[y : y + h, x : x + w] = rng.integers(0, 256, 3)
    return pixels


def calibrate(model: nn.Module, batch: torch.Tensor, forward: Any) -> None:
    """Give every batch norm the statistics of a real batch, so that no layer dies out."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    with torch.no_grad():
        forward(batch)
    for norm, momentum in zip(norms, before, strict=True):
        norm.eval()
        norm.momentum = momentum


def _limit(reach: float, mean: float) -> Any:
    """A hook that gives a convolution random weights, its outputs this mean and greatest distance.

    Called again, it shrinks the weights if the new outputs reach further.
    """
    greatest = 0.0

    def hook(conv: Any, inputs: Any, output: torch.Tensor) -> None:
        nonlocal greatest
        if greatest == 0.0:
            nn.init.normal_(conv.weight)
            nn.init.constant_(conv.bias, mean)
        raw = float(nn.functional.conv2d(inputs[0], conv.weight).abs().max())
        if greatest == 0.0 or raw > reach:
            conv.weight.data *= reach / raw
        greatest = max(greatest, raw)

    return hook


def spread_yolo(name: str, path: Path) -> Path:
    """A checkpoint of ``name`` with random weights, many boxes and distinct scores."""
    library = import_ultralytics()
    with torch.random.fork_rng(devices=[]):
        seed_torch(7)
        model = library.YOLO(name).model.eval()
        pixels = np.stack([picture(seed, height=160) for seed in range(4)])
        batch = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
        batch = nn.functional.interpolate(batch, size=(320, 320), mode="bilinear")
        calibrate(model, batch, model)
        head = model.model[-1]
        branches = [
            (getattr(head, f"{prefix}{branch}"), reach, mean)
            for prefix in ("", "one2one_")
            for branch, reach, mean in (("cv2", 4.0, 1.0), ("cv3", 4.0, -3.0))
            if hasattr(head, f"{prefix}{branch}")
        ]
        for levels, reach, mean in branches:
            for level in levels:
                level[-1].register_forward_hook(_limit(reach, mean))
        with torch.no_grad():
            for size in ((320, 320), (128, 160), (320, 160), (96, 160), (160, 320)):
                model(nn.functional.interpolate(batch, size=size, mode="bilinear"))
        for module in model.modules():
            module._forward_hooks.clear()
    content = {"model": model.half(), "ema": None, "train_args": {"imgsz": 320}, "epoch": -1}
    torch.save(content, path)
    return path


def prepare(detector: Detector, pictures: list[NDArray[np.uint8]]) -> list[Prepared]:
    return [detector.prepare(p, f"picture {i}") for i, p in enumerate(pictures)]


def same_boxes(
    found: Detections, image: int, *, boxes: Any, scores: Any, labels: Any, pixels: float = 0.5
) -> int:
    """Assert that an image has these boxes, in any order of near ties; how many they are.

    One in fifty may differ: random networks amplify float noise, which then decides about overlaps
    next to the suppression threshold.
    """
    rows = slice(int(found.offsets[image]), int(found.offsets[image + 1]))
    boxes, scores, labels = (torch.as_tensor(v).float() for v in (boxes, scores, labels))
    ours = found.boxes[rows]
    near = (ours[:, None] - boxes[None]).abs().amax(2) < pixels
    near &= (found.scores[rows][:, None] - scores[None]).abs() < 1e-3
    near &= found.labels[rows][:, None] == labels[None]
    allowed = len(boxes) // 50
    assert abs(len(ours) - len(boxes)) <= allowed
    assert int((~near.any(0)).sum()) <= allowed
    assert int((~near.any(1)).sum()) <= allowed
    return len(boxes)


def same_detections(a: Detections, b: Detections) -> None:
    """Assert equality of one image's detections up to float noise and the order of near ties."""
    assert a.offsets.tolist() == b.offsets.tolist()
    distance = torch.cdist(torch.cat([a.boxes, a.logits], 1), torch.cat([b.boxes, b.logits], 1))
    match = distance.argmin(dim=1) if a.num_boxes else torch.zeros(0, dtype=torch.int64)
    assert sorted(match.tolist()) == list(range(a.num_boxes))
    for name in ("boxes", "scores", "logits", "box_spread", "cluster_spread", "object_features"):
        x, y = getattr(a, name), getattr(b, name)
        assert (x is None) == (y is None)
        if x is not None:
            torch.testing.assert_close(x, y[match], atol=2e-2, rtol=2e-3)
    torch.testing.assert_close(a.image_features, b.image_features, atol=1e-3, rtol=1e-3)
