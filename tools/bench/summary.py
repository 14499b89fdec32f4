"""One table of what the benches measured, from data/results, and one command that runs them all.

    python tools/bench/summary.py              # the table
    python tools/bench/summary.py --run DIR    # every bench anew, into DIR/results, then the table

Running everything takes hours; each bench goes on where it was stopped, or is not run again once
its result is there. Studies (`al_quality`, `fidelity`, `trustset`) are commands of their own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "data" / "results"
SIZE_LIMIT_MB = 4096
SLOPE_LIMIT = 1.1

Row = tuple[str, str, str]


class Bench(NamedTuple):
    """A result file, how to make it, and what to say about it.

    Attributes:
        name: Of the result file, without its ending.
        arguments: Of ``tools/bench/<script>.py``; ``{scratch}`` is a folder of its own.
        script: The script, if it is not named like the result.
        resumes: Whether the script completes a result that is there.
        rows: What was measured, the figure, and beside what.
    """

    name: str
    arguments: str
    rows: Callable[[dict[str, Any]], Iterator[Row]]
    script: str = ""
    resumes: bool = False


def scoring_rows(result: dict[str, Any]) -> Iterator[Row]:
    """Images per second over ultralytics'."""
    for name, value in result.items():
        if name.startswith("ratio_to_ultralytics"):
            where = name.rsplit("_", 1)[1]
            yield f"scoring, {where}", f"{value:.2f} x", "ultralytics' predict(stream=True)"


def scoring_cpu_rows(result: dict[str, Any]) -> Iterator[Row]:
    """The forward pass by other engines."""
    for name, engine in result["engines"].items():
        if "speed_up" in engine and name != "channels last":
            yield f"forward pass by {name}", f"{engine['speed_up']:.2f} x", "detal's own path"


def selection_rows(result: dict[str, Any]) -> Iterator[Row]:
    """Seconds and memory at size."""
    what = f"{result['picks']:,} of {result['images']:,}"
    costs = result["strategies"]
    seconds = [cost["cpu_s"] for cost in costs.values()]
    middle = statistics.median(seconds)
    yield f"selection, {what}: median strategy", f"{middle:.1f} s", f"of {len(costs)} measured"
    slowest = max(costs, key=lambda name: costs[name]["cpu_s"])
    yield f"selection, {what}: slowest", f"{costs[slowest]['cpu_s']:.0f} s", f"`{slowest}`"
    largest = max(cost["peak_mb"] for cost in costs.values())
    yield f"selection, {what}: peak memory", f"{largest} MiB", f"limit {SIZE_LIMIT_MB} MiB"
    if "core_set" in costs:
        textbook = result["references"]["k_centre_numpy"]["cpu_ms_per_pick"]
        ours = 1000 * costs["core_set"]["cpu_s"] / result["picks"]
        yield "core_set, a pick", f"{textbook / ours:.1f} x", "textbook k-centre in NumPy"
    ratio = result["references"]["k_means_plus_plus"]["ratio_to_sklearn"]
    yield "k-means++ seeding", f"{ratio:.0f} x", "scikit-learn's"


def scale_rows(result: dict[str, Any]) -> Iterator[Row]:
    """The steepest growth."""
    slopes = {n: s for n, s in result["slopes"].items() if n != "opening"}
    if slopes:
        steepest = max(slopes, key=lambda name: slopes[name]["cpu"])
        slope = slopes[steepest]
        yield (
            f"time over the pool, {slope['from']:,} to {slope['to']:,}: steepest exponent",
            f"{slope['cpu']:.2f}",
            f"`{steepest}`, of {len(slopes)}; limit {SLOPE_LIMIT}",
        )


def approximation_rows(result: dict[str, Any]) -> Iterator[Row]:
    """What samples give up."""
    for name in ("facility_location", "density", "kmeans"):
        arms = result[name]
        share = arms["sampled"]["value"] / arms["exact"]["value"]
        yield f"`{name}` from a sample", f"{share:.1%}", "of its value from all images"


def store_rows(result: dict[str, Any]) -> Iterator[Row]:
    """Bytes and seconds."""
    shard = result["shard"]
    boxes = f"{shard['boxes_per_image']:.0f} boxes an image"
    yield "store, bytes an image", f"{shard['total_bytes_per_image']:,.0f}", boxes
    size, opened = max(result["open"].items(), key=lambda item: int(item[0]))
    what = f"opening {int(size):,} images"
    yield what, f"{opened['total_cpu_s']:.1f} s", f"{opened['peak_mb']} MiB"


def match_table_rows(result: dict[str, Any]) -> Iterator[Row]:
    """Speed of the match table."""
    yield "mAP of a subset", f"{result['speedup_over_pycocotools']:,.0f} x", "pycocotools"
    yield "mAP of a subset", f"{result['speedup_over_hotcoco']:.1f} x", "hotcoco"


def agent_rows(result: dict[str, Any]) -> Iterator[Row]:
    """The agent beside greedy on the same table."""
    ratio = statistics.median(result["ratios_to_greedy"])
    yield "agent's batch by its table", f"{ratio:.3f} x", "greedy on the same table"


def report_rows(result: dict[str, Any]) -> Iterator[Row]:
    """The report page."""
    what = f"report of {result['images']:,} images: written"
    yield what, f"{result['writing_s']:.1f} s", f"{result['file_mb']:.0f} MB"


def nothing(_result: dict[str, Any]) -> Iterator[Row]:
    """Tables of their own in the README say it better."""
    yield from ()


BENCHES = (
    Bench("scoring", "--images ../shared/data/aquarium/train/images --batch 16", scoring_rows),
    Bench("scoring_cpu", "", scoring_cpu_rows),
    Bench("store", "--scratch {scratch}", store_rows),
    Bench("selection", "--scratch {scratch}", selection_rows, resumes=True),
    Bench("scale", "--scratch {scratch}", scale_rows, resumes=True),
    Bench("approximations", "--scratch {scratch}", approximation_rows),
    Bench("measures_cost", "--scratch {scratch}/measures", nothing, script="measures"),
    Bench("tables_cost", "", nothing, script="tables"),
    Bench("match_table", "", match_table_rows),
    Bench("agent", "", agent_rows),
    Bench("report", "--scratch {scratch}/report", report_rows),
)


def main() -> None:
    """Run the benches if asked to, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="run everything; a folder for stores and results")
    folder = parser.parse_args().run
    results = RESULTS
    if folder is not None:
        results = folder / "results"
        results.mkdir(parents=True, exist_ok=True)
        for bench in BENCHES:
            run(bench, folder, results)
    print(table(results))


def run(bench: Bench, scratch: Path, results: Path) -> None:
    """Make one result, unless it is there and the script cannot complete it."""
    output = results / f"{bench.name}.json"
    if output.exists() and not bench.resumes:
        return
    script = ROOT / "tools" / "bench" / f"{bench.script or bench.name}.py"
    arguments = bench.arguments.format(scratch=scratch).split()
    print(f"== {script.name} {' '.join(arguments)}", flush=True)
    command = [sys.executable, str(script), *arguments, "--output", str(output)]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        print(f"{script.name} failed; the others go on", file=sys.stderr)


def table(results: Path) -> str:
    """What the result files in a folder say, as Markdown; those that are not there are named."""
    lines = ["| measured | figure | beside | commit |", "|---|---|---|---|"]
    missing = []
    for bench in BENCHES:
        path = results / f"{bench.name}.json"
        if not path.exists():
            missing.append(bench.name)
            continue
        result = json.loads(path.read_text(encoding="utf-8"))
        for what, figure, beside in bench.rows(result):
            lines.append(f"| {what} | {figure} | {beside} | {result.get('commit')} |")
    if missing:
        lines += ["", f"Not measured: {', '.join(missing)}."]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
