"""The report of a run: one HTML file with everything in it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detal.report import ClassBalance
from detal.report.html_page import plural, write_page
from detal.report.run_page import Fact, GainCurve, MapPoints, RunView, Spread, run_page
from detal.report.thumbnails import thumbnail_side, thumbnails
from detal.reward import FittedCurves
from detal.runs.gallery import gallery_data
from detal.runs.kept import FOLDER, Kept
from detal.runs.run_folder import RunFolder, join_batches, read_run
from detal.runs.scoring import StartProgress
from detal.runs.table_view import curve_panel

__all__ = ["run_view", "write_run_report"]

_GAIN_STRATEGIES = frozenset({"curve_greedy", "change_greedy", "variant_greedy", "mgral"})
"""Strategies whose scores are the mAP (0..1) that each image is expected to add."""

_MOST_PANELS = 24
_SPREADS = {
    "expected_boxes": ("Expected boxes per image", "expected boxes"),
    "best_score": ("Surest box of each image", "score"),
    "box_score": ("Scores of all boxes", "score"),
}


def write_run_report(
    folder: Path, output: Path | None = None, *, progress: StartProgress | None = None
) -> Path:
    """Write ``report.html`` with the images, why each was chosen, and what the batch changes.

    Args:
        folder: Of a run of `detal select`.
        output: The file; ``report.html`` in the folder by default.
        progress: Given a title, returns what is called with (done, total) images.

    Returns:
        The file.

    Raises:
        DataError: If the folder is no run.
    """
    run = read_run(folder)
    start = progress or (lambda title: lambda done, total: None)
    paths = [image.path for image in run.batch.images]
    made = thumbnails(
        paths, longest=thumbnail_side(len(paths)), progress=start("making thumbnails")
    )
    thumbs = ["" if one is None else base64.b64encode(one).decode() for one in made]
    view = replace(run_view(run), thumbs=thumbs)
    gone = thumbs.count("")
    if gone:
        first = paths[thumbs.index("")]
        notice = f"{plural(gone, 'image')} cannot be read any more, for example {first}"
        view = replace(view, notices=[*view.notices, notice])
    path = output or folder / "report.html"
    write_page(path, run_page(view))
    return path


def run_view(run: RunFolder, *, with_reserve: bool = False) -> RunView:
    """What the page of a run shows, but for the thumbnails.

    Args:
        run: The run.
        with_reserve: Whether the gallery holds the reserve, too, as a review needs it.
    """
    batch, kept = run.batch, run.kept
    shown = join_batches(batch, run.reserve) if with_reserve else batch
    points = [] if kept is None else kept.selected[: len(shown)]
    table = _table(run.path)
    added = None if kept is None else kept.expected_counts(np.arange(len(batch)))
    return RunView(
        title=f"{plural(len(batch), 'image')} to label next",
        subtitle=_subtitle(run),
        facts=_facts(run),
        gallery=gallery_data(
            shown,
            count=len(batch),
            min_score=float(run.run["config"]["manifest"]["min_score"]),
            points=points,
        ),
        thumbs=[],
        details=_details(run),
        notices=_notices(run),
        balance=None
        if kept is None or added is None
        else ClassBalance(batch.class_names, np.array(kept.class_counts, dtype=np.int64), added),
        spreads=[] if kept is None else _spreads(kept),
        map=None if kept is None or not points else _map_points(kept, len(batch)),
        gain=_gain(run, measured=table is not None),
        panels=[] if table is None else _panels(table, batch.class_names, added),
        after={} if table is None or added is None else _after(table, batch.class_names, added),
    )


def _subtitle(run: RunFolder) -> str:
    counts, config = run.run["counts"], run.run["config"]
    return (
        f"Chosen by {config['strategy']['name']} from {plural(counts['candidates'], 'candidate')} "
        f"in {Path(config['pool']['path']).name}, with {counts['labeled']:,} labelled before"
    )


def _facts(run: RunFolder) -> list[Fact]:
    selection = run.batch.selection
    budget = selection.budget
    facts = [
        Fact("images", f"{len(selection):,}", f"of {run.run['counts']['candidates']:,} candidates"),
        Fact("expected boxes", f"{run.batch.expected_boxes.sum():,.0f}", _per_image(run)),
        Fact("budget spent", f"{selection.spent:,.1f}", f"of {budget.amount:,g} {budget.unit}"),
    ]
    gain = _gain(run, measured=True)
    if gain is not None and len(gain.gain):
        facts.append(Fact("expected gain", f"+{gain.gain[-1]:.2g}", "points of mAP"))
    seen = len(np.unique(run.batch.detections.labels.numpy()))
    facts.append(
        Fact("classes seen", f"{seen:,}", f"of {plural(len(run.batch.class_names), 'class')}")
    )
    passed = [
        f"{number:,} {name.replace('_', ' ')}"
        for name, number in selection.passed_over.items()
        if number
    ]
    if passed:
        total = sum(selection.passed_over.values())
        facts.append(Fact("passed over", f"{total:,}", ", ".join(passed)))
    return facts


def _per_image(run: RunFolder) -> str:
    number = len(run.batch)
    return f"{run.batch.expected_boxes.sum() / number:.1f} per image" if number else ""


def _details(run: RunFolder) -> list[tuple[str, str]]:
    record, config = run.run, run.run["config"]
    options = {k: v for k, v in record["strategy"].items() if k != "name" and v is not None}
    rows = [
        ("strategy", config["strategy"]["name"]),
        ("options", ", ".join(f"{name}: {value}" for name, value in options.items())),
        ("pool", config["pool"]["path"]),
        ("labelled", (config["labeled"] or {}).get("path", "none")),
        ("detector", str(config["detector"]["weights"])),
        ("weights hash", record["detector"]["fingerprint"]),
        ("guards", ", ".join(f"{k}: {v}" for k, v in config["dedup"].items() if v is not None)),
        ("boxes shown", f"scores of {config['manifest']['min_score']:g} and more"),
        ("seed", str(config["seed"])),
        ("run", str(run.path)),
        ("versions", ", ".join(f"{k} {v}" for k, v in record["versions"].items())),
    ]
    return [(name, value) for name, value in rows if value]


def _notices(run: RunFolder) -> list[str]:
    if run.kept is None:
        return [
            "This run was written by an older detal, which kept no class balance, map, histograms "
            "or reserve: the same detal select once more adds them, without scoring again."
        ]
    told = [str(remark) for remark in run.run.get("remarks", [])]
    if not run.kept.selected and len(run.batch):
        told.append("No map: the detector gives no image features.")
    return told


def _spreads(kept: Kept) -> list[Spread]:
    return [
        Spread(
            title=title,
            x_label=x_label,
            edges=np.array(kept.histograms[name].edges, dtype=np.float64),
            pool=np.array(kept.histograms[name].pool, dtype=np.float64),
            batch=np.array(kept.histograms[name].batch, dtype=np.float64),
        )
        for name, (title, x_label) in _SPREADS.items()
        if name in kept.histograms
    ]


def _map_points(kept: Kept, count: int) -> MapPoints:
    pool, labeled, selected = (
        np.array(points, dtype=np.float64).reshape(-1, 2)
        for points in (kept.pool, kept.labeled, kept.selected[:count])
    )
    return MapPoints(pool=pool, labeled=labeled, selected=selected, explained=sum(kept.explained))


def _gain(run: RunFolder, *, measured: bool) -> GainCurve | None:
    selection = run.batch.selection
    if run.run["config"]["strategy"]["name"] not in _GAIN_STRATEGIES:
        return None
    return GainCurve(
        spent=np.cumsum(selection.costs),
        gain=100 * np.cumsum(np.nan_to_num(selection.scores)),
        unit=selection.budget.unit,
        measured=measured,
    )


def _table(folder: Path) -> FittedCurves | None:
    path = folder / FOLDER
    return FittedCurves.load(path) if (path / "curves.json").exists() else None


def _panels(
    table: FittedCurves, class_names: Sequence[str], added: NDArray[np.float64] | None
) -> list[Any]:
    """The classes that the batch brings most objects of, or else those with most labels."""
    weight = np.array(table.labeled_counts)
    if added is not None:
        by_name = dict(zip(class_names, added.tolist(), strict=True))
        weight = np.array([by_name.get(name, 0.0) for name in table.class_names])
    order = np.argsort(-weight, kind="stable")[:_MOST_PANELS].tolist()
    after = {} if added is None else _after(table, class_names, added)
    return [curve_panel(table, label, upto=1.1 * after.get(label, 0.0)) for label in order]


def _after(
    table: FittedCurves, class_names: Sequence[str], added: NDArray[np.float64]
) -> dict[int, float]:
    label_of = {name: label for label, name in enumerate(table.class_names)}
    return {
        label_of[name]: table.labeled_counts[label_of[name]] + float(number)
        for name, number in zip(class_names, added, strict=True)
        if name in label_of
    }
