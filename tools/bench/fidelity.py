"""Compare what tables predict for batches with what labelling them truly brings.

    python tools/bench/fidelity.py sandbox output=runs/fidelity_sandbox workers=2
    python tools/bench/fidelity.py sandbox output=runs/fidelity_sandbox workers=2 --repeats 3

Batches of very different character, all of the budget's true boxes, are each labelled beside the
initial set and trained on ``--repeats`` times. The same command goes on with a run that was
stopped; more repeats extend a finished one, and new tables need no training, but for those that
rest on variants of the initial detector, which are trained once (``--no-variants``: not at all).
Overrides are those of `detal simulate`. Writes ``data/results/fidelity_NAME.json`` and a picture of
it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from detal.config import SimulateConfig, load_config  # noqa: E402
from detal.loop.compared_tables import SEE_THE_TRUTH, predictions  # noqa: E402
from detal.loop.fidelity import compare_tables  # noqa: E402
from detal.loop.retraining import (  # noqa: E402
    INITIAL,
    Retrainings,
    build_start_tables,
    open_start,
)
from detal.loop.study import Study, open_study  # noqa: E402
from detal.loop.varied_batches import batch_names  # noqa: E402
from detal.runs.provenance import rounded  # noqa: E402
from detal.seeding import generator  # noqa: E402

STUDIES = {"sandbox": "sandbox_fidelity", "aquarium": "aquarium", "bccd": "bccd"}
RESULTS = ROOT / "data" / "results"
COLUMNS = 4


def main() -> None:
    """Train what is missing, then write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("overrides", nargs="*", help="key=value, as for `detal simulate`")
    parser.add_argument("--config", type=Path, help="another config than the study's own")
    parser.add_argument("--seed", type=int, default=0, help="of initial set and batches")
    parser.add_argument("--repeats", type=int, default=2, help="trainings of each batch, >= 2")
    parser.add_argument("--only", nargs="+", metavar="BATCH", help="these batches alone")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the files go")
    parser.add_argument("--no-variants", action="store_true", help="train no variants for tables")
    parser.add_argument("--figure", action="store_true", help="only draw the picture anew")
    args = parser.parse_intermixed_args()
    target = args.results / f"fidelity_{args.study}.json"
    if not args.figure:
        result = _measure(args)
        args.results.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")
    figure_of(json.loads(target.read_text("utf-8"))).savefig(target.with_suffix(".png"), dpi=110)
    print(target)


def _measure(args: argparse.Namespace) -> dict[str, Any]:
    path = args.config or ROOT / "configs" / "bench" / f"{STUDIES[args.study]}.yaml"
    config = load_config(SimulateConfig, path, args.overrides)
    study = open_study(config)
    work = Retrainings(
        config=config,
        seed=args.seed,
        repeats=args.repeats,
        names=tuple(args.only or batch_names(len(study.pool.class_names))),
    )
    work.run(_report)
    if not args.no_variants and study.reference is not None:
        build_start_tables(study, work, progress=_report_variants)
    return result_of(study, work)


def _report(done: int, total: int) -> None:
    print(f"{done} of {total} trainings", file=sys.stderr, flush=True)


def _report_variants(title: str) -> Callable[[int, int], None]:
    return lambda done, total: print(f"{title}: {done} of {total}", file=sys.stderr, flush=True)


def result_of(study: Study, work: Retrainings) -> dict[str, Any]:
    """The committed figures of a finished run."""
    start = open_start(study, work.seed, store=work.folder / "store")
    row = {image_id: i for i, image_id in enumerate(start.candidates.image_ids)}
    ids = work.batches()
    batches = [np.array([row[i] for i in ids[name]], dtype=np.int64) for name in work.names]
    predicted = predictions(start, batches, rng=generator(work.seed, "tables"))
    true, class_true = work.gains("mean_ap"), work.gains("class_ap")
    compared = compare_tables(
        predicted,
        true=true,
        class_true=class_true,
        class_names=study.pool.class_names,
        rng=generator(work.seed, "intervals"),
    )
    tables = {
        name: {"sees_truth": name in SEE_THE_TRUTH, **figures}
        for name, figures in compared["tables"].items()
    }
    results, config = work.results(), work.config
    runs = json.loads((work.folder / "runs.json").read_text(encoding="utf-8"))
    found = {
        "best": best_table(tables),
        "ceiling": compared["ceiling"],
        "tables": tables,
        "seed": work.seed,
        "training_seeds": work.seeds,
        "budget": config.budget.model_dump(include={"amount", "unit"}),
        "training": config.training.model_dump(exclude={"backbone"}),
        "class_names": list(study.pool.class_names),
        "initial": {
            **_figures(results[INITIAL][0]),
            "mAP": [result["mean_ap"] for result in results[INITIAL]],
        },
        "batches": [
            {
                "name": name,
                **_figures(results[name][0]),
                "boxes": int(start.true_boxes[batches[k]].sum()),
                "near_duplicates": results[name][0]["batch_near_duplicates"],
                "gains": {table: float(predicted[table].gain[k]) for table in predicted},
                "delta_mAP": true[k].tolist(),
                "delta_class_AP": class_true[k].tolist(),
            }
            for k, name in enumerate(work.names)
        ],
        "command": " ".join(["python", "tools/bench/fidelity.py", *sys.argv[1:]]),
        "runs": runs,
        "commit": runs[-1]["commit"],
        "machine": runs[-1]["machine"],
    }
    figures: dict[str, Any] = rounded(found)
    return figures


def best_table(tables: dict[str, Any]) -> str | None:
    """The table of greatest rho among those that are not told the truth."""
    fair = {n: f["rho"] for n, f in tables.items() if not f["sees_truth"] and f["rho"] is not None}
    return max(fair, key=fair.__getitem__, default=None)


def _figures(result: dict[str, Any]) -> dict[str, Any]:
    """What was labelled; the seed of the training makes no difference to it."""
    counts = result["batch_class_counts"]
    return {"images": result["batch_images"], "boxes": sum(counts), "class_counts": counts}


def figure_of(result: dict[str, Any]) -> Figure:
    """Predicted gain against the true one, one field per table; bars: range of the repeats."""
    tables = result["tables"]
    rows = -(-len(tables) // COLUMNS)
    figure = Figure(figsize=(4 * COLUMNS, 3.4 * rows + 0.6), layout="constrained")
    for position, name in enumerate(tables, start=1):
        _scatter(figure.add_subplot(rows, COLUMNS, position), name, result)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=8, fontsize=8)
    return figure


def _scatter(axes: Axes, name: str, result: dict[str, Any]) -> None:
    kinds = list(dict.fromkeys(batch["name"].split("-")[0] for batch in result["batches"]))
    for number, kind in enumerate(kinds):
        batches = [b for b in result["batches"] if b["name"].split("-")[0] == kind]
        gains = 100 * np.array([batch["delta_mAP"] for batch in batches])  # (k, r)
        mean = gains.mean(axis=1)
        axes.errorbar(
            [batch["gains"][name] for batch in batches],
            mean,
            yerr=[mean - gains.min(axis=1), gains.max(axis=1) - mean],
            fmt="osD^v"[number // 10 % 5],
            color=f"C{number % 10}",
            label=kind,
            markersize=5,
            elinewidth=0.8,
        )
    figures = result["tables"][name]
    rho, share = figures["rho"], figures["share_of_ceiling"]
    told = ", told the truth" if figures["sees_truth"] else ""
    values = "rho undefined" if rho is None else f"rho {rho:.2f}"
    values += "" if share is None else f", {share:.0%} of the ceiling"
    axes.set_title(f"{name}{told}\n{values}", fontsize=9)
    axes.set_xlabel("predicted gain", fontsize=8)
    axes.set_ylabel("true gain, points of mAP", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)


if __name__ == "__main__":
    main()
