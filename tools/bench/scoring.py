"""Scoring speed beside ultralytics' own predictor, on the same images and settings.

    python tools/bench/scoring.py --images ../shared/data/aquarium/train/images

Each run is a fresh process; the two alternate, so that a busy machine slows both. The ratio is the
median over the pairs. ultralytics gets a thread per core: by itself it leaves one core idle, which
on two cores nearly halves its speed. detal also computes what the predictor does not: all class
logits, the spread of boxes and clusters, object and image features, and the hash of each file.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("YOLO_VERBOSE", "false")

from detal.runs.provenance import commit, machine, versions  # noqa: E402

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
SCORE_THRESHOLD = 0.05
NMS_IOU = 0.7
MAX_DETECTIONS = 300


def main() -> None:
    """Measure, print a table, write the JSON file."""
    args = _arguments()
    if args.engine:
        print(json.dumps(_measure(args)))
        return
    pairs = []
    for number in range(args.pairs):
        order = ["detal", "ultralytics"] if number % 2 == 0 else ["ultralytics", "detal"]
        pairs.append({engine: _run(engine, args) for engine in order})
        row = {engine: pairs[-1][engine]["images_per_s"] for engine in ("detal", "ultralytics")}
        ratio = row["detal"] / row["ultralytics"]
        print(
            f"pair {number + 1}: detal {row['detal']:7.2f} img/s   "
            f"ultralytics {row['ultralytics']:7.2f} img/s   ratio {ratio:.3f}"
        )
    result = _result(args, pairs)
    print(f"median ratio {result[_ratio_name(args.device)]:.3f}")
    if args.output is not None:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(args.output)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = ROOT.parent / "shared" / "data" / "aquarium" / "train" / "images"
    parser.add_argument("--images", type=Path, default=default, help="folder of images")
    parser.add_argument("--limit", type=int, default=448, help="images at most")
    parser.add_argument("--model", default="yolo11n.yaml", help="checkpoint or model YAML name")
    parser.add_argument("--image-size", type=int, default=640)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--device", default="cpu", help="cpu or cuda:0")
    parser.add_argument("--output", type=Path, default=None, help="JSON file to write")
    parser.add_argument("--engine", choices=("detal", "ultralytics"), help=argparse.SUPPRESS)
    return parser.parse_args()


def _images(args: argparse.Namespace) -> list[str]:
    found = sorted(p for p in args.images.iterdir() if p.suffix.lower() in SUFFIXES)
    return [str(path) for path in found[: args.limit]]


def _run(engine: str, args: argparse.Namespace) -> dict[str, Any]:
    """One run in a fresh process with the default number of threads."""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    command = [sys.executable, __file__, "--engine", engine, "--images", str(args.images)]
    command += ["--limit", str(args.limit), "--model", args.model, "--device", args.device]
    command += ["--image-size", str(args.image_size), "--batch", str(args.batch)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{engine} failed:\n{done.stderr[-2000:]}")
    measured: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return measured


def _measure(args: argparse.Namespace) -> dict[str, Any]:
    """Warm up on one batch, then time the whole folder."""
    paths = _images(args)
    engine = _detal if args.engine == "detal" else _ultralytics
    score = engine(args)
    score(paths[: args.batch])
    start, cpu = time.perf_counter(), time.process_time()
    boxes = score(paths)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {
        "images": len(paths),
        "boxes": boxes,
        "seconds": round(seconds, 4),
        "cpu_s_per_image": round(cpu / len(paths), 5),
        "images_per_s": round(len(paths) / seconds, 3),
    }


def _detal(args: argparse.Namespace) -> Any:
    from detal.detectors import load_yolo
    from detal.scoring import score_shards

    detector = load_yolo(
        args.model,
        device=args.device,
        image_size=args.image_size,
        score_threshold=SCORE_THRESHOLD,
        nms_iou=NMS_IOU,
        max_detections=MAX_DETECTIONS,
    )

    def score(paths: list[str]) -> int:
        shards = score_shards(detector, [paths], batch_size=args.batch)
        return sum(shard.detections.num_boxes for shard in shards)

    return score


def _ultralytics(args: argparse.Namespace) -> Any:
    from detal.detectors import import_ultralytics
    from detal.seeding import seed_torch

    library = import_ultralytics()
    import torch
    import torchvision  # noqa: F401 - the library then uses torchvision's NMS, its fastest

    seed_torch(0)  # the same random weights as detal's, for a model YAML
    model = library.YOLO(args.model, task="detect")

    def score(paths: list[str]) -> int:
        if model.predictor is not None:  # its set-up, in the warm-up, chose the number of threads
            torch.set_num_threads(os.cpu_count() or 1)
        results = model.predict(
            source=paths,
            stream=True,
            batch=args.batch,
            imgsz=args.image_size,
            conf=SCORE_THRESHOLD,
            iou=NMS_IOU,
            max_det=MAX_DETECTIONS,
            device=args.device,
            half=args.device != "cpu",
            verbose=False,
            save=False,
        )
        return sum(len(result.boxes) for result in results)

    return score


def _ratio_name(device: str) -> str:
    return f"ratio_to_ultralytics_{device.split(':')[0]}"


def _result(args: argparse.Namespace, pairs: list[dict[str, Any]]) -> dict[str, Any]:
    ratios = [p["detal"]["images_per_s"] / p["ultralytics"]["images_per_s"] for p in pairs]
    return {
        _ratio_name(args.device): round(statistics.median(ratios), 4),
        "ratios": [round(ratio, 4) for ratio in ratios],
        "pairs": pairs,
        "model": Path(args.model).name,
        "image_size": args.image_size,
        "batch": args.batch,
        "score_threshold": SCORE_THRESHOLD,
        "nms_iou": NMS_IOU,
        "max_detections": MAX_DETECTIONS,
        "command": " ".join(["python", "tools/bench/scoring.py", *sys.argv[1:]]),
        "commit": commit(ROOT),
        "machine": machine(),
        "versions": versions(),
    }


if __name__ == "__main__":
    main()
