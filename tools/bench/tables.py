"""What building the look-up tables costs beside scoring the pool, the variants' training aside.

    python tools/bench/tables.py --output data/results/tables_cost.json

The sandbox is scored with its own checkpoint, and all tables are built from what was said about the
pool: the match table of the reference set, the category curve table (fit included), the output
change table, and the groups of the variant table (clusters, pseudo-labels, composition). Larger
pools repeat the detections of these images, with features that differ a little; scoring them is
taken to be as many times as dear. CPU seconds on one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402
import torch  # noqa: E402

from detal.config import DetectorConfig, TrainingConfig, VariantsConfig  # noqa: E402
from detal.datasets import Dataset, open_dataset  # noqa: E402
from detal.detectors import load_yolo  # noqa: E402
from detal.evaluation import Predictions, build_match_table  # noqa: E402
from detal.reward import FittedCurves, GroupGains  # noqa: E402
from detal.runs.group_variants import GroupPool, group_candidates  # noqa: E402
from detal.runs.pool import candidate_pool  # noqa: E402
from detal.runs.provenance import commit, machine, versions  # noqa: E402
from detal.runs.scoring import Scorer  # noqa: E402
from detal.runs.variants import Variants  # noqa: E402
from detal.seeding import generator  # noqa: E402
from detal.strategies import Candidates, Chunk  # noqa: E402
from detal.strategies.change_table import output_change_table  # noqa: E402
from detal.strategies.table_greedy import curve_table  # noqa: E402
from detal.strategies.variant_table import variant_table  # noqa: E402
from detal.structures import Detections  # noqa: E402

SIZES = (1_000, 10_000, 100_000)
BATCH_IMAGES = 100
SANDBOX = ROOT / "data" / "sandbox"
SEED_WEIGHTS = SANDBOX / "yolo_seed.pt"
JITTER = 1e-3


def main() -> None:
    """Measure, print, write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=None)
    parser.add_argument("--sizes", nargs="*", type=int, default=SIZES, help="of larger pools")
    args = parser.parse_args()
    torch.set_num_threads(1)
    scratch = Path(tempfile.mkdtemp(prefix="detal-bench-"))
    pool, image_s = scored_sandbox(scratch)
    rows = {}
    for size in (len(pool.candidates), *args.sizes):
        rows[str(size)] = {"scoring_s": image_s * size, "tables_s": build_all(repeated(pool, size))}
        print(size, rows[str(size)], flush=True)
    reference = open_reference(pool)
    shutil.rmtree(scratch)
    result = {
        "sizes": rows,
        "reference": {"images": len(reference), "detections": reference.num_boxes},
        "command": " ".join(["python", "tools/bench/tables.py", *sys.argv[1:]]),
        "commit": commit(ROOT),
        "machine": machine(),
        "versions": versions(),
    }
    if args.output is not None:
        args.output.write_text(json.dumps(rounded(result), indent=1) + "\n", encoding="utf-8")


def scored_sandbox(scratch: Path) -> tuple[GroupPool, float]:
    """The candidates of the sandbox, and the CPU seconds that scoring took for each."""
    detector = load_yolo(SEED_WEIGHTS, device="cpu", image_size=160)
    scorer = Scorer(
        detector=detector,
        root=scratch / "store",
        shard_size=1024,
        batch_size=16,
        threads=1,
        start_progress=lambda title: lambda done, total: None,
        load_member=lambda path: detector,
    )
    labeled, reference = (
        scorer.score(open_dataset(SANDBOX / f"{name}.json"), title="")[0]
        for name in ("seed", "reference")
    )
    images = open_dataset(SANDBOX / "pool.json")
    started = time.process_time()
    scored, _ = scorer.score(images, title="")
    seconds = time.process_time() - started
    found = candidate_pool(scored, labeled, class_names=detector.class_names, reference=reference)
    return GroupPool(found.candidates, found.scored.dataset, BATCH_IMAGES), seconds / len(images)


def repeated(pool: GroupPool, size: int) -> GroupPool:
    """``size`` candidates: those of the pool, again and again."""
    candidates = pool.candidates
    features, number = candidates.require_features("the bench"), len(candidates)
    source = np.arange(size) % number
    ids = np.array([f"{i:09d}" for i in range(size)], dtype=object)
    noise = generator(0, "bench", size).normal(scale=JITTER, size=(size, features.shape[1]))

    def chunks() -> Iterator[Chunk]:
        for start in range(0, size, number):
            for index, detections in candidates.chunks():
                kept = np.flatnonzero(start + index < size)
                yield start + index[kept], detections.take(torch.from_numpy(kept))

    images = pool.images.images[source].with_columns(image_id=pl.Series(ids.tolist()))
    return GroupPool(
        candidates=replace(
            candidates,
            image_ids=ids,
            chunks=chunks,
            expected_boxes=candidates.expected_boxes[source],
            image_features=(features[source] + noise).astype(np.float32),
            groups=None,
            metadata=None,
        ),
        images=Dataset("repeated", images, pool.images.class_names, pool.images.category_ids),
        batch_images=pool.batch_images,
    )


def build_all(pool: GroupPool) -> dict[str, float]:
    """CPU seconds of each table."""
    candidates = pool.candidates
    rng = generator(0, "bench", "tables")
    return {
        "match": timed(lambda: match_table(candidates)),
        "curves": timed(lambda: curves(candidates)),
        "change": timed(lambda: output_change_table(candidates, rng)),
        "groups": timed(lambda: groups(pool)),
    }


def timed(build: Callable[[], Any]) -> float:
    """CPU seconds of a call."""
    started = time.process_time()
    build()
    return time.process_time() - started


def open_reference(pool: GroupPool) -> Detections:
    """What the detector says about the reference set."""
    reference = pool.candidates.reference
    if reference is None or reference.detections is None:
        raise RuntimeError("the bench needs a reference set")
    return reference.detections()


def match_table(candidates: Candidates) -> None:
    """Of the reference set, which every variant is measured with."""
    reference = candidates.reference
    if reference is None or reference.detections is None or reference.annotations is None:
        raise RuntimeError("the bench needs a reference set")
    build_match_table(
        reference.annotations,
        Predictions.from_detections(reference.detections()),
        num_classes=len(candidates.class_names),
    )


def curves(candidates: Candidates) -> None:
    """The fit to four variants, and the table of the candidates."""
    counts = candidates.labeled.class_counts.astype(np.float64)
    shares = np.array([[0.25], [0.5], [0.75], [1.0]])
    fitted = FittedCurves.fit(
        candidates.class_names,
        counts=shares * counts,
        ap=0.6 - 0.5 * (shares * counts + 1) ** -0.5,
        labeled_counts=counts,
        made_of={},
    )
    made = curve_table(candidates, generator(0, "bench", "curves"), curves=fitted.curves)
    made.marginal_gain(made.start(), np.arange(len(candidates)))


def groups(pool: GroupPool) -> None:
    """Clusters and pseudo-labels, shrinkage, and the table of the candidates."""
    candidates = pool.candidates
    labeled = open_dataset(SANDBOX / "seed.json")
    variants = Variants(
        labeled=labeled,
        reference=labeled,
        training=TrainingConfig(init="yolo11n.yaml"),
        tables=VariantsConfig(),
        detector=DetectorConfig(weights=str(SEED_WEIGHTS)),
        seed=0,
        device="cpu",
    )
    made = group_candidates(variants, pool)
    number, classes = len(made["centres"]), len(candidates.class_names)
    rng = generator(0, "bench", "groups")
    gains = GroupGains(
        class_names=candidates.class_names,
        centres=np.array(made["centres"], dtype=np.float32),
        images=np.array(made["images"]),
        trained=np.array([len(ids) for ids in made["image_ids"]]),
        pseudo_boxes=np.zeros(number, dtype=np.int64),
        labeled=np.array(made["labeled"]),
        group_ap=rng.uniform(0.3, 0.5, size=(number, classes)),
        control_ap=rng.uniform(0.35, 0.36, size=(3, classes)),
        made_of={},
    )
    table = variant_table(gains, candidates)
    table.marginal_gain(table.start(), np.arange(len(candidates)))


def rounded(value: Any) -> Any:
    """The same value with numbers to three digits."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    return round(value, 3) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
