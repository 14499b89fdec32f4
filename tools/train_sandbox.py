"""Train the sandbox's small YOLO on its seed split: data/sandbox/yolo_seed.pt and .json.

python tools/train_sandbox.py --sandbox data/sandbox

A YOLOv8 without its coarsest level (no digit is larger than 64 px) and with an eighth of its width,
trained from random weights on the CPU.
ultralytics and therefore the trained weights are under AGPL-3.0.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# Running this file puts tools/ first on the path, where select.py would shadow the standard
# library's `select`; the package itself need not be installed.
_TOOLS = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _TOOLS]
sys.path.insert(0, str(_TOOLS.parent))

_SCRATCH = tempfile.TemporaryDirectory(prefix="detal-sandbox-")
os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", YOLO_CONFIG_DIR=_SCRATCH.name)

import numpy as np  # noqa: E402
import torch  # noqa: E402
import ultralytics  # noqa: E402
from pycocotools.coco import COCO  # noqa: E402
from pycocotools.cocoeval import COCOeval  # noqa: E402
from ultralytics import YOLO  # noqa: E402
from ultralytics.utils import YAML  # noqa: E402

from detal.boxes import xywh_to_xyxy, xyxy_to_cxcywhn, xyxy_to_xywh  # noqa: E402

Row = dict[str, Any]

_ARCHITECTURE_FILE = "yolo-sandbox.yaml"
ARCHITECTURE: Row = {
    "depth_multiple": 1.0,
    "backbone": [
        [-1, 1, "Conv", [64, 3, 2]],
        [-1, 1, "Conv", [128, 3, 2]],
        [-1, 1, "C2f", [128, True]],
        [-1, 1, "Conv", [256, 3, 2]],
        [-1, 1, "C2f", [256, True]],  # 4: stride 8
        [-1, 1, "Conv", [512, 3, 2]],
        [-1, 1, "C2f", [512, True]],
        [-1, 1, "SPPF", [512, 5]],  # 7: stride 16
    ],
    "head": [
        [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
        [[-1, 4], 1, "Concat", [1]],
        [-1, 1, "C2f", [256]],  # 10: stride 8
        [-1, 1, "Conv", [256, 3, 2]],
        [[-1, 7], 1, "Concat", [1]],
        [-1, 1, "C2f", [512]],  # 13: stride 16
        [[10, 13], 1, "Detect", ["nc"]],
    ],
}

# Digits must not be mirrored. Colours carry nothing, so they are jittered hard. Telling the digits
# apart is the slow part: hence the doubled weight of the class loss, and little mosaic, which
# halves the digits. The batch is also the nominal batch (`nbs`): with ultralytics' default of 64
# only every eighth batch would be an optimiser step.
SETTINGS: Row = {
    "imgsz": 160,
    "optimizer": "AdamW",
    "lr0": 0.01,
    "lrf": 0.02,
    "cos_lr": True,
    "warmup_epochs": 2.0,
    "warmup_bias_lr": 0.004,
    "cls": 1.0,
    "fliplr": 0.0,
    "hsv_h": 0.5,
    "hsv_s": 0.7,
    "hsv_v": 0.5,
    "bgr": 0.5,
    "degrees": 5.0,
    "scale": 0.3,
    "mosaic": 0.3,
    "close_mosaic": 10,
}


def main() -> None:
    """Train, measure on the test split, and write the checkpoint and its record."""
    options = _options()
    torch.set_num_threads(1)
    scratch = Path(_SCRATCH.name)
    names = _write_yolo_dataset(options.sandbox, scratch / "data")
    started, used = time.perf_counter(), time.process_time()
    checkpoint = _train(scratch, names, options)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - used
    target = options.sandbox / "yolo_seed.pt"
    _save_clean(checkpoint, target, SETTINGS["imgsz"])
    figures = _measure(target, options.sandbox, imgsz=SETTINGS["imgsz"])
    record = {
        "command": f"python tools/train_sandbox.py --sandbox {options.sandbox.as_posix()}",
        "training_seconds": round(seconds, 1),
        "training_cpu_seconds": round(cpu_seconds, 1),
        "epochs": options.epochs,
        "batch": options.batch,
        "seed": options.seed,
        "width_multiple": options.width,
        "settings": SETTINGS,
        "versions": {
            "torch": torch.__version__,
            "ultralytics": ultralytics.__version__,
            "numpy": np.__version__,
        },
        "test": figures,
        "parameters": sum(p.numel() for p in YOLO(target).model.parameters()),
        "sha256": hashlib.sha256(target.read_bytes()).hexdigest(),
        "license": "AGPL-3.0",
    }
    target.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(
        f"trained in {seconds:.0f} s ({cpu_seconds:.0f} s of one core); test: {figures}; {target}"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sandbox", type=Path, default=Path("data/sandbox"))
    parser.add_argument("--epochs", type=int, default=170)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--width", type=float, default=0.125)
    return parser.parse_args()


def _write_yolo_dataset(sandbox: Path, folder: Path) -> list[str]:
    """The seed split in YOLO's layout, with a ``data.yaml``; returns the class names."""
    truth = json.loads((sandbox / "seed.json").read_text(encoding="utf-8"))
    label_of = {category["id"]: i for i, category in enumerate(truth["categories"])}
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    for image in truth["images"]:
        source = sandbox / image["file_name"]
        shutil.copy(source, folder / "images" / source.name)
        rows = [a for a in truth["annotations"] if a["image_id"] == image["id"]]
        boxes = xyxy_to_cxcywhn(
            xywh_to_xyxy(np.array([a["bbox"] for a in rows])),
            width=image["width"],
            height=image["height"],
        )
        lines = [
            " ".join([str(label_of[a["category_id"]]), *(f"{v:.6f}" for v in box)])
            for a, box in zip(rows, boxes, strict=True)
        ]
        (folder / "labels" / f"{source.stem}.txt").write_text("\n".join(lines), encoding="utf-8")
    names = [category["name"] for category in truth["categories"]]
    YAML.save(
        folder / "data.yaml",
        {"path": str(folder), "train": "images", "val": "images", "names": dict(enumerate(names))},
    )
    return names


def _train(scratch: Path, names: list[str], options: argparse.Namespace) -> Path:
    """Train from random weights; returns the checkpoint of the last epoch."""
    path = scratch / _ARCHITECTURE_FILE
    YAML.save(path, {**ARCHITECTURE, "nc": len(names), "width_multiple": options.width})
    torch.manual_seed(options.seed)
    model = YOLO(path, task="detect")
    model.train(
        data=str(scratch / "data" / "data.yaml"),
        epochs=options.epochs,
        batch=options.batch,
        nbs=options.batch,
        seed=options.seed,
        device="cpu",
        workers=0,
        cache="ram",
        amp=False,
        val=False,
        plots=False,
        pretrained=False,
        project=str(scratch / "runs"),
        name="seed",
        **SETTINGS,
    )
    return scratch / "runs" / "seed" / "weights" / "last.pt"


def _save_clean(source: Path, target: Path, imgsz: int) -> None:
    """Copy a finished (stripped, half precision) checkpoint without paths, addresses and date."""
    checkpoint = torch.load(source, map_location="cpu", weights_only=False)
    arguments: Row = {"data": "data.yaml", "model": _ARCHITECTURE_FILE, "task": "detect"}
    for key in ("project", "name", "save_dir", "device"):
        arguments[key] = None
    checkpoint["train_args"] = {**checkpoint["train_args"], **arguments}
    checkpoint["model"].args = {**arguments, "imgsz": imgsz}
    checkpoint["model"].yaml["yaml_file"] = _ARCHITECTURE_FILE
    checkpoint["license"] = "AGPL-3.0"
    for key in ("date", "docs", "git", "train_results", "train_metrics"):
        checkpoint.pop(key, None)
    torch.save(checkpoint, target)


def _measure(checkpoint: Path, sandbox: Path, *, imgsz: int) -> Row:
    """Average precision on the test split by pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(sandbox / "test.json")
    model = YOLO(checkpoint)
    category_ids = sorted(truth.getCatIds())
    results = []
    for image in truth.dataset["images"]:
        found = model.predict(
            sandbox / image["file_name"],
            imgsz=imgsz,
            conf=0.001,
            max_det=100,
            device="cpu",
            verbose=False,
        )[0].boxes
        for box, label, score in zip(
            xyxy_to_xywh(found.xyxy.numpy()), found.cls.tolist(), found.conf.tolist(), strict=True
        ):
            results.append(
                {
                    "image_id": image["id"],
                    "category_id": category_ids[int(label)],
                    "bbox": box.tolist(),
                    "score": score,
                }
            )
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][0, :, :, 0, -1]
    return {
        "mAP50-95": round(float(evaluation.stats[0]), 4),
        "mAP50": round(float(evaluation.stats[1]), 4),
        "AP50": {
            truth.cats[i]["name"]: round(float(precision[:, k].mean()), 3)
            for k, i in enumerate(category_ids)
        },
    }


if __name__ == "__main__":
    main()
