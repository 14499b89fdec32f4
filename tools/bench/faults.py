"""Kill, interrupt, fill and unmount tiny runs of select, simulate, merge and review.

    python tools/bench/faults.py --scratch /tmp/faults                  # 200 random kills
    python tools/bench/faults.py --scratch /tmp/faults --boundaries 0   # at every write boundary

Each of the four runs in forked processes beside the others (`tests/faults`). Real disks that are
full, read-only or go away are tmpfs and bind mounts: as root on Linux only, left out elsewhere. The
figures are added to the result file, whose other keys stay as they are. Outcomes are logged in the
scratch folder: the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.update(OMP_NUM_THREADS="1", POLARS_MAX_THREADS="1", OPENBLAS_NUM_THREADS="1")

from detal.runs.provenance import commit, machine, versions  # noqa: E402
from tests.faults import scenarios  # noqa: E402
from tests.faults.killing import FULL, GONE, READ_ONLY  # noqa: E402
from tests.faults.scenarios import Bench, Outcome  # noqa: E402

SHARES = {"select": 0.17, "simulate": 0.08, "merge": 0.4, "review": 0.35}
WRITES = (
    (FULL, "full disk", "No space left on device"),
    (READ_ONLY, "read-only folder", "Read-only file system"),
    (GONE, "vanished folder", "No such file or directory"),
)
INJECTED = (
    ("a detector that gives NaN", "select", 1, "must be finite"),
    ("a detector that gives no answer", "select", 1, "must answer for each image"),
    ("no memory for a batch", "select", 0, "going on with 2"),
    ("no memory for an image", "select", 1, "does not fit into memory"),
    ("no memory for the report", "select", 1, "memory ran out"),
    ("no memory for a training", "simulate", 1, "memory ran out"),
)
Scenarios = Callable[
    [Bench, argparse.Namespace, np.random.Generator], Iterator[Callable[[], Outcome]]
]
_SEED = 0


def main() -> None:
    """Run all scenarios, print the table, add it to the result file."""
    args = _arguments()
    args.scratch.mkdir(parents=True, exist_ok=True)
    log = args.scratch.absolute() / "outcomes.jsonl"
    jobs = [
        (name, scenarios_of)
        for scenarios_of in (_kills, _others)
        for name in SHARES
        if args.jobs is None or f"{name}{scenarios_of.__name__}" in args.jobs
    ]
    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(_all_of, name, scenarios_of, args, log) for name, scenarios_of in jobs]
    for future in found:
        future.result()
    rows = sorted(_logged(log), key=lambda row: list(SHARES).index(row["where"]))
    random = [row for row in rows if row["fault"] == "kill -9 at a random moment"]
    result = json.loads(args.output.read_text("utf-8")) if args.output.exists() else {}
    columns = ("fault", "where", "injected", "survived", "lost")
    result |= {
        "kills": sum(row["injected"] for row in random),
        "lost": sum(row["lost"] for row in rows),
        "faults": [{key: row[key] for key in columns} for row in rows if row["injected"]],
        "kill_runs": {
            "kills": {row["where"]: row["injected"] for row in random},
            "seed": _SEED,
            "failures": [text for row in rows for text in row["failures"]],
            "commits": sorted({row["commit"] for row in rows}),
            "command": " ".join(["python", "tools/bench/faults.py", *sys.argv[1:]]),
            "machine": machine(),
            "versions": versions(),
        },
    }
    text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    args.output.write_text(text, encoding="utf-8")
    print(json.dumps({key: result[key] for key in ("kills", "lost", "faults")}, indent=1))
    sys.exit(1 if result["lost"] else 0)


def _logged(log: Path) -> list[dict[str, Any]]:
    """The outcomes so far."""
    if not log.exists():
        return []
    return [json.loads(line) for line in log.read_text("utf-8").splitlines()]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scratch", type=Path, required=True, help="folder for all runs")
    parser.add_argument("--kills", type=int, default=200, help="random kills of all together")
    parser.add_argument(
        "--boundaries", type=int, default=24, help="write boundaries of each, evenly spaced; 0: all"
    )
    parser.add_argument(
        "--jobs", nargs="*", help="only these (select_kills, merge_others …); none: the table only"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "data" / "results" / "faults.json")
    return parser.parse_args()


def _all_of(name: str, scenarios_of: Scenarios, args: argparse.Namespace, log: Path) -> None:
    """The scenarios of one victim, in a folder of its own, that are not in the log yet."""
    job = f"{name}{scenarios_of.__name__}"
    done, revision = sum(row["job"] == job for row in _logged(log)), commit(ROOT)
    bench = Bench(name, args.scratch.absolute() / job)
    rng = np.random.default_rng([_SEED, done])
    for scenario in list(scenarios_of(bench, args, rng))[done:]:
        outcome = scenario()
        row = {"job": job, **outcome.row(), "failures": outcome.failures, "commit": revision}
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(outcome.row()), *outcome.failures, sep="\n  ", file=sys.stderr, flush=True)


def _kills(
    bench: Bench, args: argparse.Namespace, rng: np.random.Generator
) -> Iterator[Callable[[], Outcome]]:
    kills = round(args.kills * SHARES[bench.name])
    yield lambda: scenarios.random_kills(bench, kills=kills, rng=rng)


def _others(
    bench: Bench, args: argparse.Namespace, rng: np.random.Generator
) -> Iterator[Callable[[], Outcome]]:
    name, few = bench.name, 3
    yield lambda: scenarios.boundary_kills(bench, _spaced(bench.writes, args.boundaries))
    yield lambda: scenarios.two_at_once(bench, number=few, rng=rng)
    for fault, where, code, says in INJECTED:
        if where == name:
            yield partial(scenarios.injected, bench, fault, fault=fault, code=code, says=says)
    if name == "review":  # its decisions are taken on a page, not by a command
        return
    yield lambda: scenarios.interrupts(bench, number=few, rng=rng)
    for error, fault, says in WRITES:
        at = _spaced(bench.writes, args.boundaries // 4)
        yield partial(scenarios.failing_writes, bench, error, fault=fault, says=says, boundaries=at)
    if os.geteuid() != 0:
        return
    yield lambda: scenarios.read_only(bench)
    if name == "select":
        yield lambda: scenarios.full_disk(bench, range(16, 320, 60))
        yield lambda: scenarios.vanished(bench, "inputs", number=few, rng=rng)
    yield lambda: scenarios.vanished(bench, "work", number=few, rng=rng)


def _spaced(count: int, wanted: int) -> list[int]:
    """At most ``wanted`` of the boundaries 1, 2, … ``count``; all of them if it is 0."""
    everything = np.arange(1, count + 1)
    if not wanted:
        return [int(number) for number in everything]
    spaced: Any = np.unique(np.linspace(1, count, min(wanted, count)).round().astype(int))
    return [int(number) for number in spaced]


if __name__ == "__main__":
    main()
