"""Write the figures of data/results/*.json into the README, between their markers.

python tools/readme_tables.py           # rewrite
python tools/readme_tables.py --check   # exit 1 if the README is not what the files say
"""

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"


def main() -> None:
    """Rewrite the README, or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    before = README.read_text(encoding="utf-8")
    after = with_tables(before)
    if check and after != before:
        sys.exit("README.md differs from data/results: run python tools/readme_tables.py")
    if after != before:
        README.write_text(after, encoding="utf-8")


def with_tables(text: str) -> str:
    """``text`` with the block of every result file made anew.

    A block stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``.
    """
    for name, render in TABLES.items():
        result = json.loads((ROOT / "data" / "results" / f"{name}.json").read_text("utf-8"))
        block = f"<!-- {name} -->\n{render(result)}<!-- /{name} -->"
        pattern = re.compile(f"<!-- {name} -->.*<!-- /{name} -->", re.DOTALL)
        text, found = pattern.subn(block.replace("\\", r"\\"), text)
        if found != 1:
            sys.exit(f"README.md must have one block {name}, found {found}")
    return text


def scoring_table(result: dict[str, Any]) -> str:
    """Images per second beside ultralytics' own predictor."""
    lines = ["| pair | detal, images/s | ultralytics, images/s | ratio |", "|---|---|---|---|"]
    for number, (pair, ratio) in enumerate(
        zip(result["pairs"], result["ratios"], strict=True), start=1
    ):
        speeds = [f"{pair[engine]['images_per_s']:.1f}" for engine in ("detal", "ultralytics")]
        lines.append(f"| {number} | {' | '.join(speeds)} | {ratio:.2f} |")
    lines.append(f"| **median** | | | **{result['ratio_to_ultralytics_cpu']:.2f}** |")
    images = result["pairs"][0]["detal"]["images"]
    machine, versions = result["machine"], result["versions"]
    lines.append("")
    lines.append(
        f"{images} images of aquarium, YOLOv5n at {result['image_size']} px, batch "
        f"{result['batch']}, {machine['cores']} cores ({machine['processor']}), ultralytics "
        f"{versions['ultralytics']}, torch {versions['torch']}; commit {result['commit']}; "
        f"`{result['command']}`."
    )
    return "\n".join(lines) + "\n"


def quality_table(result: dict[str, Any]) -> str:
    """Areas under the curves of a study, best over boxes first."""
    lines = [
        "| strategy | mAP, area over boxes | minus random | area over images | "
        "rarest third, over boxes | boxes saved |",
        "|---|---|---|---|---|---|",
    ]
    strategies, wins = result["strategies"], result["win_matrix"]
    for name in sorted(strategies, key=lambda s: -_area(strategies[s], "boxes", "mean_ap")["mean"]):
        figures = strategies[name]
        cells = [
            _interval(_area(figures, "boxes", "mean_ap")),
            _interval(wins[name].get("random"), sign="+"),
            _interval(_area(figures, "images", "mean_ap")),
            _interval(_area(figures, "boxes", "rare_third_ap")),
            _saved(figures["boxes_to_reach_random"]),
        ]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    training, runs = result["training"], result["runs"]
    minutes = sum(run["seconds"] for run in runs) / 60
    trainings = sum(run["trainings"] for run in runs)
    lines += [
        "",
        f"{len(result['seeds'])} seeds, {result['rounds']} rounds of {_amount(result['budget'])} "
        f"after {_amount(result['initial'])}; {training['init']}, {training['steps']} steps at "
        f"{training['image_size']} px in every arm; points of mAP; brackets: 95 % bootstrap over "
        "seeds; boxes "
        "saved: share of random's boxes not needed for its final mAP, by seed. "
        f"{trainings} trainings in {minutes:.0f} minutes on {result['machine']['cores']} cores "
        f"({result['machine']['processor']}); commit {result['commit']}; `{result['command']}`.",
    ]
    return "\n".join(lines) + "\n"


def cost_table(result: dict[str, Any]) -> str:
    """Passes, scoring and selection time of each strategy."""
    sizes = result["sizes"]
    picks = f"selecting {result['images_picked']} of"
    heads = [f"{picks} {size:,}" for size in sizes[:1]] + [f"of {size:,}" for size in sizes[1:]]
    lines = [
        f"| strategy | further passes | scoring 1,000 | {' | '.join(heads)} | exponent |",
        "|---|---|---|" + "---|" * (len(sizes) + 1),
    ]
    for name, row in sorted(result["strategies"].items()):
        times = [row["selection_s"][str(size)] for size in sizes]
        cells = [
            f"{row['extra_passes']}",
            f"{row['scoring_s_per_1000_images']:.1f}",
            *(f"> {result['limit_s']:g}" if t is None else f"{t:.2f}" for t in times),
            "" if row["slope"] is None else f"{row['slope']:.2f}",
        ]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    machine = result["machine"]
    lines.append("")
    lines.append(
        "CPU seconds on one thread. Scoring: sandbox images, the sandbox's own small YOLO at 160 "
        "px, with all passes. Selecting: synthetic stores, from the store to the batch; exponent: "
        f"of the time over the pool, between the two largest sizes. {machine['processor']}; commit "
        f"{result['commit']}; `{result['command']}`."
    )
    return "\n".join(lines) + "\n"


def match_table(result: dict[str, Any]) -> str:
    """Time per subset mAP beside pycocotools and hotcoco."""
    lines = [
        "| detections an image | detal, ms per subset | hotcoco | pycocotools | over hotcoco "
        "| over pycocotools |",
        "|---|---|---|---|---|---|",
    ]
    for detections, row in result["by_detections_per_image"].items():
        ms = {engine: 1000 * s for engine, s in row["seconds_per_subset"].items()}
        cells = [
            f"{ms['detal']:.2f}",
            f"{ms['hotcoco']:.1f}",
            f"{ms['pycocotools']:,.0f}",
            f"{row['speedup_over_hotcoco']:.1f} ×",  # noqa: RUF001
            f"{row['speedup_over_pycocotools']:,.0f} ×",  # noqa: RUF001
        ]
        lines.append(f"| {detections} | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"mAP of {result['images_per_subset']} of {result['pool_images']:,} images, "
        f"{result['classes']} classes, {result['subsets_per_batch']} subsets at a time, "
        f"{result['machine']['cores']} cores ({result['machine']['processor']}); the largest "
        f"difference to pycocotools over {result['comparisons']:,} subsets, multisets and "
        f"re-scorings of real predictions is {result['max_abs_difference']:.1g}; commit "
        f"{result['commit']}; `{result['command']}`.",
    ]
    return "\n".join(lines) + "\n"


def report_table(result: dict[str, Any]) -> str:
    """Size, load and scrolling of a large report."""
    empty = result["empty_page"]
    rows = {
        "file": f"{result['file_mb']:.1f} MB",
        "written in": f"{result['writing_s']:.0f} s",
        "first paint after": f"{result['first_paint_ms'] / 1000:.1f} s",
        "loaded after": f"{result['load_ms'] / 1000:.1f} s",
        "script memory": f"{result['heap_mb']:.0f} MB",
        "main thread per frame while scrolling": f"{result['main_thread_ms_per_frame']:.0f} ms",
        "frame, median and 95th percentile": (
            f"{result['frame_median_ms']:.0f} and {result['frame_p95_ms']:.0f} ms (an empty page: "
            f"{empty['frame_median_ms']:.0f} and {empty['frame_p95_ms']:.0f} ms)"
        ),
        "layout shift": f"{result['layout_shift']:g}",
        "a search": f"{result['filter_ms']:.0f} ms",
    }
    lines = [f"| report of {result['images']:,} images | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in rows.items()]
    machine = result["machine"]
    lines += [
        "",
        f"Photographs of 640 x 480; headless {result['browser']} without a GPU on "
        f"{machine['cores']} cores ({machine['processor']}), which other work shared; commit "
        f"{result['commit']}; `{result['command']}`.",
    ]
    return "\n".join(lines) + "\n"


def fidelity_table(result: dict[str, Any]) -> str:
    """How far each table's word follows the true gain of mAP, best first."""
    lines = [
        "| table | rank correlation with the true gain | share of the noise ceiling | "
        "mean over classes |",
        "|---|---|---|---|",
    ]
    tables, ceiling = result["tables"], result["ceiling"]
    agreement = _of(ceiling["reliability_of_one"])
    order = sorted(tables, key=lambda n: -_rank(tables[n]["rho"]))
    for name in order:
        figures = tables[name]
        told = " (told the true objects)" if figures["sees_truth"] else ""
        cells = [
            _with_interval(figures["rho"], figures["rho_interval"]),
            _with_interval(figures["share_of_ceiling"], figures["share_interval"]),
            "" if figures["class_rho_mean"] is None else f"{figures['class_rho_mean']:.2f}",
        ]
        lines.append(f"| `{name}`{told} | " + " | ".join(cells) + " |")
    minutes = sum(run["seconds"] for run in result["runs"]) / 60
    trainings = sum(run["trainings"] for run in result["runs"])
    lines += [
        "",
        f"{len(result['batches'])} batches of {_amount(result['budget'])} after "
        f"{result['initial']['boxes']} boxes, each trained on {len(result['training_seeds'])} "
        f"times; two trainings on the same batches agree at rho {agreement}, so a perfect "
        f"table is expected at "
        f"{_with_interval(ceiling['rho'], ceiling['rho_interval'])}; brackets: 95 % bootstrap over "
        f"batches. {trainings} trainings in {minutes:.0f} minutes on {result['machine']['cores']} "
        f"cores ({result['machine']['processor']}); commit {result['commit']}; "
        f"`{result['command']}`.",
    ]
    return "\n".join(lines) + "\n"


def tables_cost_table(result: dict[str, Any]) -> str:
    """What the tables cost beside scoring, at each size of the pool."""
    names = {
        "match": "match table",
        "curves": "category curves",
        "change": "output change",
        "groups": "groups",
    }
    lines = [
        f"| candidates | scoring them | {' | '.join(names.values())} | all tables | of scoring |",
        "|---|---|" + "---|" * (len(names) + 2),
    ]
    for size, row in result["sizes"].items():
        tables = row["tables_s"]
        total = sum(tables.values())
        cells = [f"{tables[name]:.2f}" for name in names]
        lines.append(
            f"| {int(size):,} | {row['scoring_s']:,.1f} | {' | '.join(cells)} | {total:.2f} | "
            f"{total / row['scoring_s']:.0%} |"
        )
    lines += [
        "",
        "CPU seconds on one thread, the variants' training aside. The sandbox's pool, scored with "
        f"its own small YOLO at 160 px, and {result['reference']['images']:,} reference images; "
        "larger pools repeat what was said about these, and scoring is taken to be as many times "
        "as dear. "
        f"{result['machine']['processor']}; commit {result['commit']}; `{result['command']}`.",
    ]
    return "\n".join(lines) + "\n"


def agent_table(result: dict[str, Any]) -> str:
    """Table gain of the agent in percent of greedy's, and of the optimum where that is known."""
    lines = [
        "| instances | agent, % of greedy | worst | best of 1,000 random | with swaps | "
        "agent, % of optimum, worst | greedy, % of optimum, worst |",
        "|---|---|---|---|---|---|---|",
    ]
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in result.get("small", []):
        groups.setdefault(row["instance"], []).append(row)
    for row in result.get("large", []):
        name = f"{row['budget']:g} {row['unit']} of {row['images']:,} images"
        groups.setdefault(name, []).append(row)
    for name, rows in groups.items():
        cells = [
            _percent(sum(row["to_greedy"] for row in rows) / len(rows)),
            _percent(min(row["to_greedy"] for row in rows)),
            _percent(sum(row["random_to_greedy"] for row in rows) / len(rows)),
            _percent(sum(row["with_swaps_to_greedy"] for row in rows) / len(rows)),
            *(
                _percent(min(row[key] for row in rows)) if key in rows[0] else ""
                for key in ("to_optimum", "greedy_to_optimum")
            ),
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    count = max((len(rows) for rows in groups.values()), default=0)
    notes = [f"Gain by a prior curve table of synthetic pools, up to {count} seeds each."]
    for cost in result.get("cost", []):
        notes.append(
            f"{cost['images']:,} candidates and a batch of {cost['batch']}: {cost['cpu_s']:.0f} "
            f"CPU seconds ({cost['seconds']:.0f} by the clock, {cost['threads']} threads, load "
            f"{cost['load'][0]:g}), {cost['peak_mib']:,} MiB, {_percent(cost['to_greedy'])} % of "
            "greedy."
        )
    machine = result["machine"]
    notes.append(f"{machine['processor']}; commit {result['commit']}; `{result['command']}`.")
    return "\n".join([*lines, "", " ".join(notes)]) + "\n"


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.1f}"


def _rank(rho: float | None) -> float:
    """Undefined correlations come last."""
    return -2.0 if rho is None else rho


def _of(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"


def _with_interval(value: float | None, interval: list[float] | None) -> str:
    between = "" if interval is None else f" [{interval[0]:.2f}, {interval[1]:.2f}]"
    return _of(value) + between


def _amount(section: dict[str, Any]) -> str:
    return f"{section['amount']:g} {section['unit']}"


def _area(figures: dict[str, Any], axis: str, metric: str) -> dict[str, float]:
    area: dict[str, float] = figures["area"][axis].get(metric)
    return area


def _interval(interval: dict[str, float] | None, *, sign: str = "") -> str:
    """Mean and interval in points of mAP."""
    if interval is None:
        return ""
    mean, low, high = (100 * interval[key] for key in ("mean", "low", "high"))
    return f"{mean:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


def _saved(efficiency: dict[str, Any] | None) -> str:
    shares = [] if efficiency is None else efficiency["share_saved"]
    return ", ".join("never" if share is None else f"{share:.0%}" for share in shares)


_SAME = "the same command again"
_AFTER = {
    "kill": _SAME,
    "SIGINT": f"{_SAME}; a second Ctrl-C ends at once",
    "full disk": f"make room, {_SAME}",
    "read-only": f"another folder, or permissions; {_SAME}",
    "vanished": f"mount it again, {_SAME}",
    "unmounted": f"mount it again, {_SAME}",
    "second run": "wait for the process that the message names, or stop it",
    "memory for a batch": "nothing: batches get smaller by themselves",
    "memory": f"smaller `batch_size`, `image_size` or fewer `workers`; {_SAME}",
    "detector": "other weights, or `detector.half=false`",
}


def faults_table(result: dict[str, Any]) -> str:
    """What was injected, and what the user does then."""
    lines = [
        "| fault | in | injected | survived | lost | then |",
        "|---|---|---|---|---|---|",
    ]
    rows = result["faults"]
    for fault in dict.fromkeys(row["fault"] for row in rows):
        those = [row for row in rows if row["fault"] == fault]
        counts = [f"{sum(row[key] for row in those):,}" for key in ("injected", "survived", "lost")]
        after = next(advice for words, advice in _AFTER.items() if words in fault)
        where = ", ".join(dict.fromkeys(row["where"] for row in those))
        lines.append(f"| {fault} | {where} | {' | '.join(counts)} | {after} |")
    runs = result["kill_runs"]
    machine = runs["machine"]
    lines.append("")
    lines.append(
        f"{result['kills']} kills at random moments, {result['lost']} of all faults lost anything; "
        f"{machine['cores']} cores ({machine['processor']}), commit {', '.join(runs['commits'])}; "
        f"`{runs['command']}`."
    )
    return "\n".join(lines) + "\n"


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "scoring": scoring_table,
    "al_quality_sandbox": quality_table,
    "al_quality_measures": quality_table,
    "al_quality_aquarium": quality_table,
    "al_quality_bccd": quality_table,
    "measures_cost": cost_table,
    "match_table": match_table,
    "tables_cost": tables_cost_table,
    "fidelity_sandbox": fidelity_table,
    "fidelity_early": fidelity_table,
    "fidelity_bccd": fidelity_table,
    "agent": agent_table,
    "report": report_table,
    "faults": faults_table,
}


if __name__ == "__main__":
    main()
