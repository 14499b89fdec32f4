"""The store at size: bytes and seconds an image, and opening millions of images.

    python tools/bench/store.py --scratch DIR --output data/results/store.json

Bytes, writing and reading: four shards of 4,096 images with the statistics of `synthetic` (7 boxes
an image, 80 classes, 64 numbers a box, 256 an image). Opening: image tables of as many images
without boxes, in a process of its own: keys of all files, what the store lacks of them, and the
table of all with shard and row. The files do not exist, so that looking for them costs little more
than the call. CPU seconds on one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections import Counter
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
from selection import peak_mb  # noqa: E402

from detal.runs.provenance import commit, machine, versions  # noqa: E402
from detal.store import image_keys  # noqa: E402

SHARDS = 4
SIZES = (100_000, 1_000_000, 10_000_000)


def main() -> None:
    """Measure, print, write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scratch", type=Path, required=True, help="where stores are kept")
    parser.add_argument("--sizes", nargs="*", type=int, default=SIZES)
    parser.add_argument("--output", type=Path, default=None)
    parser.add_argument("--open", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.open:
        print(json.dumps(open_store(args.scratch, args.open)))
        return
    result: dict[str, Any] = {"shard": shard_costs(args.scratch), "open": {}}
    print(result["shard"], flush=True)
    for size in args.sizes:
        synthetic.write_tables(args.scratch, size)
        command = [sys.executable, __file__, "--scratch", str(args.scratch), "--open", str(size)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"opening {size} images failed: {done.stderr[-2000:]}")
        result["open"][str(size)] = json.loads(done.stdout)
        print(size, result["open"][str(size)], flush=True)
    result |= {
        "command": shlex.join(["python", "tools/bench/store.py", *sys.argv[1:]]),
        "commit": commit(ROOT),
        "machine": machine(),
        "versions": versions(),
    }
    if args.output is not None:
        args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def shard_costs(scratch: Path) -> dict[str, Any]:
    """Bytes an image by kind of file, and images a CPU second written and read."""
    images = SHARDS * synthetic.SHARD
    store = synthetic.write_store(scratch, "bytes", images)
    sizes: Counter[str] = Counter()
    for path in store.folder.iterdir():
        if path.name != "about.json":
            sizes[path.name.split(".", 1)[1]] += path.stat().st_size
    shards = sorted(path.stem for path in store.folder.glob("*.image_features.npy"))
    names = [shard.removesuffix(".image_features") for shard in shards]
    seen = store.load_shard(names[0])
    return {
        "images": images,
        "boxes_per_image": round(seen.num_boxes / seen.num_images, 2),
        "bytes_per_image": {kind: round(size / images, 1) for kind, size in sorted(sizes.items())},
        "total_bytes_per_image": round(sum(sizes.values()) / images, 1),
        "written_per_s": round(images / _cpu_s(lambda: _write_again(scratch))),
        "read_per_s": round(images / _cpu_s(lambda: [store.load_shard(name) for name in names])),
        "score_sums_per_s": round(
            images / _cpu_s(lambda: [store.load_score_sums(name) for name in names])
        ),
        "features_per_s": round(
            images / _cpu_s(lambda: [store.load_image_features(name) for name in names])
        ),
    }


def _write_again(scratch: Path) -> None:
    store = synthetic.open_store(scratch, "bytes again", SHARDS * synthetic.SHARD)
    for number in range(SHARDS):
        rows = np.arange(number * synthetic.SHARD, (number + 1) * synthetic.SHARD)
        store.write([f"{row:032x}" for row in rows], *_BATCH)


_BATCH = synthetic.batch("again", np.arange(synthetic.SHARD))


def _cpu_s(work: Callable[[], Any]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def open_store(scratch: Path, images: int) -> dict[str, Any]:
    """CPU and wall seconds to find and open ``images`` images."""
    paths = synthetic.paths("tables", images)
    before = peak_mb()
    clock = [(time.perf_counter(), time.process_time())]
    keys = image_keys(paths)
    clock.append((time.perf_counter(), time.process_time()))
    store = synthetic.open_store(scratch, "tables", images)
    if len(store.missing(keys)):
        raise RuntimeError("the store lacks images that were written")
    clock.append((time.perf_counter(), time.process_time()))
    stored = store.read(keys)
    clock.append((time.perf_counter(), time.process_time()))
    if len(stored) != images:
        raise RuntimeError(f"{images} images were asked for, {len(stored)} came")
    steps = ("keys", "missing", "read")
    cpu = {
        step: round(after[1] - at[1], 3)
        for step, at, after in zip(steps, clock, clock[1:], strict=False)
    }
    return {
        "cpu_s": cpu,
        "total_cpu_s": round(clock[-1][1] - clock[0][1], 3),
        "wall_s": round(clock[-1][0] - clock[0][0], 3),
        "peak_mb": peak_mb(),
        "peak_before_mb": before,
    }


if __name__ == "__main__":
    main()
