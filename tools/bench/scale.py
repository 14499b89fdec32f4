"""How time and memory of each strategy grow with the pool.

    python tools/bench/scale.py --scratch DIR --output data/results/scale.json

1,000 images from pools of 10,000 to 1,000,000 (`synthetic`), one thread, as in
`tools/bench/selection.py`; opening the pool is measured once for each size. ``slope`` is the
exponent of CPU seconds over the pool between the two ends, of memory likewise (most of which is the
program itself in small pools). ``--output`` is completed: a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("POLARS_MAX_THREADS", "1")
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tools" / "bench"))

import selection  # noqa: E402
import torch  # noqa: E402

from detal.runs.provenance import commit, machine, versions  # noqa: E402

SIZES = (10_000, 100_000, 1_000_000)
PICKS = 1_000


def main() -> None:
    """Measure, print, write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scratch", type=Path, required=True, help="where stores are kept")
    parser.add_argument("--sizes", nargs="*", type=int, default=SIZES)
    parser.add_argument("--strategies", nargs="*", default=selection.MEASURED)
    parser.add_argument("--output", type=Path, default=None)
    args = parser.parse_args()
    torch.set_num_threads(1)
    known = args.output is not None and args.output.exists()
    result: dict[str, Any] = json.loads(args.output.read_text("utf-8")) if known else {}
    costs = result.setdefault("costs", {})
    result |= {
        "picks": PICKS,
        "command": shlex.join(["python", "tools/bench/scale.py", *sys.argv[1:]]),
        "commit": commit(ROOT),
        "machine": machine(),
        "versions": versions(),
    }
    for size in args.sizes:
        measured = costs.setdefault(str(size), {})
        missing = [name for name in args.strategies if name not in measured]
        if not missing:
            continue
        selection.write(args.scratch, size)
        pool, opened = selection.open_pool(args.scratch, size)
        measured.setdefault("opening", opened)
        for name in missing:
            measured[name] = selection.choose(
                pool, selection.strategy_of(name, args.scratch), PICKS
            )
            print(size, name, measured[name], flush=True)
            _keep(result, args.output)
    _keep(result, args.output)


def _keep(result: dict[str, Any], output: Path | None) -> None:
    result["slopes"] = slopes(result["costs"])
    if output is not None:
        output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def slopes(costs: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Exponents of CPU seconds and memory between the smallest and largest size of each."""
    found: dict[str, dict[str, Any]] = {}
    names = {name for measured in costs.values() for name in measured}
    for name in sorted(names):
        sizes = sorted(int(size) for size, measured in costs.items() if name in measured)
        if len(sizes) > 1:
            low, high = costs[str(sizes[0])][name], costs[str(sizes[-1])][name]
            stretch = math.log(sizes[-1] / sizes[0])
            found[name] = {
                "from": sizes[0],
                "to": sizes[-1],
                "cpu": round(math.log(high["cpu_s"] / max(low["cpu_s"], 1e-3)) / stretch, 3),
                "memory": round(math.log(high["peak_mb"] / low["peak_mb"]) / stretch, 3),
            }
    return found


if __name__ == "__main__":
    main()
