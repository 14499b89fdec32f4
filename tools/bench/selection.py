"""Selection at size: time and memory of every strategy, beside named references.

    python tools/bench/selection.py --scratch DIR --output data/results/selection.json

10,000 images from 1,000,000 (`synthetic`), each strategy in a process of its own on one thread:
seconds to open the pool (store to candidates), seconds to choose, and the peak of the process's
memory. A run that was stopped goes on where it was. ``--profile`` prints where one selection spends
its time.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tools" / "bench"))

import synthetic  # noqa: E402
import torch  # noqa: E402

from detal.runs.pool import candidate_pool  # noqa: E402
from detal.seeding import generator  # noqa: E402
from detal.strategies import STRATEGIES, make_strategy  # noqa: E402
from detal.structures import Budget  # noqa: E402


def options_of(name: str, scratch: Path) -> dict[str, Any]:
    """Options of the strategies that cannot do without."""
    given: dict[str, dict[str, Any]] = {
        "filter": {"where": "sharpness > 0"},
        "weighted": {"score": "0.3 * sharpness + luminance"},
        "combine": {"parts": ["entropy", "box_count"]},
        "staged": {"stages": [{"name": "entropy", "keep": 4}, "core_set"]},
        "variant_greedy": {"table": str(scratch / "groups")},
    }
    return given.get(name, {})


def write(scratch: Path, images: int) -> None:
    """The stores and the table, unless they are there."""
    synthetic.write_store(scratch, "pool", images)
    synthetic.write_store(scratch, "labeled", synthetic.LABELED)
    synthetic.write_store(scratch, "reference", synthetic.REFERENCE)
    if not (scratch / "groups").exists():
        synthetic.group_gains().save(scratch / "groups")


def select(scratch: Path, name: str, images: int, picks: int) -> dict[str, Any]:
    """One selection in this process: seconds, CPU seconds and peak memory."""
    strategy = make_strategy(name, **options_of(name, scratch))
    members = strategy.needs.earlier_rounds or len(strategy.needs.members)
    passes = (*strategy.needs.views, *(f"member:{i}" for i in range(members)))
    reference = synthetic.read_pool(scratch, "reference", synthetic.REFERENCE)
    labeled = synthetic.read_pool(scratch, "labeled", synthetic.LABELED)
    clock = [time.perf_counter(), time.process_time()]
    pool = candidate_pool(
        synthetic.read_pool(scratch, "pool", images, passes),
        labeled,
        class_names=synthetic.CLASSES,
        reference=reference,
    )
    opened = [time.perf_counter(), time.process_time()]
    chosen = strategy.query(
        pool.candidates, budget=Budget(picks), rng=generator(0, "selection bench")
    )
    done = [time.perf_counter(), time.process_time()]
    if len(set(chosen.image_ids)) != picks:
        raise RuntimeError(f"{name} chose {len(chosen)} images, asked for {picks}")
    return {
        "open_s": round(opened[0] - clock[0], 3),
        "select_s": round(done[0] - opened[0], 3),
        "open_cpu_s": round(opened[1] - clock[1], 3),
        "select_cpu_s": round(done[1] - opened[1], 3),
        "peak_mb": peak_mb(),
    }


def peak_mb() -> int:
    """Most memory this process ever had, in MiB."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) // 1024
    raise RuntimeError("the peak of memory is read from /proc/self/status, which says nothing")


def main() -> None:
    """Measure, print, write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scratch", type=Path, required=True, help="where stores are kept")
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--picks", type=int, default=10_000)
    parser.add_argument("--strategies", nargs="*", default=list(STRATEGIES))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--profile", help="print where this strategy spends its time")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.one:
        print(json.dumps(select(args.scratch, args.one, args.images, args.picks)))
        return
    write(args.scratch, args.images)
    if args.profile:
        profile = cProfile.Profile()
        profile.runcall(select, args.scratch, args.profile, args.images, args.picks)
        pstats.Stats(profile).sort_stats("tottime").print_stats(15)
        return
    for name in args.strategies:
        command = [sys.executable, __file__, "--scratch", str(args.scratch), "--one", name]
        command += ["--images", str(args.images), "--picks", str(args.picks)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        print(name, done.stdout.strip() or done.stderr[-600:], flush=True)


if __name__ == "__main__":
    main()
