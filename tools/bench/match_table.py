"""The match table beside pycocotools and hotcoco: equal figures, and time per subset mAP.

    python tools/bench/match_table.py --output data/results/match_table.json

Equality: random subsets (and multisets, and re-scorings) of a 100-image COCO file with published
detections, of coco125 with jittered ground truth, and of the sandbox with its detector; every
figure of COCO's summary and every class. The reference is pycocotools.

Speed: generated detections, 80 classes in COCO's proportions, batches of 256 subsets of 500 images.
The engines take turns, so that a busy machine slows all. Each computes mAP alone: all areas, 100
detections; for pycocotools and hotcoco the time with their default parameters (four area ranges,
three limits of detections, which also give the other figures) stands beside it. Loading, matching
(detal, hotcoco) and hotcoco's overall slice are not in the time per subset; pycocotools matches
anew for each subset, as it must. hotcoco is used if importable (`pip install --target DIR hotcoco`,
then PYTHONPATH=DIR).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("YOLO_VERBOSE", "false")

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from detal.evaluation import (  # noqa: E402
    MatchTable,
    Predictions,
    batch_mean_ap,
    build_match_table,
    coco_metrics,
    image_weights,
    rescored,
)
from detal.evaluation.running import RunningAP  # noqa: E402
from detal.evaluation.subsets import metrics  # noqa: E402
from detal.runs.provenance import commit, machine, versions  # noqa: E402
from detal.structures import Annotations  # noqa: E402
from tests.evaluation.worlds import jittered, largest_difference, read_coco  # noqa: E402

World = tuple[Annotations, Predictions, list[str]]
Array = NDArray[Any]
SHARED = ROOT.parent / "shared" / "data"


def main() -> None:
    """Compare, print, write the JSON file."""
    args = _arguments()
    begin = time.perf_counter()
    result: dict[str, Any] = {"command": " ".join(["python", *sys.argv])}
    result |= _equality(args)
    print(f"max_abs_difference {result['max_abs_difference']:.2e}")
    by_density = {}
    for density in args.densities:
        by_density[str(density)] = _speed(args, density)
        print(f"{density} detections an image: {json.dumps(by_density[str(density)], indent=1)}")
    first = by_density[str(args.densities[0])]
    for name in ("speedup_over_pycocotools", "speedup_over_hotcoco"):
        result[name] = first[name]
        result[f"{name}_default_parameters"] = first[f"{name}_default_parameters"]
    result |= {
        "by_detections_per_image": by_density,
        "subsets_per_batch": args.subsets,
        "images_per_subset": args.subset_images,
        "pool_images": args.images,
        "classes": args.classes,
        "workers": args.workers,
        "seconds": round(time.perf_counter() - begin, 1),
        "load_average": [round(x, 2) for x in os.getloadavg()],
        "commit": commit(ROOT),
        "machine": machine(),
        "versions": versions() | _hotcoco_version(),
    }
    if args.output is not None:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(args.output)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--comparisons", type=int, default=1000, help="subsets, all datasets")
    parser.add_argument("--densities", type=int, nargs="+", default=[15, 100])
    parser.add_argument("--images", type=int, default=5000, help="images to draw subsets from")
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--subsets", type=int, default=256)
    parser.add_argument("--subset-images", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each engine")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--output", type=Path, default=None, help="JSON file to write")
    return parser.parse_args()


# Equality


def _equality(args: argparse.Namespace) -> dict[str, Any]:
    """Largest difference of any figure to pycocotools, over all datasets that are there."""
    # Shares of the comparisons: pycocotools takes far longer over 80 classes than over 10.
    sources = {
        "coco_val2014_100": (_reference, 0.2),
        "coco125_jittered": (_coco125, 0.2),
        "sandbox": (_sandbox, 0.6),
    }
    rng = np.random.default_rng(0)
    datasets = {}
    for name, (source, share) in sources.items():
        try:
            world = source()
        except FileNotFoundError as error:
            print(f"{name} is left out: {error}")
            continue
        datasets[name] = _differences(world, round(share * args.comparisons), rng)
        print(f"{name}: {datasets[name]}")
    return {
        "max_abs_difference": max(
            (max(d["differences"].values()) for d in datasets.values()), default=None
        ),
        "comparisons": sum(d["subsets"] + d["others"] for d in datasets.values()),
        "datasets": datasets,
    }


def _differences(world: World, subsets: int, rng: np.random.Generator) -> dict[str, Any]:
    annotations, predictions, names = world
    table = build_match_table(annotations, predictions, num_classes=len(names))
    images = len(annotations)
    largest = {"subset": 0.0, "multiset": 0.0, "rescored": 0.0}

    def note(kind: str, found: Any, expected: Any) -> None:
        largest[kind] = max(largest[kind], largest_difference(found, expected))

    others = -(-subsets // 10)
    for number in range(subsets):
        subset = rng.permutation(images)[: rng.integers(1, images // 2 + 1)]
        expected = coco_metrics(annotations, predictions, class_names=names, images=subset)
        note("subset", metrics(table, subset), expected)
        if number >= others:
            continue
        multi = np.sort(rng.integers(0, images, images // 2))
        parts = annotations.take(multi), predictions.take(multi)
        note("multiset", metrics(table, multi), coco_metrics(*parts, class_names=names))
        # Two decimals: ties within and across images.
        noise = rng.normal(0, 0.2, len(predictions.scores))
        scores = np.round(predictions.scores + noise, 2)
        other = Predictions(predictions.offsets, predictions.boxes, scores, predictions.labels)
        expected = coco_metrics(annotations, other, class_names=names, images=subset)
        note("rescored", metrics(rescored(table, scores), subset), expected)
    return {
        "images": images,
        "detections": len(predictions.boxes),
        "crowds": int(annotations.is_crowd.sum()),
        "subsets": subsets,
        "others": 2 * others,
        "differences": largest,
    }


def _reference() -> World:
    folder = SHARED / "map_reference" / "coco_val2014_100"
    return read_coco(
        folder / "instances_val2014_100.json", folder / "instances_val2014_fakebbox100_results.json"
    )


def _coco125() -> World:
    annotations, _, names = read_coco(SHARED / "coco125" / "instances.json", None)
    return annotations, jittered(annotations, num_classes=len(names), seed=0), names


def _sandbox() -> World:
    from detal.datasets import open_dataset
    from detal.detectors import load_yolo
    from detal.scoring import score_shards

    folder = ROOT / "data" / "sandbox"
    dataset = open_dataset(folder / "reference.json")
    detector = load_yolo(folder / "yolo_seed.pt", device="cpu", score_threshold=0.01)
    (scored,) = score_shards(detector, [dataset.images["path"].to_list()], batch_size=16)
    if dataset.annotations is None:
        raise FileNotFoundError(f"annotations of {folder}")
    predictions = Predictions.from_detections(scored.detections)
    return dataset.annotations, predictions, list(dataset.class_names)


# Speed


def _speed(args: argparse.Namespace, density: int) -> dict[str, Any]:
    """Median seconds per subset mAP of each engine, and the ratios."""
    rng = np.random.default_rng(density)
    annotations, predictions = _generated(args.images, args.classes, density, rng)
    begin = time.perf_counter()
    table = build_match_table(annotations, predictions, num_classes=args.classes)
    build = time.perf_counter() - begin
    subsets = [
        np.sort(rng.choice(args.images, args.subset_images, replace=False))
        for _ in range(args.subsets)
    ]
    weights = image_weights(subsets, num_images=args.images)
    figures: dict[str, float] = {}

    def detal(workers: int) -> float:
        begin = time.perf_counter()
        figures["detal"] = batch_mean_ap(table, weights, workers=workers)[0]
        return (time.perf_counter() - begin) / len(subsets)

    engines: dict[str, Callable[[], float]] = {
        "detal": lambda: detal(args.workers),
        "detal_1_thread": lambda: detal(1),
    }
    engines |= _pycocotools(annotations, predictions, args.classes, subsets, figures)
    engines |= _hotcoco(annotations, predictions, args.classes, subsets, figures)
    detal(args.workers)  # what is made once per table, and what NumPy makes once
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for number in range(args.rounds):
        for name, measure in engines.items():
            if number == 0 or not name.endswith("default_parameters"):
                seconds[name].append(measure())
    median = {name: statistics.median(values) for name, values in seconds.items()}
    result: dict[str, Any] = {
        f"speedup_over_{name}": round(median[name] / median["detal"], 2) if name in median else None
        for engine in ("pycocotools", "hotcoco")
        for name in (engine, f"{engine}_default_parameters")
    }
    reference = figures["pycocotools"]
    return result | {
        "seconds_per_subset": median,
        "detections": len(predictions.boxes),
        "build_seconds": round(build, 3),
        "figures_differ_by": max(abs(figure - reference) for figure in figures.values()),
        "other": _other_times(table, weights, rng),
    }


def _other_times(table: MatchTable, weights: Array, rng: np.random.Generator) -> dict[str, float]:
    """Milliseconds: bootstrap, re-scoring all and a few detections, adding one image."""
    images = weights.shape[1]
    bootstrap = image_weights(list(rng.integers(0, images, (8, images))), num_images=images)
    scores = table.scores + rng.normal(0, 0.02, len(table.scores)).astype(table.scores.dtype)
    few = rng.choice(len(scores), 20, replace=False)
    running = RunningAP(table, np.flatnonzero(weights[0]))
    outside = np.flatnonzero(weights[0] == 0)

    def timed(action: Callable[[], object]) -> float:
        begin = time.perf_counter()
        action()
        return round(1e3 * (time.perf_counter() - begin), 3)

    return {
        "bootstrap_ms": round(timed(lambda: batch_mean_ap(table, bootstrap)) / 8, 3),
        "rescore_all_ms": statistics.median(
            timed(lambda: rescored(table, scores)) for _ in range(3)
        ),
        "rescore_20_ms": statistics.median(
            timed(lambda: rescored(table, scores[few], detections=few)) for _ in range(3)
        ),
        "one_subset_in_full_ms": statistics.median(
            timed(lambda: batch_mean_ap(table, weights[:1])) for _ in range(9)
        ),
        "running_add_one_image_ms": statistics.median(
            timed(lambda image=image: running.add([image]))  # type: ignore[misc]
            for image in outside[:9]
        ),
    }


def _pycocotools(
    annotations: Annotations,
    predictions: Predictions,
    classes: int,
    subsets: Sequence[Array],
    figures: dict[str, float],
) -> dict[str, Callable[[], float]]:
    """COCOeval with ``imgIds``: evaluate and accumulate, one subset a turn."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, found = _coco_rows(annotations, predictions)

    def index(rows: list[dict[str, Any]]) -> Any:
        coco = COCO()
        coco.dataset = _coco_file(len(annotations), classes, rows)
        with contextlib.redirect_stdout(io.StringIO()):
            coco.createIndex()
        return coco

    pair = index(truth), index(found)

    def run(*, default: bool) -> float:
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(*pair, "bbox")
            evaluation.params.imgIds = subsets[0].tolist()
            if not default:
                evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
                evaluation.params.maxDets = [100]
            begin = time.perf_counter()
            evaluation.evaluate()
            evaluation.accumulate()
            seconds = time.perf_counter() - begin
        precision = evaluation.eval["precision"][..., 0, -1]
        figures["pycocotools"] = float(precision[precision > -1].mean())
        return seconds

    return {
        "pycocotools": lambda: run(default=False),
        "pycocotools_default_parameters": lambda: run(default=True),
    }


def _hotcoco(
    annotations: Annotations,
    predictions: Predictions,
    classes: int,
    subsets: Sequence[Array],
    figures: dict[str, float],
) -> dict[str, Callable[[], float]]:
    """``slice_by`` over all subsets in one call, less what a call without subsets takes."""
    try:
        import hotcoco  # type: ignore[import-not-found]
    except ImportError:
        print("hotcoco is not importable: left out")
        return {}
    truth, found = _coco_rows(annotations, predictions)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "truth.json"
        file.write_text(json.dumps(_coco_file(len(annotations), classes, truth)))
        coco = hotcoco.COCO(str(file))
    rows = [[r["image_id"], *r["bbox"], r["score"], r["category_id"]] for r in found]
    results = coco.load_res(np.array(rows, dtype=np.float64))

    def evaluated(*, default: bool) -> Any:
        evaluation = hotcoco.COCOeval(coco, results, "bbox")
        if not default:
            evaluation.params.area_rng, evaluation.params.area_rng_lbl = [[0, 1e10]], ["all"]
            evaluation.params.max_dets = [100]
        evaluation.evaluate()
        return evaluation

    engines = {False: evaluated(default=False), True: evaluated(default=True)}

    def run(*, default: bool) -> float:
        # The defaults are an order slower: fewer subsets say as much.
        chosen = subsets[:32] if default else subsets
        slices = {str(k): subset.tolist() for k, subset in enumerate(chosen)}
        begin = time.perf_counter()
        engines[default].slice_by({})
        between = time.perf_counter()
        table = engines[default].slice_by(slices)
        seconds = time.perf_counter() - between - (between - begin)
        figures["hotcoco"] = float(table["0"]["AP"])
        return seconds / len(chosen)

    return {
        "hotcoco": lambda: run(default=False),
        "hotcoco_default_parameters": lambda: run(default=True),
    }


def _hotcoco_version() -> dict[str, str]:
    try:
        import hotcoco
    except ImportError:
        return {}
    return {"hotcoco": str(hotcoco.__version__)}


def _coco_file(images: int, classes: int, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "images": [
            {"id": i, "width": 1000, "height": 1000, "file_name": f"{i}.jpg"} for i in range(images)
        ],
        "categories": [{"id": c, "name": str(c)} for c in range(classes)],
        "annotations": rows,
    }


def _coco_rows(
    annotations: Annotations, predictions: Predictions
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Ground truth and detections as COCO writes them."""

    def rows(data: Annotations | Predictions, **columns: Array) -> list[dict[str, Any]]:
        boxes = data.boxes.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        table = {
            "image_id": data.image_index,
            "category_id": data.labels,
            "bbox": boxes,
            "area": boxes[:, 2] * boxes[:, 3],
            **columns,
        }
        values = zip(*(column.tolist() for column in table.values()), strict=True)
        return [
            {"id": i, **dict(zip(table, row, strict=True))} for i, row in enumerate(values, start=1)
        ]

    return (
        rows(annotations, area=annotations.areas, iscrowd=annotations.is_crowd.astype(int)),
        rows(predictions, score=predictions.scores),
    )


def _generated(
    images: int, classes: int, density: int, rng: np.random.Generator
) -> tuple[Annotations, Predictions]:
    """Images as in COCO: about 7.3 objects of up to 5 classes, long-tailed, 1 % crowds.

    Three quarters of the objects are found, with a box error that is larger where the score is
    lower; the other detections are false, mostly of classes that are in the image, and low.
    """
    frequency = (np.arange(classes) + 3.0) ** -0.9
    frequency /= frequency.sum()
    truth: dict[str, list[Array]] = {"boxes": [], "labels": [], "is_crowd": []}
    found: dict[str, list[Array]] = {"boxes": [], "scores": [], "labels": []}
    for _ in range(images):
        here = rng.choice(classes, rng.integers(1, 6), p=frequency)
        boxes, labels = _boxes(rng.poisson(7.3), rng), rng.choice(here, 100)
        labels = labels[: len(boxes)]
        hit = np.flatnonzero(rng.random(len(boxes)) < 0.75)
        quality = rng.beta(6, 2, len(hit))
        size = np.tile(boxes[hit, 2:] - boxes[hit, :2], 2)
        error = rng.normal(0, 0.22, (len(hit), 4)) * (1 - quality[:, None]) * size
        false = max(0, rng.poisson(density) - len(hit))
        anywhere = rng.choice(classes, false, p=frequency)
        guess = np.where(rng.random(false) < 0.7, rng.choice(here, false), anywhere)
        scores = np.concatenate([rng.beta(2 + 4 * quality, 2), rng.beta(1, 6, false)])
        truth["boxes"].append(boxes)
        truth["labels"].append(labels)
        truth["is_crowd"].append(rng.random(len(boxes)) < 0.012)
        found["boxes"].append(np.concatenate([boxes[hit] + error, _boxes(false, rng)]))
        found["scores"].append(scores.astype(np.float32))
        found["labels"].append(np.concatenate([labels[hit], guess]))
    return Annotations.from_lists(**truth), Predictions.from_lists(**found)


def _boxes(count: int, rng: np.random.Generator) -> Array:
    """(count, 4) boxes of 6 to 400 pixels."""
    corner = rng.uniform(0, 500, (count, 2))
    size = np.exp(rng.normal(4, 0.9, (count, 2))).clip(6, 400)
    return np.concatenate([corner, corner + size], axis=1)


if __name__ == "__main__":
    main()
