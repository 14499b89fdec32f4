"""Scoring on a Ray cluster of two nodes beside one process, and selection part by part.

    python tools/bench/ray_cluster.py --output data/results/ray.json

Scoring: images of the aquarium, YOLO11n with random weights, 40 boxes an image. Each run is a fresh
process with an empty store: one process of detal with two threads; two actors of one thread on a
two-node cluster on this machine (`ray.cluster_utils`), undisturbed; the same with a worker killed,
and with a node killed, when a third of the images are done. The stores are compared file by file,
and so are the batches that are selected from them. Wall time and the CPU time of all processes are
given; on one machine a cluster can only cost.

Selection: a synthetic pool of scenes, long-tailed and in scenes' order, from which each strategy
chooses as a whole and in 2 to 32 parts (`SelectConfig.partitions`).
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault(
    "RAY_worker_niceness", "0"
)  # the same priority as the run it is compared with
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = str(ROOT)

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402
import psutil  # noqa: E402
import torch  # noqa: E402

from detal.config import SelectConfig, load_config  # noqa: E402
from detal.datasets import IMAGE_COLUMNS, Dataset  # noqa: E402
from detal.runs.partitions import Question, shortlist  # noqa: E402
from detal.runs.pool import ScoredDataset, candidate_pool  # noqa: E402
from detal.runs.provenance import commit, machine, rounded, versions  # noqa: E402
from detal.runs.workers import Task  # noqa: E402
from detal.scoring import IMAGE_SCHEMA  # noqa: E402
from detal.seeding import generator  # noqa: E402
from detal.store import Store  # noqa: E402
from detal.strategies import make_strategy  # noqa: E402
from detal.structures import Budget, Detections  # noqa: E402

SHARED = ROOT.parent / "shared"
SECTIONS = ("scoring", "partitions")
ARMS = ("local", "ray", "worker_killed", "node_killed")
PARTS = (1, 2, 4, 8, 16, 32)
STRATEGIES = ("entropy", "core_set", "kmeans", "facility_location")
POOL, DIMENSIONS, SCENES, PICKS = 20_000, 128, 400, 200


def main() -> None:
    """Measure, print, write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--image-size", type=int, default=640)
    parser.add_argument("--shard-size", type=int, default=16)
    parser.add_argument("--output", type=Path, default=None)
    parser.add_argument(
        "--sections", nargs="*", default=list(SECTIONS), choices=SECTIONS, help="what is measured"
    )
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2], help="of partitions")
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=ARMS)
    parser.add_argument("--one", nargs=2, metavar=("ARM", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(run_arm(args, args.one[0], Path(args.one[1]))))
        return
    result: dict[str, Any] = {}
    if args.output is not None and args.output.exists():  # the other section stays
        result = json.loads(args.output.read_text(encoding="utf-8"))
    for section in args.sections:
        measured = measure_scoring(args) if section == "scoring" else measure_partitions(args.seeds)
        result[section] = measured | {
            "command": " ".join(["python", "tools/bench/ray_cluster.py", *sys.argv[1:]]),
            "commit": commit(ROOT),
            "machine": machine(),
            "versions": versions() | {"ray": _ray_version()},
        }
        if args.output is not None:
            text = json.dumps(rounded(result), indent=1)
            args.output.write_text(text + "\n", encoding="utf-8")


def _ray_version() -> str:
    return importlib.metadata.version("ray")


def config_of(args: argparse.Namespace, folder: Path) -> SelectConfig:
    """The run whose sets are scored."""
    images = sorted((SHARED / "data" / "aquarium" / "train" / "images").iterdir())[: args.images]
    (folder / "pool.txt").write_text("\n".join(map(str, images)) + "\n", encoding="utf-8")
    return load_config(
        SelectConfig,
        None,
        [
            f"pool={folder / 'pool.txt'}",
            "detector.weights=yolo11n.yaml",  # random weights, the same in every process
            "detector.score_threshold=0.0001",
            "detector.max_detections=40",
            f"detector.image_size={args.image_size}",
            "device=cpu",
            "threads=2",
            "strategy=core_set",
            "budget=10",
            f"shard_size={args.shard_size}",
            f"store={folder / 'store'}",
            f"output={folder / 'out'}",
        ],
    )


def measure_scoring(args: argparse.Namespace) -> dict[str, Any]:
    """Each arm in a process of its own; local first and last."""
    arms: dict[str, Any] = {}
    order = [*args.arms, "local_again"]
    with tempfile.TemporaryDirectory(prefix="detal-ray-") as scratch:
        for arm in order:
            folder = Path(scratch) / arm
            folder.mkdir()
            command = [sys.executable, __file__, "--one", arm, str(folder)]
            for option in ("images", "image_size", "shard_size"):
                command += [f"--{option.replace('_', '-')}", str(getattr(args, option))]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{arm}: {done.stderr[-3000:]}")
            arms[arm] = json.loads(done.stdout.strip().splitlines()[-1])
            print(arm, arms[arm], flush=True)
    local, again, ray = arms["local"], arms["local_again"], arms.get("ray", arms["local"])
    cpu = statistics.mean((local["cpu_s"], again["cpu_s"]))
    rate = statistics.mean((local["images_per_s"], again["images_per_s"]))
    return {
        "arms": arms,
        "images": args.images,
        "image_size": args.image_size,
        "shard_size": args.shard_size,
        "identical_files": all(arm["digest"] == local["digest"] for arm in arms.values()),
        "identical_batches": all(arm["batch"] == local["batch"] for arm in arms.values()),
        "cpu_over_local_s": ray["cpu_s"] - cpu,
        "start_over_local_s": ray["first_shard_s"] - local["first_shard_s"],
        "rate_to_local": ray["images_per_s"] / rate,
        "store_bytes_per_image": local["store_bytes"] / args.images,
    }


def run_arm(args: argparse.Namespace, arm: str, folder: Path) -> dict[str, Any]:
    """Score with one runner, then select from what it wrote."""
    config = config_of(args, folder)
    started, marks = time.monotonic(), []
    with _cpu_time() as cpu:
        outcome = _scored(config, arm, lambda done: marks.append((time.monotonic(), done)))
    from detal.runs.select import run_select

    seconds = time.monotonic() - started
    shards = [(moment, done) for moment, done in marks if done]
    (first, before), (last, after) = shards[0], shards[-1]
    run = run_select(config)
    if run.run["timings"]["scored_now"]:
        raise RuntimeError("the store was not complete")
    chosen = run.selection.image_ids
    found = sorted((folder / "store").rglob("*"))
    # What a killed process had not finished begins with a dot; nothing reads it.
    files = [path for path in found if path.is_file() and path.name[0] != "."]
    digest = hashlib.blake2b(digest_size=16)
    for path in files:
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return {
        "seconds": seconds,
        "cpu_s": cpu[0],
        "first_shard_s": first - started,
        "images_per_s": (after - before) / (last - first),
        "scored_now": outcome["scored_now"],
        "files": len(files),
        "store_bytes": sum(path.stat().st_size for path in files),
        "digest": digest.hexdigest(),
        "batch": hashlib.blake2b("\n".join(chosen).encode(), digest_size=16).hexdigest(),
        "load": os.getloadavg()[0],
    }


def _scored(config: SelectConfig, arm: str, mark: Any) -> dict[str, Any]:
    from detal.runs.score import run_score

    if arm.startswith("local"):
        return run_score(config, progress=lambda title: lambda done, total: mark(done))[0]
    import ray
    from ray.cluster_utils import Cluster

    from detal.runs.ray_engine import RayOptions, ray_scoring

    resources = {"num_cpus": 2, "object_store_memory": 200 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=dict(resources))
    second = cluster.add_node(**resources)
    ray.init(address=cluster.address, log_to_driver=False)
    struck: list[int] = []

    def progress(done: int, total: int) -> None:
        mark(done)
        if 3 * done < total or struck or arm == "ray":
            return
        struck.append(done)
        if arm == "node_killed":
            cluster.remove_node(second, allow_graceful=False)
        else:
            os.kill(_actors()[-1].pid, signal.SIGKILL)

    try:
        with ray_scoring(RayOptions(actors=2, cpus=1)) as runner:
            (outcome,) = run_score(
                config.model_copy(update={"threads": 1}),
                runner=runner,
                progress=lambda title: progress,
            )
    finally:
        ray.shutdown()
        cluster.shutdown()
    if arm != "ray" and not struck:
        raise RuntimeError(f"{arm}: nothing was killed")
    return outcome


def _actors() -> list[psutil.Process]:
    """The processes that hold a detector, oldest first."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "MapWorker" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:  # gone meanwhile
            continue
    return sorted(found, key=lambda process: process.create_time())


@contextmanager
def _cpu_time() -> Iterator[list[float]]:
    """CPU seconds of this process and all below it while the block runs, killed ones, too."""
    spent: dict[int, float] = {}
    total, stop = [0.0], threading.Event()
    me = psutil.Process()

    def look() -> None:
        for process in (me, *me.children(recursive=True)):
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue
            spent[process.pid] = times.user + times.system

    def sample() -> None:
        while not stop.wait(5):  # looking costs time, too
            look()

    look()
    before = spent[me.pid]
    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield total
    finally:
        stop.set()
        thread.join()
        look()
        total[0] = sum(spent.values()) - before


def measure_partitions(seeds: Sequence[int]) -> dict[str, Any]:
    """For each strategy and number of parts, what the batch covers, seeds averaged."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in STRATEGIES}
    random: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="detal-parts-") as scratch:
        for seed in seeds:
            pool, features = synthetic_pool(Path(scratch) / str(seed), seed)
            drawn = generator(seed, "bench", "random").permutation(POOL)[:PICKS]
            random.append(coverage(features, drawn))
            for name in STRATEGIES:
                whole: set[str] = set()
                for parts in PARTS:
                    row = {"seed": seed} | choose(pool, features, name, parts, seed, whole)
                    rows[name].append(row)
                    print(name, row, flush=True)
    means = {
        name: [_mean([row for row in found if row["parts"] == parts]) for parts in PARTS]
        for name, found in rows.items()
    }
    return {
        "pool": POOL,
        "dimensions": DIMENSIONS,
        "scenes": SCENES,
        "picks": PICKS,
        "seeds": list(seeds),
        "random": _mean(random),
        "strategies": means,
    }


def _mean(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    return {key: statistics.mean(row[key] for row in rows) for key in rows[0] if key != "seed"}


def synthetic_pool(folder: Path, seed: int) -> tuple[ScoredDataset, np.ndarray[Any, Any]]:
    """A scored pool whose neighbours by id are of one scene; scenes have long-tailed sizes."""
    rng = generator(seed, "bench", "partitions")
    sizes = rng.multinomial(POOL, np.arange(1, SCENES + 1) ** -1.0 / _harmonic(SCENES))
    kinds = rng.normal(size=(20, DIMENSIONS))
    scenes = kinds[rng.integers(20, size=SCENES)] + rng.normal(size=(SCENES, DIMENSIONS))
    features = np.repeat(scenes[rng.permutation(SCENES)], sizes, axis=0)
    features += 0.5 * rng.normal(size=features.shape)
    features = features.astype(np.float16).astype(np.float32)
    keys = [f"{seed}-{i}" for i in range(POOL)]
    store = Store(
        folder, fingerprint="synthetic", settings={}, class_names=("a", "b"), score_kind="sigmoid"
    )
    for start in range(0, POOL, 4096):
        rows = slice(start, start + 4096)
        store.write(keys[rows], _images(keys[rows]), _detections(features[rows], rng))
    table = pl.DataFrame(
        {
            "image_id": [f"{i:08d}" for i in range(POOL)],
            "path": keys,
            "width": [640] * POOL,
            "height": [480] * POOL,
            "group": [None] * POOL,
        },
        schema=IMAGE_COLUMNS,
    )
    dataset = Dataset(
        name="pool", images=table, class_names=("a", "b"), category_ids=(0, 1), annotations=None
    )
    return ScoredDataset(dataset=dataset, stored=store.read(keys)), features


def _harmonic(count: int) -> float:
    return float((1 / np.arange(1, count + 1)).sum())


def _images(keys: Sequence[str]) -> pl.DataFrame:
    values: dict[str, Any] = {name: [None] * len(keys) for name in IMAGE_SCHEMA}
    values |= {"path": keys, "content_hash": keys, "width": [640] * len(keys)}
    return pl.DataFrame(values | {"height": [480] * len(keys)}, schema=IMAGE_SCHEMA)


def _detections(features: np.ndarray[Any, Any], rng: np.random.Generator) -> Detections:
    """One box an image."""
    n = len(features)
    scores = torch.from_numpy(rng.uniform(0.05, 0.95, size=n).astype(np.float32))
    return Detections(
        offsets=torch.arange(n + 1),
        boxes=torch.tensor([[0.0, 0, 20, 20]]).expand(n, 4).clone(),
        scores=scores,
        labels=torch.zeros(n, dtype=torch.int64),
        logits=torch.stack([scores.logit(), torch.full((n,), -5.0)], dim=1),
        score_kind="sigmoid",
        image_features=torch.from_numpy(features),
    )


def choose(
    pool: ScoredDataset,
    features: np.ndarray[Any, Any],
    name: str,
    parts: int,
    seed: int,
    whole: set[str],
) -> dict[str, Any]:
    """One batch; ``whole`` is the one that was chosen from the whole pool, first of all."""
    question = Question(
        strategy=(name, {}),
        budget=Budget(PICKS),
        seed=seed,
        min_distance=0.0,
        per_group=None,
        class_names=("a", "b"),
        labeled=None,
        reference=None,
        match_ids=False,
    )
    started = time.process_time()
    seen = pool if parts == 1 else shortlist(pool, question, parts=parts, runner=_here)
    candidates = candidate_pool(seen, None, class_names=("a", "b")).candidates
    rng = generator(seed, "select", name)
    chosen = make_strategy(name).query(candidates, budget=question.budget, rng=rng).image_ids
    if parts == 1:
        whole.update(chosen)
    return {
        "parts": parts,
        "most_images_at_once": max(len(candidates), POOL // parts),
        "cpu_s": time.process_time() - started,
        "same_as_whole": len(whole & set(chosen)) / PICKS,
        **coverage(features, np.array([int(image_id) for image_id in chosen])),
    }


def _here(tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
    for number, (function, *arguments) in enumerate(tasks):
        yield number, function(*arguments)


def coverage(features: np.ndarray[Any, Any], rows: Any) -> dict[str, float]:
    """Cosine distance of the pool to the nearest picked image: largest and mean."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    nearest = 1 - (unit @ unit[rows].T).max(axis=1)
    return {"radius": float(nearest.max()), "mean_distance": float(nearest.mean())}


if __name__ == "__main__":
    main()
