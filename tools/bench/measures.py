"""What each strategy costs: forward passes, and selection time from 1,000 to 100,000 images.

    python tools/bench/measures.py --output data/results/measures_cost.json

First a real pool: 1,000 images of a generated sandbox, scored with the sandbox's own checkpoint on
one thread, with all the passes a strategy needs. Then synthetic stores (8 boxes an image, 20
classes, 64 numbers an object, 128 an image; 500 labelled images) and a budget of 100 images, each
selection in a process of its own. A selection expected to take longer than ``--limit``
seconds, judged by the size before, is left out and marked so. With ``--scratch`` a run that was
stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tools" / "bench"))

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402
import torch  # noqa: E402
from synthetic import truth_of  # noqa: E402

from detal.datasets import IMAGE_COLUMNS, Dataset, open_dataset  # noqa: E402
from detal.detectors import load_yolo  # noqa: E402
from detal.errors import ConfigError  # noqa: E402
from detal.runs.pool import ScoredDataset, candidate_pool  # noqa: E402
from detal.runs.provenance import commit, machine, versions  # noqa: E402
from detal.runs.scoring import Scorer  # noqa: E402
from detal.sandbox import make_sandbox  # noqa: E402
from detal.scoring import IMAGE_SCHEMA  # noqa: E402
from detal.seeding import generator  # noqa: E402
from detal.store import Store, image_keys  # noqa: E402
from detal.strategies import STRATEGIES, Needs, make_strategy  # noqa: E402
from detal.structures import Budget, Detections  # noqa: E402

SIZES = (1_000, 10_000, 100_000)
LABELED = 500
PICKS = 100
CLASSES = tuple(f"class{c}" for c in range(20))
SHARD = 4096
SEED_WEIGHTS = ROOT / "data" / "sandbox" / "yolo_seed.pt"
OPTIONS: dict[str, dict[str, Any]] = {
    "filter": {"where": "sharpness > 0"},
    "weighted": {"score": "0.3 * sharpness + luminance"},
    "combine": {"parts": ["entropy", "box_count"]},
    "staged": {"stages": [{"name": "entropy", "keep": 4}, "core_set"]},
}
_DRAWN_FROM = "bench"


def main() -> None:
    """Measure, print, write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=None)
    parser.add_argument("--strategies", nargs="*", default=sorted(STRATEGIES))
    parser.add_argument("--sizes", nargs="*", type=int, default=SIZES)
    parser.add_argument("--limit", type=float, default=120.0, help="seconds per selection")
    parser.add_argument("--scratch", type=Path, default=None, help="where stores are kept")
    parser.add_argument("--one", nargs=2, metavar=("STRATEGY", "SIZE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.one:
        print(json.dumps(select_once(args.scratch, args.one[0], int(args.one[1]))))
        return
    scratch = args.scratch or Path(tempfile.mkdtemp(prefix="detal-bench-"))
    kept = scratch / "strategies.json"
    done = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    missing = [name for name in args.strategies if name not in done]
    found = measure_real(missing, scratch) if missing else {}
    for size in args.sizes:
        write_synthetic(scratch, size)
    for name in missing:
        times = measure_sizes(scratch, name, args.sizes, args.limit)
        done[name] = found[name] | {"selection_s": times, "slope": slope_of(times)}
        print(name, done[name], flush=True)
        kept.write_text(json.dumps(done), encoding="utf-8")
    result = {
        "strategies": {name: done[name] for name in args.strategies},
        "sizes": list(args.sizes),
        "images_picked": PICKS,
        "limit_s": args.limit,
        "command": " ".join(["python", "tools/bench/measures.py", *sys.argv[1:]]),
        "commit": commit(ROOT),
        "machine": machine(),
        "versions": versions(),
    }
    if args.output is not None:
        args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if args.scratch is None:
        shutil.rmtree(scratch)


def measure_real(names: list[str], scratch: Path) -> dict[str, dict[str, Any]]:
    """Passes, scoring and selection time of each strategy on 1,000 images of a sandbox."""
    folder = scratch / "sandbox"
    make_sandbox(folder, images=2000, workers=1)
    pool = open_dataset(folder / "pool_truth.json").take(np.arange(1000))
    labeled = open_dataset(folder / "seed.json")
    options: dict[str, Any] = {"device": "cpu", "image_size": 160}
    plain = load_yolo(SEED_WEIGHTS, **options)
    dropout = load_yolo(SEED_WEIGHTS, **options, dropout_samples=20)
    found: dict[str, dict[str, Any]] = {}
    scored_for: dict[Needs, tuple[ScoredDataset, ScoredDataset, float]] = {}
    for name in names:
        strategy = make_strategy(name, **OPTIONS.get(name, {}))
        needs = Needs(views=strategy.needs.views, dropout=strategy.needs.dropout)
        if needs not in scored_for:
            detector = dropout if needs.dropout else plain
            scored_for[needs] = _scored(detector, needs, pool, labeled, scratch)
        scored, known, seconds = scored_for[needs]
        if strategy.needs.earlier_rounds or strategy.needs.members:  # any pass will do to time it
            members = strategy.needs.earlier_rounds or len(strategy.needs.members)
            passes = {f"member:{i}": scored.stored for i in range(members)}
            scored = ScoredDataset(dataset=scored.dataset, stored=scored.stored, passes=passes)
            seconds *= 1 + members
        found[name] = {
            "extra_passes": len(scored.passes),
            "scoring_s_per_1000_images": round(seconds, 3),
        }
        try:
            selection_s = _select(scored, known, name, PICKS)
            found[name]["selection_s_per_1000_images"] = round(selection_s, 3)
        except ConfigError as error:  # this detector lacks what the strategy needs
            found[name]["not_with_yolo"] = str(error)
        print(name, found[name], flush=True)
    return found


def _scored(
    detector: Any, needs: Needs, pool: Dataset, labeled: Dataset, scratch: Path
) -> tuple[ScoredDataset, ScoredDataset, float]:
    """Pool and labelled set, scored into an empty store, and the seconds the pool took."""
    root = scratch / f"store-{needs.dropout}-{'-'.join(needs.views)}"
    shutil.rmtree(root, ignore_errors=True)
    scorer = Scorer(
        detector=detector,
        root=root,
        shard_size=1024,
        batch_size=16,
        threads=1,
        start_progress=lambda title: lambda done, total: None,
        load_member=lambda path: detector,
    )
    known, _ = scorer.score(labeled, title="")
    started = time.process_time()
    scored, _ = scorer.score(pool, title="", needs=needs)
    return scored, known, time.process_time() - started


def _select(pool: ScoredDataset, labeled: ScoredDataset, name: str, images: int) -> float:
    """CPU seconds from the store to the batch."""
    strategy = make_strategy(name, **OPTIONS.get(name, {}))
    started = time.process_time()
    candidates = candidate_pool(pool, labeled, class_names=pool.stored.store.class_names)
    chosen = strategy.query(
        candidates.candidates, budget=Budget(images), rng=generator(0, _DRAWN_FROM)
    )
    if len(chosen) == 0:
        raise RuntimeError(f"{name} chose nothing")
    return time.process_time() - started


def write_synthetic(scratch: Path, size: int) -> None:
    """A store of ``size`` images and one of the labelled ones, unless they are there."""
    for kind, number in (("pool", size), ("labeled", LABELED)):
        store = _store(scratch, kind, size)
        keys = image_keys(_paths(kind, number))
        missing = store.missing(keys)
        for start in range(0, len(missing), SHARD):
            rows = missing[start : start + SHARD]
            rng = generator(0, _DRAWN_FROM, kind, size, start)
            store.write([keys[row] for row in rows], _images(rows), _detections(rng, len(rows)))


def _paths(kind: str, number: int) -> list[str]:
    return [f"/{kind}/{i:08d}.jpg" for i in range(number)]


def _store(scratch: Path, kind: str, size: int) -> Store:
    settings = {"kind": kind, "size": size if kind == "pool" else 0}
    return Store(
        scratch / "synthetic",
        fingerprint="synthetic",
        settings=settings,
        class_names=CLASSES,
        score_kind="sigmoid",
    )


def _images(rows: Any) -> pl.DataFrame:
    n = len(rows)
    rng = generator(0, _DRAWN_FROM, "images", int(rows[0]))
    values: dict[str, Any] = {
        "path": [f"/{row}" for row in rows],
        "width": [640] * n,
        "height": [480] * n,
        "content_hash": [f"{row:032x}" for row in rows],
        "error": [None] * n,
    }
    for name in IMAGE_SCHEMA.keys() - values.keys():
        values[name] = rng.uniform(1, 100, size=n)
    return pl.DataFrame({name: values[name] for name in IMAGE_SCHEMA}, schema=IMAGE_SCHEMA)


def _detections(rng: np.random.Generator, images: int) -> Detections:
    """Long-tailed classes, mostly low scores, features around one centre per class."""
    counts = rng.poisson(8, size=images)
    n = int(counts.sum())
    labels = np.minimum(rng.geometric(0.2, size=n) - 1, len(CLASSES) - 1)
    scores = np.clip(rng.beta(0.7, 1.5, size=n), 0.051, 0.999)
    image = np.repeat(np.arange(images), counts)
    order = np.lexsort((-scores, image))
    labels, scores = labels[order], scores[order].astype(np.float32)
    logits = rng.normal(-5, 1, size=(n, len(CLASSES))).astype(np.float32)
    logits[np.arange(n), labels] = np.log(scores / (1 - scores))
    centres = generator(0, _DRAWN_FROM, "centres").normal(size=(len(CLASSES), 64))
    corner = rng.uniform(0, 300, size=(n, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(20, 150, size=(n, 2))], axis=1)
    features = centres[labels] + rng.normal(size=(n, 64))
    return Detections(
        offsets=torch.from_numpy(np.concatenate([[0], np.cumsum(counts)])),
        boxes=torch.from_numpy(boxes.astype(np.float32)),
        scores=torch.from_numpy(scores),
        labels=torch.from_numpy(labels.astype(np.int64)),
        logits=torch.from_numpy(logits),
        score_kind="sigmoid",
        box_spread=torch.from_numpy(rng.uniform(0, 9, size=(n, 4)).astype(np.float32)),
        cluster_spread=torch.from_numpy(rng.uniform(0, 9, size=(n, 4)).astype(np.float32)),
        object_features=torch.from_numpy(features.astype(np.float32)),
        image_features=torch.from_numpy(rng.normal(size=(images, 128)).astype(np.float32)),
        mutual_information=torch.from_numpy(rng.uniform(0, 0.5, size=n).astype(np.float32)),
        tightness=torch.from_numpy(rng.uniform(0.3, 1, size=n).astype(np.float32)),
    )


def select_once(scratch: Path, name: str, size: int) -> float:
    """One selection from a synthetic pool."""
    needs = make_strategy(name, **OPTIONS.get(name, {})).needs
    pool = _read(scratch, "pool", size, size)
    members = needs.earlier_rounds or len(needs.members)
    names = [*needs.views, *(f"member:{i}" for i in range(members))]
    pool = ScoredDataset(
        dataset=pool.dataset, stored=pool.stored, passes=dict.fromkeys(names, pool.stored)
    )
    return _select(pool, _read(scratch, "labeled", LABELED, size), name, PICKS)


def _read(scratch: Path, kind: str, number: int, size: int) -> ScoredDataset:
    store = _store(scratch, kind, size)
    paths = _paths(kind, number)
    stored = store.read(image_keys(paths))
    if kind == "labeled":  # other contents than the pool's
        hashes = pl.Series("content_hash", [f"labeled{i}" for i in range(number)])
        stored = type(stored)(store=store, images=stored.images.with_columns(hashes))
    table = pl.DataFrame(
        {
            "image_id": [f"{kind}{i:08d}" for i in range(number)],
            "path": paths,
            "width": [640] * number,
            "height": [480] * number,
            "group": [None] * number,
        },
        schema=IMAGE_COLUMNS,
    )
    seen = stored.detections(np.arange(number)) if kind == "labeled" else None
    annotations = None if seen is None else truth_of(seen)
    dataset = Dataset(
        name=kind,
        images=table,
        class_names=CLASSES,
        category_ids=tuple(range(len(CLASSES))),
        annotations=annotations,
    )
    return ScoredDataset(dataset=dataset, stored=stored)


def measure_sizes(
    scratch: Path, name: str, sizes: list[int], limit: float
) -> dict[str, float | None]:
    """CPU seconds of one selection at each size; None where it would take too long."""
    times: dict[str, float | None] = {}
    last: tuple[int, float] | None = None
    for size in sizes:
        if last is not None and last[1] * size / last[0] > limit:
            times[str(size)] = None
            continue
        command = [sys.executable, __file__, "--scratch", str(scratch), "--one", name, str(size)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{name} at {size}: {done.stderr[-2000:]}")
        times[str(size)] = round(float(done.stdout), 3)
        last = (size, float(done.stdout))
    return times


def slope_of(times: dict[str, float | None]) -> float | None:
    """Exponent of the time over the pool between the two largest sizes that were measured."""
    measured = [(int(size), value) for size, value in times.items() if value is not None]
    if len(measured) < 2:
        return None
    (n0, t0), (n1, t1) = measured[-2:]
    return round(math.log(t1 / t0) / math.log(n1 / n0), 3)


if __name__ == "__main__":
    main()
