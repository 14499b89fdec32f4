"""Write the figures of data/results/*.json into the README, between their markers.

python tools/readme_tables.py           # rewrite
python tools/readme_tables.py --check   # exit 1 if the README is not what the files say
"""

import argparse
import json
import math
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
KINDS = ("wrong class", "shifted box", "missing box")
_MANY = 100_000_000


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
        file = ROOT / "data" / "results" / f"{FILES.get(name, name)}.json"
        result = json.loads(file.read_text("utf-8"))
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
    machine = result["machine"]
    lines += [
        "",
        "Gain by a prior curve table of synthetic pools, 3 seeds each. What its parts bring, in "
        "percent of greedy:",
        "",
        "| variant | where greedy is misled | 30 boxes of 300 images |",
        "|---|---|---|",
    ]
    variants: dict[str, list[dict[str, Any]]] = {}
    for row in result.get("ablations", []):
        variants.setdefault(row["variant"], []).append(row)
    lines += [
        f"| {name} | {_percent(_mean(rows, 'misled'))} | {_percent(_mean(rows, 'pool'))} |"
        for name, rows in variants.items()
    ]
    lines += ["", *_agent_notes(result)]
    for study, figures in result.get("true_map", {}).items():
        lines += ["", *_true_map(study, figures)]
    lines += [
        "",
        f"{machine['processor']}, {machine['cores']} cores; commit {result['commit']}; "
        f"`{result['command']}`.",
    ]
    return "\n".join(lines) + "\n"


def _agent_notes(result: dict[str, Any]) -> list[str]:
    """Shortlist, other pools and cost, a sentence each."""
    shortlists: dict[int, list[dict[str, Any]]] = {}
    for row in result.get("shortlists", []):
        shortlists.setdefault(row["times_the_batch"], []).append(row)
    across = result.get("across", [])
    return [
        "30 boxes of 1,000 images, by candidates looked at, % of greedy: "
        + ", ".join(
            f"{_percent(_mean(rows, 'to_greedy'))} with {_mean(rows, 'candidates'):.0f}"
            for rows in shortlists.values()
        )
        + ".",
        "On another pool, % of greedy there: "
        + ", ".join(
            f"{_percent(_mean(across, key))} {key.replace('_', ' ')}"
            for key in ("untrained_3_steps", "carried_over", "carried_over_3_steps", "trained_here")
        )
        + ".",
        *(
            f"{cost['images']:,} candidates and a batch of {cost['batch']}: {cost['seconds']:.0f} "
            f"seconds by the clock, {cost['cpu_s']:.0f} of CPU ({cost['threads']} threads, load "
            f"{cost['load'][0]:g}), {cost['peak_mib']:,} MiB, {_percent(cost['to_greedy'])} % of "
            "greedy."
            for cost in result.get("cost", [])
        ),
    ]


def _true_map(study: str, figures: dict[str, Any]) -> list[str]:
    """True mAP of the agent and of what it is compared with."""
    shown = ("curve_greedy", "trustset", "class_balanced", "entropy_mean", "ppal", "cald", "random")
    rows = {
        name: row
        for name, row in figures["strategies"].items()
        if name.startswith("mgral") or name in shown
    }
    lines = [
        f"| {study} | mAP, area over boxes | rarest third | minus `curve_greedy` | minus random |",
        "|---|---|---|---|---|",
    ]
    for name, row in sorted(rows.items(), key=lambda item: -item[1]["mAP"]):
        cells = [
            f"{100 * row['mAP']:.1f}",
            f"{100 * row['rare_third_AP']:.1f}",
            *(_interval(row["minus"].get(other), sign="+") for other in ("curve_greedy", "random")),
        ]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"{len(figures['seeds'])} seeds, {figures['rounds']} rounds of "
        f"{_amount(figures['budget'])}; points of mAP; commits {', '.join(figures['commits'])}.",
    ]
    return lines


def trust_table(result: dict[str, Any]) -> str:
    """AUC and calibration of trust per class beside plain entropy's, and the planted errors."""
    part = result.get("sandbox") or result.get("aquarium") or result["bccd"]
    kinds = {"pool_truth", "unseen"}
    chosen = [of for key, of in part["trust"].items() if key in kinds or key.startswith("start")]
    lines = [
        "| class | detections | of the TrustSet | AUC | AUC of entropy | calibration error | "
        "of entropy's |",
        "|---|---|---|---|---|---|---|",
    ]
    names = list(chosen[0]["classes"])
    for name, rows in [
        ("**all**", [of["pooled"] for of in chosen]),
        *((name, [of["classes"][name] for of in chosen]) for name in names),
    ]:
        cells = [
            f"{_mean(rows, key):,.0f}"
            if key in ("detections", "positives")
            else _mean_of(rows, key)
            for key in ("detections", "positives", "auc", "auc_entropy", "ece", "ece_entropy")
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    means = f"means of {len(chosen)} detectors" if len(chosen) > 1 else "one detector"
    lines += [
        "",
        f"Five-fold cross-validation by image, {means}; classes without members or others have no "
        f"AUC. {part['machine']['processor']}; commit {part['commit']}; `{part['command']}`.",
        "",
        *_supply_lines(part["across"]),
        "| planted errors, judges | at a score of | listed | precision | recall | wrong class | "
        "shifted box | missing box |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for judges in sorted({run["judges"] for run in part["planted"]}):
        runs = [run for run in part["planted"] if run["judges"] == judges]
        for threshold in ("at_0.3", "at_0.7", "at_0.9"):
            rows = [run[threshold] for run in runs]
            cells = [
                f"{_mean(rows, 'listed'):.0f}",
                _mean_of(rows, "precision"),
                _mean_of(rows, "recall"),
                *(_mean_of([row["recall_by_kind"] for row in rows], kind) for kind in KINDS),
            ]
            name = f"{_mean(runs, 'planted'):.0f} of {_mean(runs, 'objects'):,.0f}, {judges}"
            lines.append(f"| {name} | {threshold[3:]} | " + " | ".join(cells) + " |")
    seeds = len([run for run in part["planted"] if run["judges"] == part["planted"][0]["judges"]])
    lines += ["", f"Means of {seeds} draws of the errors."]
    dirt = result.get("dirty")
    if dirt is not None:
        listed = dirt["out_of_fold"]
        lines += [
            "",
            f"openimages5_dirty, train ({listed['images']} images, {listed['objects']} objects, "
            f"all boxes wrong), judged out of fold: {dirt['found']:.0%} of the labels are found, "
            f"{sum(listed['at_0.3'][kind] for kind in KINDS)} suspicions at 0.3; commit "
            f"{dirt['commit']}; `{dirt['command']}`.",
        ]
    return "\n".join([*lines, *_gain_lines(result), *_pruning_lines(result)]) + "\n"


def _gain_lines(result: dict[str, Any]) -> list[str]:
    """What `trustset` gains over entropy in a benchmark."""
    gain = result.get("gain")
    if gain is None:
        return []
    rarest, whole = (
        "{mean:+.1f} [{low:+.1f}, {high:+.1f}]".format(**gain[metric])
        for metric in ("rare_third_AP", "mAP")
    )
    return [
        "",
        f"`trustset` beyond summed entropy, area over boxes, {len(gain['seeds'])} seeds: {rarest} "
        f"points of AP on the rarest third of the classes, {whole} of mAP; `{gain['command']}`.",
    ]


def _pruning_lines(result: dict[str, Any]) -> list[str]:
    """What a detector keeps when trained on TrustSet images, beside random ones."""
    pruning = result.get("pruning")
    if pruning is None:
        return []
    whole = [100 * row["mAP"] for row in pruning["curve"] if row["kind"] == "all"]
    lines = [
        "",
        "| boxes trained on | TrustSet images | random images | difference |",
        "|---|---|---|---|",
    ]
    for share, kinds in pruning["kept"].items():
        cells = [
            "{mean:.1f} [{low:.1f}, {high:.1f}]".format(**kinds[kind])
            for kind in ("trustset", "random")
        ]
        cells.append("{mean:+.1f} [{low:+.1f}, {high:+.1f}]".format(**kinds["difference"]))
        lines.append(f"| {float(share):.0%} | " + " | ".join(cells) + " |")
    return [
        *lines,
        f"| 100% | {statistics.mean(whole):.1f} | | |",
        "",
        f"Test mAP in points, {len(whole)} seeds, the same number of steps for all; commit "
        f"{pruning['commit']}; `{pruning['command']}`.",
    ]


def _supply_lines(across: dict[str, Any]) -> list[str]:
    """Objects of each class that other images are expected to hold, and hold."""
    of = [row["objects"] for key, row in across.items() if "objects" in row and key != "seed"]
    if not of:
        return []
    lines = [
        "| objects in other images | " + " | ".join(of[0]) + " |",
        "|---|" + "---|" * len(of[0]),
    ]
    for key, name in (
        ("true", "there are"),
        ("expected", "expected"),
        ("by_score", "by the scores, as the detector says"),
    ):
        cells = [f"{_mean([row[label] for row in of], key):,.0f}" for label in of[0]]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _mean(rows: list[dict[str, Any]], key: str) -> float:
    """Mean of what is known; NaN where nothing is."""
    known = [row[key] for row in rows if row[key] is not None]
    return sum(known) / len(known) if known else float("nan")


def _mean_of(rows: list[dict[str, Any]], key: str) -> str:
    mean = _mean(rows, key)
    return "" if math.isnan(mean) else f"{mean:.2f}"


def ray_table(result: dict[str, Any]) -> str:
    """Scoring on a cluster beside one process, selection in parts, and what many images cost."""
    return (
        "\n".join([*_ray_scoring(result), "", *_ray_partitions(result), "", *_cost(result)]) + "\n"
    )


def _ray_scoring(result: dict[str, Any]) -> list[str]:
    scoring = result["scoring"]
    names = {
        "local": "one process, two threads",
        "ray": "Ray, two nodes of one actor",
        "worker_killed": "the same, a worker killed",
        "node_killed": "the same, a node killed",
        "local_again": "one process again",
    }
    lines = [
        "| scoring | CPU seconds | until the first shard, s | images/s after it | store |",
        "|---|---|---|---|---|",
    ]
    for key in [key for key in names if key in scoring["arms"]]:
        name, arm = names[key], scoring["arms"][key]
        same = arm["digest"] == scoring["arms"]["local"]["digest"]
        lines.append(
            f"| {name} | {arm['cpu_s']:.0f} | {arm['first_shard_s']:.0f} | "
            f"{arm['images_per_s']:.1f} | {'the same bytes' if same else 'other bytes'} |"
        )
    batches = "the same" if scoring["identical_batches"] else "not the same"
    loads = [arm["load"] for arm in scoring["arms"].values()]
    return [
        *lines,
        "",
        f"{scoring['images']} images of aquarium, YOLO11n at {scoring['image_size']} px, shards of "
        f"{scoring['shard_size']}; both nodes on {_machine(scoring)}, shared with other work (load "
        f"{min(loads):.0f} to {max(loads):.0f}: compare the CPU seconds, of which Ray takes "
        f"{scoring['cpu_over_local_s']:.0f} more, once, mostly to start). The batches selected "
        f"afterwards are {batches}. Ray {scoring['versions']['ray']}; {_source(scoring)}",
    ]


def _ray_partitions(result: dict[str, Any]) -> list[str]:
    found = result["partitions"]
    counts = [int(row["parts"]) for row in next(iter(found["strategies"].values()))][1:]
    heads = " | ".join(f"{count} parts" for count in counts)
    lines = [
        f"| strategy | measure | whole pool | {heads} | random |",
        "|---|---|---|" + "---|" * (len(counts) + 1),
    ]
    measures = {
        "same_as_whole": "images as from the whole pool",
        "radius": "largest distance to the batch",
        "mean_distance": "mean distance to the batch",
    }
    for name, rows in found["strategies"].items():
        for key, words in measures.items():
            if (key == "same_as_whole") == (name in {"entropy"}):
                other = found["random"].get(key)
                cells = [f"{row[key]:.3f}" for row in rows]
                cells.append("" if other is None else f"{other:.3f}")
                lines.append(f"| `{name}` | {words} | " + " | ".join(cells) + " |")
    return [
        *lines,
        "",
        f"{found['picks']} of {found['pool']:,} synthetic images, {found['dimensions']} features, "
        f"{found['scenes']} scenes of long-tailed sizes; cosine distances of the pool to the "
        f"nearest picked image, seeds {', '.join(map(str, found['seeds']))}; {_source(found)}",
    ]


def _cost(result: dict[str, Any]) -> list[str]:
    path = ROOT / "data" / "results" / "scoring.json"
    scoring = json.loads(path.read_text(encoding="utf-8"))
    cpu_s = statistics.median(pair["detal"]["cpu_s_per_image"] for pair in scoring["pairs"])
    each = result["scoring"]["store_bytes_per_image"]
    hours = cpu_s * _MANY / 3600
    return [
        f"| | an image | {_MANY:,} images |",
        "|---|---|---|",
        f"| scoring on the CPU, YOLOv5n at 640 px (`scoring.json`) | {1000 * cpu_s:.0f} core ms | "
        f"{hours:,.0f} core hours: {hours / 1024:.1f} h on 16 nodes of 64 cores |",
        f"| store, 40 boxes an image with all 80 logits (`ray.json`) | {each / 1000:.1f} kB | "
        f"{each * _MANY / 1e9:,.0f} GB |",
        f"| shards of 8,192 | | {_MANY / 8192:,.0f} shards |",
        f"| lists of paths and keys in the driver | about 250 B | {250 * _MANY / 1e9:.0f} GB |",
        f"| 256 image features in `detal select` | 1 kB | {1024 * _MANY / 1e9:.0f} GB; "
        f"{1024 * _MANY / 1e9 / 32:.1f} GB in each of 32 parts |",
    ]


def _machine(result: dict[str, Any]) -> str:
    machine = result["machine"]
    return f"{machine['cores']} cores ({machine['processor']})"


def _source(result: dict[str, Any]) -> str:
    return f"commit {result['commit']}; `{result['command']}`."


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


def bad_inputs_table(result: dict[str, Any]) -> str:
    """What became of bad inputs, and how long each reader was fuzzed."""
    lines = [
        "| bad inputs | | refused with an error | named, left out | taken, as defined | slowest | "
        "most memory |",
        "|---|---|---|---|---|---|---|",
    ]
    rows = result["bad_input_table"]
    keys = ("count", "error", "quarantine", "accepted")
    for row in rows:
        numbers = " | ".join(str(row[key]) for key in keys)
        lines.append(
            f"| {row['family']} | {numbers} | {row['worst_seconds']:.1f} s | "
            f"{row['worst_mib']} MiB |"
        )
    sums = " | ".join(f"**{sum(row[key] for row in rows)}**" for key in keys)
    slowest = max(row["worst_seconds"] for row in rows)
    most = max(row["worst_mib"] for row in rows)
    lines.append(f"| **all** | {sums} | **{slowest:.1f} s** | **{most} MiB** |")
    run = result["bad_input_run"]
    lines += [
        "",
        f"{result['tracebacks']} tracebacks. Each by the command line in a process of its own; "
        f"memory is the {run['memory']}; {run['machine']['cores']} cores "
        f"({run['machine']['processor']}), which other work shared; commit {run['commit']}; "
        f"`{run['command']}`.",
    ]
    fuzz = result["fuzz"]
    lines += ["", "| fuzzed reader | minutes | CPU minutes | files | refused | found, then fixed |"]
    lines.append("|---|---|---|---|---|---|")
    for one in fuzz["readers"]:
        minutes = " | ".join(f"{one[key] / 60:.1f}" for key in ("seconds", "cpu_seconds"))
        lines.append(
            f"| {one['reader'].replace('_', ' ')} | {minutes} | {one['examples']:,} | "
            f"{one['refused']:,} | {len(one['findings'])} |"
        )
    how = "Coverage-guided (atheris)" if all(o["guided"] for o in fuzz["readers"]) else "Blind"
    lines += ["", f"{how}; commit {fuzz['commit']}; `{fuzz['command']}`."]
    return "\n".join(lines) + "\n"


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


def selection_table(result: dict[str, Any]) -> str:
    """Seconds and memory of every strategy, the dearest first, beside references."""
    lines = [
        "| strategy | CPU seconds | peak memory, MiB |",
        "|---|---|---|",
    ]
    costs = result["strategies"]
    for name in sorted(costs, key=lambda name: -costs[name]["cpu_s"]):
        lines.append(f"| `{name}` | {costs[name]['cpu_s']:.1f} | {costs[name]['peak_mb']:,} |")
    found, opened, picks = result["references"], result["open"], result["picks"]
    textbook, seeds = found["k_centre_numpy"], found["k_means_plus_plus"]
    lines += [
        "",
        f"{picks:,} of {result['images']:,} images, one thread, from a pool that took "
        f"{opened['cpu_s']:.1f} s to open; memory: of the whole process, the open pool and what "
        f"earlier strategies left included. Beside them, in the same process: a textbook k-centre "
        f"in NumPy takes {textbook['cpu_ms_per_pick']:.1f} ms a pick, `core_set` "
        f"{1000 * costs['core_set']['cpu_s'] / picks:.2f} ms; {seeds['seeds']} k-means++ seeds of "
        f"{seeds['points']:,} points take scikit-learn {seeds['sklearn']['cpu_s']:.2f} s (one "
        f"trial a seed, as ours: {seeds['sklearn_one_trial']['cpu_s']:.2f} s) and detal "
        f"{seeds['detal']['cpu_s']:.3f} s, with a mean squared distance of "
        f"{seeds['sklearn']['mean_squared_distance']:.0f}, "
        f"{seeds['sklearn_one_trial']['mean_squared_distance']:.0f} and "
        f"{seeds['detal']['mean_squared_distance']:.0f}; ending Lloyd's iterations early costs "
        f"{seeds['loss_of_ending_early']:.1%} of it. This core read "
        f"{found['read_gb_per_s']:.0f} GB/s and multiplied at {found['gemm_gflop_per_s']:.0f} "
        f"GFLOP/s, while other work shared it. {_origin(result)}",
    ]
    return "\n".join(lines) + "\n"


def scale_table(result: dict[str, Any]) -> str:
    """Growth of time and memory over the pool, the steepest first."""
    sizes = sorted(result["costs"], key=int)
    heads = " | ".join(f"of {int(size):,}" for size in sizes)
    lines = [f"| strategy | {heads} | exponent |", "|---|" + "---|" * (len(sizes) + 1)]
    slopes = result["slopes"]
    for name in sorted(slopes, key=lambda name: -slopes[name]["cpu"]):
        seconds = [result["costs"][size].get(name) for size in sizes]
        cells = ["" if cost is None else f"{cost['cpu_s']:.2f}" for cost in seconds]
        label = "opening the pool" if name == "opening" else f"`{name}`"
        lines.append(f"| {label} | {' | '.join(cells)} | {slopes[name]['cpu']:.2f} |")
    lines += [
        "",
        f"CPU seconds on one thread to select {result['picks']:,} images; exponent: of the time "
        f"over the pool, between the smallest and the largest. {_origin(result)}",
    ]
    return "\n".join(lines) + "\n"


def store_table(result: dict[str, Any]) -> str:
    """Bytes and seconds of the store."""
    shard = result["shard"]
    names = {
        "parquet": "image table",
        "boxes.parquet": "boxes, scores, spreads",
        "logits.npy": "class logits, float16",
        "object_features.npy": "object features, float16",
        "image_features.npy": "image features, float16",
    }
    lines = ["| part of the store | bytes an image |", "|---|---|"]
    for kind, size in sorted(shard["bytes_per_image"].items(), key=lambda item: item[1]):
        lines.append(f"| {names[kind]} | {size:,.0f} |")
    lines.append(f"| **all** | **{shard['total_bytes_per_image']:,.0f}** |")
    opened = [
        f"{int(size):,} images in {cost['total_cpu_s']:.1f} s with {cost['peak_mb']:,} MiB"
        for size, cost in sorted(result["open"].items(), key=lambda item: int(item[0]))
    ]
    lines += [
        "",
        f"{shard['boxes_per_image']:.0f} boxes an image, 80 classes, 64 numbers a box, 256 an "
        f"image. A second writes {shard['written_per_s']:,} images, reads "
        f"{shard['read_per_s']:,} with everything, {shard['features_per_s']:,} with image features "
        f"only, {shard['score_sums_per_s']:,} with scores only. Files are looked up, missing "
        f"images found and the table opened of {', of '.join(opened)}. CPU seconds on one thread. "
        f"{_origin(result)}",
    ]
    return "\n".join(lines) + "\n"


def scoring_cpu_table(result: dict[str, Any]) -> str:
    """The forward pass by several engines, the fastest first."""
    lines = [
        "| engine | CPU ms an image | over detal's own | same boxes | largest change of a score |",
        "|---|---|---|---|---|",
    ]
    engines = result["engines"]
    for name in sorted(engines, key=lambda name: -engines[name].get("speed_up", 0)):
        found = engines[name]
        if "failed" in found:
            lines.append(f"| {name} | failed: {found['failed']} | | | |")
            continue
        low, high = found["speed_up_range"]
        lines.append(
            f"| {name} | {found['cpu_ms_per_image']:.0f} | {found['speed_up']:.2f} "
            f"[{low:.2f}, {high:.2f}] | {found['share_of_own_boxes']:.1%} | "
            f"{found['largest_score_difference']:.4f} |"
        )
    packages = ", ".join(
        f"{package} {result['versions'][package]}"
        for package in ("torch", "openvino", "onnxruntime")
        if package in result["versions"]
    )
    lines += [
        "",
        f"{result['timed_model'].removesuffix('.yaml')} at {result['image_size']} px, batch "
        f"{result['batch']}, one thread; range over rounds in brackets. Boxes: "
        f"{result['boxes_model']} on {result['images']} images. {packages}. {_origin(result)}",
    ]
    return "\n".join(lines) + "\n"


def _origin(result: dict[str, Any]) -> str:
    processor = result["machine"]["processor"]
    return f"{processor}; commit {result['commit']}; `{result['command']}`."


FILES = {"bad_inputs": "faults"}
"""Result files that are not named like their block."""

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
    "trustset_sandbox": trust_table,
    "trustset_aquarium": trust_table,
    "trustset_bccd": trust_table,
    "report": report_table,
    "bad_inputs": bad_inputs_table,
    "faults": faults_table,
    "selection": selection_table,
    "selection_million": selection_table,
    "scale": scale_table,
    "store": store_table,
    "scoring_cpu": scoring_cpu_table,
    "ray": ray_table,
}


if __name__ == "__main__":
    main()
