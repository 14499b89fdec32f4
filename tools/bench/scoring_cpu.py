"""The forward pass on one CPU thread by several engines, side by side, with the boxes they give.

    pip install openvino onnx onnxruntime     # in an environment of their own
    python tools/bench/scoring_cpu.py --output data/results/scoring_cpu.json

detal's own path is ``channels last``. The other engines run the same network, exported with all
that the detector reads (class logits, the inputs of the last convolutions of both branches, pooled
features), and hand it to the same post-processing. Engines take turns, batch by batch, so that a
busy machine slows all of them; figures are CPU seconds of the network alone, the speed-up is the
median over rounds against ``channels last`` in the same round. Boxes are those of the whole
detector, the sandbox's trained one on the sandbox's images, matched with detal's own by class and
an IoU over 0.99.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import json
import os
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torchvision.ops import box_iou  # noqa: E402

from detal.datasets.images import read_image  # noqa: E402
from detal.detectors import load_yolo  # noqa: E402
from detal.detectors.yolo_head import HeadOutput  # noqa: E402
from detal.runs.provenance import commit, machine, versions  # noqa: E402
from detal.structures import Detections  # noqa: E402

Engine = Callable[[Tensor], HeadOutput]
OWN = "channels last"
SANDBOX = ROOT / "data" / "sandbox"
_PACKAGES = ("openvino", "onnxruntime", "onnx")
_SAME_IOU = 0.99


def _traced(model: nn.Module, example: Tensor) -> Any:
    trace: Any = torch.jit.trace
    return trace(_Flat(model), example)


class _Flat(nn.Module):
    """The model with its output as one tuple of tensors, as exporters want it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """All maps, level by level, and the pooled features."""
        out = self.model(x)
        return (*out.logits, *out.class_maps, *out.box_maps, out.pooled)


def _head_output(values: Any) -> HeadOutput:
    tensors = [torch.as_tensor(value) for value in values]
    levels = (len(tensors) - 1) // 3
    return HeadOutput(
        logits=tensors[:levels],
        class_maps=tensors[levels : 2 * levels],
        box_maps=tensors[2 * levels : 3 * levels],
        pooled=tensors[-1],
    )


def _half(model: nn.Module) -> Engine:
    """As the detector runs with ``half: true``."""
    half = _Flat(copy.deepcopy(model).to(torch.bfloat16))
    return lambda x: _head_output([t.float() for t in half(x.to(torch.bfloat16))])


def _compiled(model: nn.Module) -> Engine:
    flat = torch.compile(_Flat(model))
    return lambda x: _head_output([t.clone() for t in flat(x)])


def _openvino(model: nn.Module, example: Tensor, precision: str) -> Engine:
    openvino: Any = importlib.import_module("openvino")

    converted = openvino.convert_model(
        _traced(model, example), example_input=example, input=list(example.shape)
    )
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": precision}
    compiled = openvino.Core().compile_model(converted, "CPU", settings)
    return lambda x: _head_output(list(compiled([x.contiguous().numpy()]).values()))


def _onnxruntime(model: nn.Module, example: Tensor, folder: Path) -> Engine:
    onnxruntime: Any = importlib.import_module("onnxruntime")

    path = folder / "model.onnx"
    torch.onnx.export(
        _traced(model, example), (example,), str(path), input_names=["x"],
        dynamo=False,
    )  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda x: _head_output(session.run(None, {"x": x.contiguous().numpy()}))


def engines(
    detector: Any, example: Tensor, folder: Path, leave_out: list[str]
) -> dict[str, Engine | str]:
    """Each engine by name, or why it cannot run here."""
    model = detector._model
    makers: dict[str, Callable[[], Engine]] = {
        OWN: lambda: model,
        "detal, bfloat16": lambda: _half(model),
        "torch.compile": lambda: _compiled(model),
        "OpenVINO, float32": lambda: _openvino(model, example, "f32"),
        "OpenVINO, bfloat16": lambda: _openvino(model, example, "bf16"),
        "ONNX Runtime, float32": lambda: _onnxruntime(model, example, folder),
    }
    found: dict[str, Engine | str] = {}
    for name, make in makers.items():
        if name in leave_out:
            continue
        try:
            engine = make()
            with torch.inference_mode():
                engine(example)
            found[name] = engine
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            found[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
        print(name, "ready" if callable(found[name]) else found[name], flush=True)
    return found


def same_boxes(own: Detections, other: Detections) -> dict[str, Any]:
    """How many of detal's own boxes another engine gives, too, and how far scores differ."""
    matched, largest = 0, 0.0
    for image in range(own.num_images):
        a, b = own.take([image]), other.take([image])
        if not (a.num_boxes and b.num_boxes):
            continue
        iou = box_iou(a.boxes, b.boxes) * (a.labels[:, None] == b.labels)
        best, place = iou.max(dim=1)
        same = best > _SAME_IOU
        matched += int(same.sum())
        if same.any():
            apart = (a.scores[same] - b.scores[place[same]]).abs().max()
            largest = max(largest, float(apart))
    return {
        "boxes": other.num_boxes,
        "share_of_own_boxes": round(matched / max(own.num_boxes, 1), 4),
        "largest_score_difference": round(largest, 5),
    }


def main() -> None:
    """Measure, print, write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, default=SANDBOX / "images" / "seed")
    parser.add_argument("--model", default=str(SANDBOX / "yolo_seed.pt"), help="for the boxes")
    parser.add_argument("--timed", default="yolo11n.yaml", help="model whose time is measured")
    parser.add_argument("--leave-out", nargs="*", default=[], help="engines that are not tried")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--limit", type=int, default=24, help="images")
    parser.add_argument("--output", type=Path, default=None)
    args = parser.parse_args()
    torch.set_num_threads(1)
    paths = sorted(str(p) for p in args.images.iterdir())[: args.limit]
    result: dict[str, Any] = {
        "timed_model": args.timed,
        "boxes_model": Path(args.model).name,
        "image_size": 640,
        "batch": 4,
        "engines": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        boxes = _boxes(args.model, paths, Path(folder), args.leave_out)
        times = _times(args.timed, args.rounds, Path(folder), args.leave_out)
    for name, found in times.items():
        result["engines"][name] = found | boxes.get(name, {})
        print(name, result["engines"][name], flush=True)
    result |= {
        "images": len(paths),
        "command": shlex.join(["python", "tools/bench/scoring_cpu.py", *sys.argv[1:]]),
        "commit": commit(ROOT),
        "machine": machine(),
        "versions": versions() | _other_versions(),
    }
    if args.output is not None:
        args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _other_versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _boxes(
    weights: str, paths: list[str], folder: Path, leave_out: list[str]
) -> dict[str, dict[str, Any]]:
    """What each engine finds on images, beside detal's own."""
    detector: Any = load_yolo(weights, device="cpu")
    prepared = [detector.prepare(read_image(path).pixels, path) for path in paths]
    groups: dict[Any, list[Any]] = {}
    for item in prepared:
        groups.setdefault(item.batch_key, []).append(item)
    batch = max(groups.values(), key=len)
    batch = batch[: 4 * (len(batch) // 4)]
    batches = [batch[start : start + 4] for start in range(0, len(batch), 4)]
    found: dict[str, dict[str, Any]] = {}
    model, own = detector._model, None
    example = detector._stack(batches[0])
    for name, engine in engines(detector, example, folder, leave_out).items():
        if isinstance(engine, str):
            continue
        detector._model = engine
        seen = Detections.concat([detector.predict(part) for part in batches])
        own = seen if own is None else own
        found[name] = same_boxes(own, seen)
    detector._model = model
    return found


def _times(
    model: str, rounds: int, folder: Path, leave_out: list[str]
) -> dict[str, dict[str, Any]]:
    """CPU seconds an image of each engine, round by round."""
    detector: Any = load_yolo(model, device="cpu", image_size=640)
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.random((4, 3, 640, 640), dtype=np.float32))
    pixels = pixels.to(memory_format=torch.channels_last)
    found = engines(detector, pixels, folder, leave_out)
    spent: dict[str, list[float]] = {name: [] for name, e in found.items() if callable(e)}
    with torch.inference_mode():
        for _ in range(rounds):
            for name, times in spent.items():
                engine: Any = found[name]
                started = time.process_time()
                engine(pixels)
                times.append((time.process_time() - started) / len(pixels))
    result: dict[str, dict[str, Any]] = {}
    for name, engine in found.items():
        if isinstance(engine, str):
            result[name] = {"failed": engine}
            continue
        ratios = [own / other for own, other in zip(spent[OWN], spent[name], strict=True)]
        result[name] = {
            "cpu_ms_per_image": round(1000 * statistics.median(spent[name]), 2),
            "speed_up": round(statistics.median(ratios), 3),
            "speed_up_range": [round(min(ratios), 3), round(max(ratios), 3)],
        }
    return result


if __name__ == "__main__":
    main()
