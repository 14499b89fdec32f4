"""Selection at size: time and memory of every strategy, beside named references.

    python tools/bench/selection.py --scratch DIR --output data/results/selection.json

10,000 images from 1,000,000 (`synthetic`) on one thread: CPU and wall seconds to open the pool
(store to candidates), to choose, and the most memory the process had while a strategy chose. All
strategies choose from one opened pool; the peak of memory is set back before each, so that it holds
the pool and what earlier strategies left. Beside them, on the same features: a textbook k-centre in
NumPy (one matrix-vector product a pick), scikit-learn's k-means++, and what the machine can do at
best: reading memory and multiplying matrices. ``--output`` is completed: a run that was stopped
goes on where it was. ``--profile`` prints where one selection spends its time.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("POLARS_MAX_THREADS", "1")
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tools" / "bench"))

import numpy as np  # noqa: E402
import synthetic  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from detal.runs.pool import candidate_pool  # noqa: E402
from detal.runs.provenance import commit, machine, versions  # noqa: E402
from detal.seeding import generator  # noqa: E402
from detal.strategies import STRATEGIES, Candidates, QueryStrategy, make_strategy  # noqa: E402
from detal.strategies.clustering import _seed, fit_centres  # noqa: E402
from detal.structures import Budget  # noqa: E402

TEXTBOOK_PICKS = 20
SEEDED = (20_000, 100)  # points and seeds for k-means++
GEMM_SIZE = 2048
# The agent is made for hundreds of picks; it has a bench of its own.
MEASURED = tuple(name for name in STRATEGIES if name != "mgral")
_DRAWN_FROM = "selection bench"


def main() -> None:
    """Measure, print, write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scratch", type=Path, required=True, help="where stores are kept")
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--picks", type=int, default=10_000)
    parser.add_argument("--strategies", nargs="*", default=MEASURED)
    parser.add_argument("--output", type=Path, default=None)
    parser.add_argument("--profile", help="print where this strategy spends its time")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.profile:
        profile_one(args.scratch, args.profile, args.images, args.picks)
        return
    known = args.output is not None and args.output.exists()
    result: dict[str, Any] = json.loads(args.output.read_text("utf-8")) if known else {}
    result |= {
        "images": args.images,
        "picks": args.picks,
        "command": shlex.join(["python", "tools/bench/selection.py", *sys.argv[1:]]),
        "commit": commit(ROOT),
        "machine": machine(),
        "versions": versions(),
    }

    def keep() -> None:
        if args.output is not None:
            args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")

    write(args.scratch, args.images)
    pool, result["open"] = open_pool(args.scratch, args.images)
    print("open", result["open"], flush=True)
    if "references" not in result:
        result["references"] = references(pool)
        print(result["references"], flush=True)
    done = result.setdefault("strategies", {})
    keep()
    for name in args.strategies:
        if name not in done:
            done[name] = choose(pool, strategy_of(name, args.scratch), args.picks)
            print(name, done[name], flush=True)
            keep()


def strategy_of(name: str, scratch: Path) -> QueryStrategy:
    """The strategy with the options it cannot do without."""
    given: dict[str, dict[str, Any]] = {
        "filter": {"where": "sharpness > 0"},
        "weighted": {"score": "0.3 * sharpness + luminance"},
        "combine": {"parts": ["entropy", "box_count"]},
        "staged": {"stages": [{"name": "entropy", "keep": 4}, "core_set"]},
        "variant_greedy": {"table": str(scratch / "groups")},
    }
    return make_strategy(name, **given.get(name, {}))


def write(scratch: Path, images: int) -> None:
    """The stores and the table, unless they are there."""
    synthetic.write_store(scratch, "pool", images)
    synthetic.write_store(scratch, "labeled", synthetic.LABELED)
    synthetic.write_store(scratch, "reference", synthetic.REFERENCE)
    if not (scratch / "groups").exists():
        synthetic.group_gains().save(scratch / "groups")


def open_pool(scratch: Path, images: int) -> tuple[Candidates, dict[str, Any]]:
    """The candidates with every further pass that a strategy reads, and what opening took."""
    needs = [strategy_of(name, scratch).needs for name in STRATEGIES]
    members = max(max(n.earlier_rounds, len(n.members)) for n in needs)
    views = sorted({view for n in needs for view in n.views})
    passes = (*views, *(f"member:{i}" for i in range(members)))
    reference = synthetic.read_pool(scratch, "reference", synthetic.REFERENCE)
    labeled = synthetic.read_pool(scratch, "labeled", synthetic.LABELED)

    def work() -> Candidates:
        return candidate_pool(
            synthetic.read_pool(scratch, "pool", images, passes),
            labeled,
            class_names=synthetic.CLASSES,
            reference=reference,
        ).candidates

    return timed(work)


def choose(pool: Candidates, strategy: QueryStrategy, picks: int) -> dict[str, Any]:
    """CPU and wall seconds of one selection, and the peak of memory during it."""
    chosen, cost = timed(
        lambda: strategy.query(pool, budget=Budget(picks), rng=generator(0, _DRAWN_FROM))
    )
    if len(set(chosen.image_ids)) != picks:
        raise RuntimeError(f"{len(chosen)} images were chosen, {picks} asked for")
    return cost


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, Any]]:
    """What ``work`` returns, its CPU and wall seconds, and the peak of memory meanwhile, in MiB."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # sets the peak back
    clock = time.perf_counter(), time.process_time()
    result = work()
    return result, {
        "cpu_s": round(time.process_time() - clock[1], 3),
        "wall_s": round(time.perf_counter() - clock[0], 3),
        "peak_mb": peak_mb(),
    }


def peak_mb() -> int:
    """Most memory this process had, in MiB."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) // 1024
    raise RuntimeError("the peak of memory is read from /proc/self/status, which says nothing")


def references(pool: Candidates) -> dict[str, Any]:
    """A textbook k-centre, scikit-learn's k-means++ beside ours, and the machine's limits."""
    features = pool.require_features("the bench")
    found: dict[str, Any] = {"k_centre_numpy": k_centre(features)}
    found |= limits(features)
    found["k_means_plus_plus"] = seeding(features)
    return found


def k_centre(features: NDArray[np.float32]) -> dict[str, Any]:
    """A few picks of k-centre greedy with one matrix-vector product each."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    nearest = np.full(len(unit), np.inf, dtype=np.float32)
    pick = 0
    started = time.process_time()
    for _ in range(TEXTBOOK_PICKS):
        np.minimum(nearest, 1 - unit @ unit[pick], out=nearest)
        pick = int(nearest.argmax())
    seconds = time.process_time() - started
    return {"picks": TEXTBOOK_PICKS, "cpu_ms_per_pick": round(1000 * seconds / TEXTBOOK_PICKS, 3)}


def limits(features: NDArray[np.float32]) -> dict[str, Any]:
    """Gigabytes a second of reading the features, billions of operations a second of a product."""
    started = time.process_time()
    for _ in range(3):
        features.sum(dtype=np.float32)
    read = 3 * features.nbytes / (time.process_time() - started)
    square = features[: GEMM_SIZE * 2].reshape(-1)[: GEMM_SIZE**2 // 4].reshape(GEMM_SIZE // 2, -1)
    started = time.process_time()
    for _ in range(8):
        square @ square.T
    work = 8 * 2 * square.shape[0] ** 2 * square.shape[1]
    return {
        "read_gb_per_s": round(read / 1e9, 2),
        "gemm_gflop_per_s": round(work / (time.process_time() - started) / 1e9, 1),
    }


def seeding(features: NDArray[np.float32]) -> dict[str, Any]:
    """k-means++ of scikit-learn and ours: CPU seconds, and the cost of the seeds.

    scikit-learn tries several points for each seed by default; with one it draws as we do.
    """
    from sklearn.cluster import kmeans_plusplus

    points, k = features[: SEEDED[0]], SEEDED[1]

    def ours() -> NDArray[np.float32]:
        return np.asarray(points[_seed(points, k=k, rng=generator(0, _DRAWN_FROM))])

    def theirs() -> NDArray[np.float32]:
        return np.asarray(kmeans_plusplus(points, k, random_state=0)[0])

    def theirs_one_trial() -> NDArray[np.float32]:
        return np.asarray(kmeans_plusplus(points, k, random_state=0, n_local_trials=1)[0])

    made: dict[str, Any] = {"points": len(points), "seeds": k}
    makers = {"detal": ours, "sklearn": theirs, "sklearn_one_trial": theirs_one_trial}
    for name, make in makers.items():
        seeds, cost = timed(make)
        squared = (points**2).sum(axis=1)[:, None] - 2 * points @ seeds.T + (seeds**2).sum(axis=1)
        made[name] = {
            "cpu_s": cost["cpu_s"],
            "mean_squared_distance": round(float(squared.min(axis=1).mean()), 4),
        }
    own_s = max(made["detal"]["cpu_s"], 1e-3)
    for name in ("sklearn", "sklearn_one_trial"):
        made[f"ratio_to_{name}"] = round(made[name]["cpu_s"] / own_s, 1)
    tight = fit_centres(points, k=k, rng=generator(0, _DRAWN_FROM), least_gain=0, iterations=100)
    loose = fit_centres(points, k=k, rng=generator(0, _DRAWN_FROM))
    made["loss_of_ending_early"] = round(_cost(points, loose) / _cost(points, tight) - 1, 5)
    return made


def _cost(points: NDArray[np.float32], centres: NDArray[np.float32]) -> float:
    squared = (points**2).sum(axis=1)[:, None] - 2 * points @ centres.T + (centres**2).sum(axis=1)
    return float(squared.min(axis=1).sum(dtype=np.float64))


def profile_one(scratch: Path, name: str, images: int, picks: int) -> None:
    """Print the functions in which a selection spends its time."""
    write(scratch, images)
    pool, _ = open_pool(scratch, images)
    profile = cProfile.Profile()
    profile.runcall(choose, pool, strategy_of(name, scratch), picks)
    pstats.Stats(profile).sort_stats("tottime").print_stats(20)


if __name__ == "__main__":
    main()
