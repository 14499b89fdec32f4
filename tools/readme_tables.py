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
ARMS = ("sampled", "exact", "random")
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
        block = f"<!-- {name} -->\n{render(_read(FILES.get(name, name)))}\n<!-- /{name} -->"
        pattern = re.compile(f"<!-- {name} -->.*<!-- /{name} -->", re.DOTALL)
        text, found = pattern.subn(block.replace("\\", r"\\"), text)
        if found != 1:
            sys.exit(f"README.md must have one block {name}, found {found}")
    return text


def _read(name: str) -> Any:
    return json.loads((ROOT / "data" / "results" / f"{name}.json").read_text(encoding="utf-8"))


def scoring_table(result: dict[str, Any]) -> str:
    """Images per second beside ultralytics' own predictor."""
    rows = ["pair | detal, images/s | ultralytics, images/s | ratio"]
    pairs = zip(result["pairs"], result["ratios"], strict=True)
    for number, (pair, ratio) in enumerate(pairs, start=1):
        own, theirs = (pair[engine]["images_per_s"] for engine in ("detal", "ultralytics"))
        rows.append(f"{number} | {own:.1f} | {theirs:.1f} | {ratio:.2f}")
    rows.append(f"**median** | | | **{result['ratio_to_ultralytics_cpu']:.2f}**")
    versions = result["versions"]
    return _table(
        rows,
        f"{result['pairs'][0]['detal']['images']} images of aquarium, YOLOv5n at "
        f"{result['image_size']} px, batch {result['batch']}, {_machine(result)}, ultralytics "
        f"{versions['ultralytics']}, torch {versions['torch']}; {_source(result)}",
    )


def scoring_cpu_table(result: dict[str, Any]) -> str:
    """The forward pass by several engines, the fastest first."""
    rows = ["engine | CPU ms an image | over detal's own | same boxes | largest change of a score"]
    engines = result["engines"]
    for name in sorted(engines, key=lambda name: -engines[name].get("speed_up", 0)):
        found = engines[name]
        if "failed" in found:
            rows.append(f"{name} | failed: {found['failed']} | | |")
            continue
        rows.append(
            f"{name} | {found['cpu_ms_per_image']:.0f} | "
            f"{_with_interval(found['speed_up'], found['speed_up_range'])} | "
            f"{found['share_of_own_boxes']:.1%} | {found['largest_score_difference']:.4f}"
        )
    packages = ", ".join(
        f"{package} {result['versions'][package]}"
        for package in ("torch", "openvino", "onnxruntime")
        if package in result["versions"]
    )
    return _table(
        rows,
        f"{result['timed_model'].removesuffix('.yaml')} at {result['image_size']} px, batch "
        f"{result['batch']}, one thread; range over rounds in brackets. Boxes: "
        f"{result['boxes_model']} on {result['images']} images. {packages}. {_origin(result)}",
    )


def cost_table(result: dict[str, Any]) -> str:
    """Passes, scoring and selection time of each strategy."""
    sizes = result["sizes"]
    heads = " | ".join(f"of {size:,}" for size in sizes)
    rows = [
        "strategy | further passes | scoring 1,000 | "
        f"selecting {result['images_picked']} {heads} | exponent"
    ]
    for name, row in sorted(result["strategies"].items()):
        times = [row["selection_s"][str(size)] for size in sizes]
        cells = [_figure(time, unknown=f"> {result['limit_s']:g}") for time in times]
        rows.append(
            f"`{name}` | {row['extra_passes']} | {row['scoring_s_per_1000_images']:.1f} | "
            f"{' | '.join(cells)} | {_figure(row['slope'])}"
        )
    return _table(
        rows,
        "CPU seconds on one thread. Scoring: sandbox images, the sandbox's own small YOLO at 160 "
        "px, with all passes. Selecting: synthetic stores, from the store to the batch; exponent: "
        f"of the time over the pool, between the two largest sizes. {_origin(result)}",
    )


def selection_table(result: dict[str, Any]) -> str:
    """Seconds and memory of every strategy, the dearest first, beside references."""
    costs = result["strategies"]
    rows = ["strategy | CPU seconds | peak memory, MiB"]
    for name, cost in sorted(costs.items(), key=lambda item: -item[1]["cpu_s"]):
        rows.append(f"`{name}` | {cost['cpu_s']:.1f} | {cost['peak_mb']:,}")
    found, opened, picks = result["references"], result["open"], result["picks"]
    textbook, seeds = found["k_centre_numpy"], found["k_means_plus_plus"]
    return _table(
        rows,
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
    )


def approximations_table(result: dict[str, Any]) -> str:
    """What looking at a sample gives up, and the time it saves."""
    words = {
        "facility_location": "`facility_location`: similarity to the nearest known image, added",
        "density": "`density`: similarity of the picks to their nearest",
        "kmeans": f"{result['kmeans']['centres']} k-means centres: mean squared distance to them",
    }
    rows = ["what counts | from a sample | from all images | random | CPU seconds, of all"]
    for name, what in words.items():
        arms = result[name]
        values = [_figure(arms.get(arm, {}).get("value"), ".4f") for arm in ARMS]
        seconds = [f"{arms[arm]['cpu_s']:.1f}" for arm in ARMS[:2]]
        rows.append(f"{what} | {' | '.join(values)} | {', '.join(seconds)}")
    found = result["neighbours"]
    ours, flat, lists = (found[name] for name in ("detal", "faiss_flat", "faiss_ivf"))
    theirs = result["kmeans"]["faiss_sampled"]
    return _table(
        rows,
        f"{result['picks']} of {result['images']:,} images, means of {result['seeds']} seeds for "
        f"what is drawn. FAISS {result['versions']['faiss']} on the same thread: k-means takes "
        f"{theirs['cpu_s']:.1f} s on the same sample and comes to {theirs['value']:.4f}; the "
        f"{found['k']} nearest of {found['queries']:,} images take detal {ours['cpu_s']:.1f} s and "
        f"FAISS' exact index {flat['cpu_s']:.1f} s, with the same result "
        f"({ours['value']:.4f}, {flat['value']:.4f}); its inverted lists "
        f"{lists['build_cpu_s']:.1f} s once and {lists['cpu_s']:.1f} s, with "
        f"{lists['value']:.4f}. {_origin(result)}",
    )


def scale_table(result: dict[str, Any]) -> str:
    """Growth of time and memory over the pool, the steepest first."""
    costs = result["costs"]
    sizes = sorted(costs, key=int)
    heads = " | ".join(f"of {int(size):,}" for size in sizes)
    rows = [f"strategy | {heads} | exponent"]
    for name, slope in sorted(result["slopes"].items(), key=lambda item: -item[1]["cpu"]):
        label = "opening the pool" if name == "opening" else f"`{name}`"
        cells = [_figure(costs[size].get(name, {}).get("cpu_s")) for size in sizes]
        rows.append(f"{label} | {' | '.join(cells)} | {slope['cpu']:.2f}")
    return _table(
        rows,
        f"CPU seconds on one thread to select {result['picks']:,} images; exponent: of the time "
        f"over the pool, between the smallest and the largest. {_origin(result)}",
    )


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
    rows = ["part of the store | bytes an image"]
    for kind, size in sorted(shard["bytes_per_image"].items(), key=lambda item: item[1]):
        rows.append(f"{names[kind]} | {size:,.0f}")
    rows.append(f"**all** | **{shard['total_bytes_per_image']:,.0f}**")
    opened = [
        f"{int(size):,} images in {cost['total_cpu_s']:.1f} s with {cost['peak_mb']:,} MiB"
        for size, cost in sorted(result["open"].items(), key=lambda item: int(item[0]))
    ]
    return _table(
        rows,
        f"{shard['boxes_per_image']:.0f} boxes an image, 80 classes, 64 numbers a box, 256 an "
        f"image. A second writes {shard['written_per_s']:,} images, reads "
        f"{shard['read_per_s']:,} with everything, {shard['features_per_s']:,} with image features "
        f"only, {shard['score_sums_per_s']:,} with scores only. Files are looked up, missing "
        f"images found and the table opened of {', of '.join(opened)}. CPU seconds on one thread. "
        f"{_origin(result)}",
    )


def match_table(result: dict[str, Any]) -> str:
    """Time per subset mAP beside pycocotools and hotcoco."""
    rows = [
        "detections an image | detal, ms per subset | hotcoco | pycocotools | over hotcoco | "
        "over pycocotools"
    ]
    for detections, row in result["by_detections_per_image"].items():
        ms = {engine: 1000 * s for engine, s in row["seconds_per_subset"].items()}
        rows.append(
            f"{detections} | {ms['detal']:.2f} | {ms['hotcoco']:.1f} | {ms['pycocotools']:,.0f} | "
            f"{row['speedup_over_hotcoco']:.1f} × | {row['speedup_over_pycocotools']:,.0f} ×"  # noqa: RUF001
        )
    return _table(
        rows,
        f"mAP of {result['images_per_subset']} of {result['pool_images']:,} images, "
        f"{result['classes']} classes, {result['subsets_per_batch']} subsets at a time, "
        f"{_machine(result)}; the largest difference to pycocotools over "
        f"{result['comparisons']:,} subsets, multisets and re-scorings of real predictions is "
        f"{result['max_abs_difference']:.1g}; {_source(result)}",
    )


def tables_cost_table(result: dict[str, Any]) -> str:
    """What the tables cost beside scoring, at each size of the pool."""
    names = {
        "match": "match table",
        "curves": "category curves",
        "change": "output change",
        "groups": "groups",
    }
    rows = [f"candidates | scoring them | {' | '.join(names.values())} | all tables | of scoring"]
    for size, row in result["sizes"].items():
        total = sum(row["tables_s"].values())
        cells = [f"{row['tables_s'][name]:.2f}" for name in names]
        rows.append(
            f"{int(size):,} | {row['scoring_s']:,.1f} | {' | '.join(cells)} | {total:.2f} | "
            f"{total / row['scoring_s']:.0%}"
        )
    return _table(
        rows,
        "CPU seconds on one thread, the variants' training aside. The sandbox's pool, scored with "
        f"its own small YOLO at 160 px, and {result['reference']['images']:,} reference images; "
        "larger pools repeat what was said about these, and scoring is taken to be as many times "
        f"as dear. {_origin(result)}",
    )


def report_table(result: dict[str, Any]) -> str:
    """Size, load and scrolling of a large report."""
    empty = result["empty_page"]
    rows = [
        f"report of {result['images']:,} images |",
        f"file | {result['file_mb']:.1f} MB",
        f"written in | {result['writing_s']:.0f} s",
        f"first paint after | {result['first_paint_ms'] / 1000:.1f} s",
        f"loaded after | {result['load_ms'] / 1000:.1f} s",
        f"script memory | {result['heap_mb']:.0f} MB",
        f"main thread per frame while scrolling | {result['main_thread_ms_per_frame']:.0f} ms",
        f"frame, median and 95th percentile | {result['frame_median_ms']:.0f} and "
        f"{result['frame_p95_ms']:.0f} ms (an empty page: {empty['frame_median_ms']:.0f} and "
        f"{empty['frame_p95_ms']:.0f} ms)",
        f"layout shift | {result['layout_shift']:g}",
        f"a search | {result['filter_ms']:.0f} ms",
    ]
    return _table(
        rows,
        f"Photographs of 640 x 480; headless {result['browser']} without a GPU on "
        f"{_machine(result)}, which other work shared; {_source(result)}",
    )


def ray_table(result: dict[str, Any]) -> str:
    """Scoring on a cluster beside one process, selection in parts, and what many images cost."""
    scoring = result["scoring"]
    parts = [
        _ray_scoring(scoring),
        _ray_partitions(result["partitions"]),
        _many_images(scoring["store_bytes_per_image"]),
    ]
    return "\n\n".join(parts)


def _ray_scoring(scoring: dict[str, Any]) -> str:
    names = {
        "local": "one process, two threads",
        "ray": "Ray, two nodes of one actor",
        "worker_killed": "the same, a worker killed",
        "node_killed": "the same, a node killed",
        "local_again": "one process again",
    }
    arms = scoring["arms"]
    rows = ["scoring | CPU seconds | until the first shard, s | images/s after it | store"]
    for key, name in names.items():
        if arm := arms.get(key):
            same = arm["digest"] == arms["local"]["digest"]
            rows.append(
                f"{name} | {arm['cpu_s']:.0f} | {arm['first_shard_s']:.0f} | "
                f"{arm['images_per_s']:.1f} | {'the same bytes' if same else 'other bytes'}"
            )
    batches = "the same" if scoring["identical_batches"] else "not the same"
    loads = [arm["load"] for arm in arms.values()]
    return _table(
        rows,
        f"{scoring['images']} images of aquarium, YOLO11n at {scoring['image_size']} px, shards of "
        f"{scoring['shard_size']}; both nodes on {_machine(scoring)}, shared with other work (load "
        f"{min(loads):.0f} to {max(loads):.0f}: compare the CPU seconds, of which Ray takes "
        f"{scoring['cpu_over_local_s']:.0f} more, once, mostly to start). The batches selected "
        f"afterwards are {batches}. Ray {scoring['versions']['ray']}; {_source(scoring)}",
    )


def _ray_partitions(found: dict[str, Any]) -> str:
    counts = [int(row["parts"]) for row in next(iter(found["strategies"].values()))][1:]
    heads = " | ".join(f"{count} parts" for count in counts)
    measures = {
        "same_as_whole": "images as from the whole pool",
        "radius": "largest distance to the batch",
        "mean_distance": "mean distance to the batch",
    }
    rows = [f"strategy | measure | whole pool | {heads} | random"]
    for name, parts in found["strategies"].items():
        for key, words in measures.items():
            if (key == "same_as_whole") == (name == "entropy"):
                figures = [*(part[key] for part in parts), found["random"].get(key)]
                cells = [_figure(figure, ".3f") for figure in figures]
                rows.append(f"`{name}` | {words} | {' | '.join(cells)}")
    return _table(
        rows,
        f"{found['picks']} of {found['pool']:,} synthetic images, {found['dimensions']} features, "
        f"{found['scenes']} scenes of long-tailed sizes; cosine distances of the pool to the "
        f"nearest picked image, seeds {', '.join(map(str, found['seeds']))}; {_source(found)}",
    )


def _many_images(store_bytes: float) -> str:
    pairs = _read("scoring")["pairs"]
    cpu_s = statistics.median(pair["detal"]["cpu_s_per_image"] for pair in pairs)
    hours = cpu_s * _MANY / 3600
    features_gb = 1024 * _MANY / 1e9
    rows = [
        f"| an image | {_MANY:,} images",
        f"scoring on the CPU, YOLOv5n at 640 px (`scoring.json`) | {1000 * cpu_s:.0f} core ms | "
        f"{hours:,.0f} core hours: {hours / 1024:.1f} h on 16 nodes of 64 cores",
        f"store, 40 boxes an image with all 80 logits (`ray.json`) | {store_bytes / 1000:.1f} kB | "
        f"{store_bytes * _MANY / 1e9:,.0f} GB",
        f"shards of 8,192 | | {_MANY / 8192:,.0f} shards",
        f"lists of paths and keys in the driver | about 250 B | {250 * _MANY / 1e9:.0f} GB",
        f"256 image features in `detal select` | 1 kB | {features_gb:.0f} GB; "
        f"{features_gb / 32:.1f} GB in each of 32 parts",
    ]
    return _table(rows)


def quality_table(result: dict[str, Any]) -> str:
    """Areas under the curves of a study, best over boxes first."""
    strategies = result["strategies"]
    areas = {name: figures["area"] for name, figures in strategies.items()}
    rows = [
        "strategy | mAP, area over boxes | minus random | area over images | "
        "rarest third, over boxes | boxes saved"
    ]
    for name in sorted(areas, key=lambda name: -areas[name]["boxes"]["mean_ap"]["mean"]):
        cells = [
            _interval(areas[name]["boxes"]["mean_ap"]),
            _interval(result["win_matrix"][name].get("random"), sign="+"),
            _interval(areas[name]["images"].get("mean_ap")),
            _interval(areas[name]["boxes"].get("rare_third_ap")),
            _saved(strategies[name]["boxes_to_reach_random"]),
        ]
        rows.append(f"`{name}` | {' | '.join(cells)}")
    training = result["training"]
    return _table(
        rows,
        f"{len(result['seeds'])} seeds, {result['rounds']} rounds of {_amount(result['budget'])} "
        f"after {_amount(result['initial'])}; {training['init']}, {training['steps']} steps at "
        f"{training['image_size']} px in every arm; points of mAP; brackets: 95 % bootstrap over "
        "seeds; boxes saved: share of random's boxes not needed for its final mAP, by seed. "
        f"{_trainings(result)}",
    )


def fidelity_table(result: dict[str, Any]) -> str:
    """How far each table's word follows the true gain of mAP, best first."""
    rows = [
        "table | rank correlation with the true gain | share of the noise ceiling | "
        "mean over classes"
    ]
    for name, found in sorted(result["tables"].items(), key=lambda item: -_rank(item[1]["rho"])):
        told = " (told the true objects)" if found["sees_truth"] else ""
        rows.append(
            f"`{name}`{told} | {_with_interval(found['rho'], found['rho_interval'])} | "
            f"{_with_interval(found['share_of_ceiling'], found['share_interval'])} | "
            f"{_figure(found['class_rho_mean'])}"
        )
    ceiling = result["ceiling"]
    return _table(
        rows,
        f"{len(result['batches'])} batches of {_amount(result['budget'])} after "
        f"{result['initial']['boxes']} boxes, each trained on {len(result['training_seeds'])} "
        "times; two trainings on the same batches agree at rho "
        f"{_figure(ceiling['reliability_of_one'], unknown='undefined')}, so a perfect table is "
        f"expected at {_with_interval(ceiling['rho'], ceiling['rho_interval'])}; brackets: 95 % "
        f"bootstrap over batches. {_trainings(result)}",
    )


def agent_table(result: dict[str, Any]) -> str:
    """Table gain of the agent in percent of greedy's, and of the optimum where that is known."""
    large = [
        {**row, "instance": f"{row['budget']:g} {row['unit']} of {row['images']:,} images"}
        for row in result.get("large", [])
    ]
    instances = [
        "instances | agent, % of greedy | worst | best of 1,000 random | with swaps | "
        "agent, % of optimum, worst | greedy, % of optimum, worst"
    ]
    for name, rows in _grouped([*result.get("small", []), *large], "instance").items():
        shares = [
            _mean(rows, "to_greedy"),
            min(row["to_greedy"] for row in rows),
            _mean(rows, "random_to_greedy"),
            _mean(rows, "with_swaps_to_greedy"),
        ]
        cells = [_percent(share) for share in shares]
        for key in ("to_optimum", "greedy_to_optimum"):
            cells.append(_percent(min(row[key] for row in rows)) if key in rows[0] else "")
        instances.append(f"{name} | {' | '.join(cells)}")
    variants = ["variant | where greedy is misled | 30 boxes of 300 images"]
    for name, rows in _grouped(result.get("ablations", []), "variant").items():
        cells = [_percent(_mean(rows, key)) for key in ("misled", "pool")]
        variants.append(f"{name} | {' | '.join(cells)}")
    machine = result["machine"]
    return _table(
        instances,
        "Gain by a prior curve table of synthetic pools, 3 seeds each. What its parts bring, in "
        "percent of greedy:",
        _table(variants, _agent_notes(result)),
        *(_true_map(study, figures) for study, figures in result.get("true_map", {}).items()),
        f"{machine['processor']}, {machine['cores']} cores; {_source(result)}",
    )


def _agent_notes(result: dict[str, Any]) -> str:
    """Shortlist, other pools and cost, a sentence each."""
    shortlists = ", ".join(
        f"{_percent(_mean(rows, 'to_greedy'))} with {_mean(rows, 'candidates'):.0f}"
        for rows in _grouped(result.get("shortlists", []), "times_the_batch").values()
    )
    across = ", ".join(
        f"{_percent(_mean(result.get('across', []), key))} {key.replace('_', ' ')}"
        for key in ("untrained_3_steps", "carried_over", "carried_over_3_steps", "trained_here")
    )
    costs = [
        f"{cost['images']:,} candidates and a batch of {cost['batch']}: {cost['seconds']:.0f} "
        f"seconds by the clock, {cost['cpu_s']:.0f} of CPU ({cost['threads']} threads, load "
        f"{cost['load'][0]:g}), {cost['peak_mib']:,} MiB, {_percent(cost['to_greedy'])} % of "
        "greedy."
        for cost in result.get("cost", [])
    ]
    notes = [
        f"30 boxes of 1,000 images, by candidates looked at, % of greedy: {shortlists}.",
        f"On another pool, % of greedy there: {across}.",
        *costs,
    ]
    return "\n".join(notes)


def _true_map(study: str, figures: dict[str, Any]) -> str:
    """True mAP of the agent and of what it is compared with."""
    shown = ("curve_greedy", "trustset", "class_balanced", "entropy_mean", "ppal", "cald", "random")
    rows = [f"{study} | mAP, area over boxes | rarest third | minus `curve_greedy` | minus random"]
    for name, row in sorted(figures["strategies"].items(), key=lambda item: -item[1]["mAP"]):
        if name.startswith("mgral") or name in shown:
            gains = [row["minus"].get(other) for other in ("curve_greedy", "random")]
            rows.append(
                f"`{name}` | {100 * row['mAP']:.1f} | {100 * row['rare_third_AP']:.1f} | "
                f"{' | '.join(_interval(gain, sign='+') for gain in gains)}"
            )
    return _table(
        rows,
        f"{len(figures['seeds'])} seeds, {figures['rounds']} rounds of "
        f"{_amount(figures['budget'])}; points of mAP; commits {', '.join(figures['commits'])}.",
    )


def trust_table(result: dict[str, Any]) -> str:
    """AUC and calibration of trust per class beside plain entropy's, and the planted errors."""
    part = result.get("sandbox") or result.get("aquarium") or result["bccd"]
    optional = {"dirty": _dirt, "gain": _gain, "pruning": _pruning}
    parts = [
        _trust(part),
        *_supply(part["across"]),
        _planted(part["planted"]),
        *(render(result[key]) for key, render in optional.items() if result.get(key)),
    ]
    return "\n\n".join(parts)


def _trust(part: dict[str, Any]) -> str:
    chosen = [
        of
        for key, of in part["trust"].items()
        if key in {"pool_truth", "unseen"} or key.startswith("start")
    ]
    of_class = {"**all**": [of["pooled"] for of in chosen]}
    of_class |= {name: [of["classes"][name] for of in chosen] for name in chosen[0]["classes"]}
    rows = [
        "class | detections | of the TrustSet | AUC | AUC of entropy | calibration error | "
        "of entropy's"
    ]
    for name, found in of_class.items():
        counts = [f"{_mean(found, key):,.0f}" for key in ("detections", "positives")]
        cells = [_mean_of(found, key) for key in ("auc", "auc_entropy", "ece", "ece_entropy")]
        rows.append(f"{name} | {' | '.join(counts + cells)}")
    means = f"means of {len(chosen)} detectors" if len(chosen) > 1 else "one detector"
    return _table(
        rows,
        f"Five-fold cross-validation by image, {means}; classes without members or others have no "
        f"AUC. {_origin(part)}",
    )


def _supply(across: dict[str, Any]) -> list[str]:
    """Objects of each class that other images are expected to hold, and hold."""
    of = [row["objects"] for key, row in across.items() if "objects" in row and key != "seed"]
    if not of:
        return []
    names = {
        "true": "there are",
        "expected": "expected",
        "by_score": "by the scores, as the detector says",
    }
    rows = [f"objects in other images | {' | '.join(of[0])}"]
    for key, name in names.items():
        cells = [f"{_mean([row[label] for row in of], key):,.0f}" for label in of[0]]
        rows.append(f"{name} | {' | '.join(cells)}")
    return [_table(rows)]


def _planted(planted: list[dict[str, Any]]) -> str:
    judged = _grouped(planted, "judges")
    rows = [
        "planted errors, judges | at a score of | listed | precision | recall | "
        f"{' | '.join(KINDS)}"
    ]
    for judges, runs in sorted(judged.items()):
        name = f"{_mean(runs, 'planted'):.0f} of {_mean(runs, 'objects'):,.0f}, {judges}"
        for threshold in ("0.3", "0.7", "0.9"):
            found = [run[f"at_{threshold}"] for run in runs]
            cells = [
                _mean_of(found, "precision"),
                _mean_of(found, "recall"),
                *(_mean_of([row["recall_by_kind"] for row in found], kind) for kind in KINDS),
            ]
            listed = _mean(found, "listed")
            rows.append(f"{name} | {threshold} | {listed:.0f} | {' | '.join(cells)}")
    return _table(rows, f"Means of {len(judged[planted[0]['judges']])} draws of the errors.")


def _dirt(dirt: dict[str, Any]) -> str:
    listed = dirt["out_of_fold"]
    return (
        f"openimages5_dirty, train ({listed['images']} images, {listed['objects']} objects, "
        f"all boxes wrong), judged out of fold: {dirt['found']:.0%} of the labels are found, "
        f"{sum(listed['at_0.3'][kind] for kind in KINDS)} suspicions at 0.3; {_source(dirt)}"
    )


def _gain(gain: dict[str, Any]) -> str:
    """What `trustset` gains over entropy in a benchmark."""
    rarest, whole = (_interval(gain[key], sign="+", times=1) for key in ("rare_third_AP", "mAP"))
    return (
        f"`trustset` beyond summed entropy, area over boxes, {len(gain['seeds'])} seeds: {rarest} "
        f"points of AP on the rarest third of the classes, {whole} of mAP; `{gain['command']}`."
    )


def _pruning(pruning: dict[str, Any]) -> str:
    """What a detector keeps when trained on TrustSet images, beside random ones."""
    whole = [100 * row["mAP"] for row in pruning["curve"] if row["kind"] == "all"]
    rows = ["boxes trained on | TrustSet images | random images | difference"]
    for share, kept in pruning["kept"].items():
        cells = [_interval(kept[kind], times=1) for kind in ("trustset", "random")]
        cells.append(_interval(kept["difference"], sign="+", times=1))
        rows.append(f"{float(share):.0%} | {' | '.join(cells)}")
    rows.append(f"100% | {statistics.mean(whole):.1f} | |")
    return _table(
        rows,
        f"Test mAP in points, {len(whole)} seeds, the same number of steps for all; "
        f"{_source(pruning)}",
    )


def bad_inputs_table(result: dict[str, Any]) -> str:
    """What became of bad inputs, and how long each reader was fuzzed."""
    families = result["bad_input_table"]
    keys = ("count", "error", "quarantine", "accepted")
    rows = [
        "bad inputs | | refused with an error | named, left out | taken, as defined | slowest | "
        "most memory"
    ]
    for row in families:
        counts = " | ".join(str(row[key]) for key in keys)
        rows.append(
            f"{row['family']} | {counts} | {row['worst_seconds']:.1f} s | {row['worst_mib']} MiB"
        )
    sums = " | ".join(f"**{sum(row[key] for row in families)}**" for key in keys)
    slowest = max(row["worst_seconds"] for row in families)
    most = max(row["worst_mib"] for row in families)
    rows.append(f"**all** | {sums} | **{slowest:.1f} s** | **{most} MiB**")
    run, fuzz = result["bad_input_run"], result["fuzz"]
    readers = ["fuzzed reader | minutes | CPU minutes | files | refused | found, then fixed"]
    for one in fuzz["readers"]:
        readers.append(
            f"{one['reader'].replace('_', ' ')} | {one['seconds'] / 60:.1f} | "
            f"{one['cpu_seconds'] / 60:.1f} | {one['examples']:,} | {one['refused']:,} | "
            f"{len(one['findings'])}"
        )
    how = "Coverage-guided (atheris)" if all(o["guided"] for o in fuzz["readers"]) else "Blind"
    return _table(
        rows,
        f"{result['tracebacks']} tracebacks. Each by the command line in a process of its own; "
        f"memory is the {run['memory']}; {_machine(run)}, which other work shared; {_source(run)}",
        _table(readers, f"{how}; {_source(fuzz)}"),
    )


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
    rows = ["fault | in | injected | survived | lost | then"]
    for fault, those in _grouped(result["faults"], "fault").items():
        where = ", ".join(dict.fromkeys(row["where"] for row in those))
        counts = [f"{sum(row[key] for row in those):,}" for key in ("injected", "survived", "lost")]
        after = next(advice for words, advice in _AFTER.items() if words in fault)
        rows.append(f"{fault} | {where} | {' | '.join(counts)} | {after}")
    runs = result["kill_runs"]
    return _table(
        rows,
        f"{result['kills']} kills at random moments, {result['lost']} of all faults lost anything; "
        f"{_machine(runs)}, commit {', '.join(runs['commits'])}; `{runs['command']}`.",
    )


def _table(rows: list[str], *below: str) -> str:
    """A Markdown table and what stands below it; ``rows``, head first, lack their outer bars."""
    lines = [f"| {row} |" for row in rows]
    lines.insert(1, f"|{'---|' * (rows[0].count('|') + 1)}")
    return "\n\n".join(["\n".join(lines), *below])


def _trainings(result: dict[str, Any]) -> str:
    runs = result["runs"]
    minutes = sum(run["seconds"] for run in runs) / 60
    return (
        f"{sum(run['trainings'] for run in runs)} trainings in {minutes:.0f} minutes on "
        f"{_machine(result)}; {_source(result)}"
    )


def _machine(result: dict[str, Any]) -> str:
    machine = result["machine"]
    return f"{machine['cores']} cores ({machine['processor']})"


def _origin(result: dict[str, Any]) -> str:
    return f"{result['machine']['processor']}; {_source(result)}"


def _source(result: dict[str, Any]) -> str:
    return f"commit {result['commit']}; `{result['command']}`."


def _grouped(rows: list[dict[str, Any]], key: str) -> dict[Any, list[dict[str, Any]]]:
    groups: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return groups


def _mean(rows: list[dict[str, Any]], key: str) -> float:
    """Mean of what is known; NaN where nothing is."""
    known = [row[key] for row in rows if row[key] is not None]
    return sum(known) / len(known) if known else float("nan")


def _mean_of(rows: list[dict[str, Any]], key: str) -> str:
    mean = _mean(rows, key)
    return "" if math.isnan(mean) else f"{mean:.2f}"


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.1f}"


def _rank(rho: float | None) -> float:
    """Undefined correlations come last."""
    return -2.0 if rho is None else rho


def _figure(value: float | None, form: str = ".2f", *, unknown: str = "") -> str:
    return unknown if value is None else f"{value:{form}}"


def _with_interval(value: float | None, interval: list[float] | None) -> str:
    between = "" if interval is None else f" [{interval[0]:.2f}, {interval[1]:.2f}]"
    return _figure(value, unknown="undefined") + between


def _amount(section: dict[str, Any]) -> str:
    return f"{section['amount']:g} {section['unit']}"


def _interval(interval: dict[str, float] | None, *, sign: str = "", times: float = 100) -> str:
    """Mean and interval in points of mAP; ``times`` is 1 where they are points already."""
    if interval is None:
        return ""
    mean, low, high = (times * interval[key] for key in ("mean", "low", "high"))
    return f"{mean:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


def _saved(efficiency: dict[str, Any] | None) -> str:
    shares = [] if efficiency is None else efficiency["share_saved"]
    return ", ".join(_figure(share, ".0%", unknown="never") for share in shares)


FILES = {"bad_inputs": "faults"}
"""Result files that are not named like their block."""

TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "scoring": scoring_table,
    "scoring_cpu": scoring_cpu_table,
    "scoring_cpu_plain": scoring_cpu_table,
    "measures_cost": cost_table,
    "selection": selection_table,
    "approximations": approximations_table,
    "scale": scale_table,
    "store": store_table,
    "match_table": match_table,
    "tables_cost": tables_cost_table,
    "report": report_table,
    "ray": ray_table,
    "al_quality_sandbox": quality_table,
    "al_quality_measures": quality_table,
    "al_quality_aquarium": quality_table,
    "al_quality_bccd": quality_table,
    "fidelity_sandbox": fidelity_table,
    "fidelity_early": fidelity_table,
    "fidelity_bccd": fidelity_table,
    "agent": agent_table,
    "trustset_sandbox": trust_table,
    "trustset_aquarium": trust_table,
    "trustset_bccd": trust_table,
    "bad_inputs": bad_inputs_table,
    "faults": faults_table,
}


if __name__ == "__main__":
    main()
