"""The report of a study: one HTML file with its curves and tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import ValidationError

from detal.config import SimulateConfig
from detal.errors import DataError, StoreError
from detal.files import read_json, read_own
from detal.loop.summary import read_points, summarise
from detal.report.html_page import plural, write_page
from detal.report.run_page import Fact
from detal.report.study_page import Cell, CurveBand, Row, StudyView, Table, study_page
from detal.runs.building import build_dataset

__all__ = ["is_study", "write_study_report"]

_METRICS = (
    ("mean_ap", "mAP@[.5:.95]"),
    ("ap50", "mAP50"),
    ("rare_third_ap", "AP of the rarest third"),
)
_AXES = (("boxes", "labelled boxes"), ("images", "labelled images"))
_BASELINE = "random"


def is_study(folder: Path) -> bool:
    """Whether `detal simulate` wrote it."""
    return (folder / "arms").is_dir()


def write_study_report(study: Path, output: Path | None = None) -> Path:
    """Write ``report.html``: learning curves, areas, win matrix, AP per class.

    Args:
        study: Folder of `detal simulate`, finished or not.
        output: The file; ``report.html`` in the folder by default.

    Returns:
        The file.

    Raises:
        DataError: If no round is finished.
    """
    points = read_points(study)
    path = output or study / "report.html"
    write_page(path, study_page(_view(study, points)))
    return path


def _view(study: Path, points: pl.DataFrame) -> StudyView:
    summary = summarise(points)
    config = _config(study)
    strategies = summary["strategies"]
    order = sorted(strategies, key=lambda name: -_area(strategies[name])["mean"])
    rounds = points["round"].max()
    return StudyView(
        title=f"{plural(len(order), 'strategy')} compared",
        subtitle=_subtitle(config, summary["seeds"], rounds),
        facts=_facts(strategies, order, summary["seeds"], points),
        curves={
            (metric, axis): [_band(points, name, metric, axis) for name in order]
            for metric, _ in _METRICS
            if not points[metric].is_nan().any()
            for axis, _ in _AXES
        },
        metrics=[(key, name) for key, name in _METRICS if not points[key].is_nan().any()],
        axes=_AXES,
        baseline=_BASELINE,
        areas=_areas(strategies, order),
        wins=_wins(summary["win_matrix"], order),
        classes=_classes(study, order, config),
        details=_details(study, config),
        notices=_notices(points),
    )


def _config(study: Path) -> SimulateConfig | None:
    """The study's config; None where another version of detal wrote it."""
    try:
        return SimulateConfig.model_validate(read_json(study / "study.json"))
    except (OSError, ValueError, ValidationError):
        return None


def _subtitle(config: SimulateConfig | None, seeds: Sequence[int], rounds: Any) -> str:
    where = "" if config is None else f" on {Path(config.pool.path).parent.name}"
    return f"{plural(len(seeds), 'seed')} and {plural(rounds, 'round')} each{where}"


def _area(figures: dict[str, Any]) -> dict[str, float]:
    area: dict[str, float] = figures["area"]["boxes"]["mean_ap"]
    return area


def _facts(
    strategies: dict[str, Any], order: Sequence[str], seeds: Sequence[int], points: pl.DataFrame
) -> list[Fact]:
    best = _area(strategies[order[0]])
    facts = [
        Fact("best area over boxes", order[0], f"{_points(best['mean'])} points of mAP"),
        Fact("strategies", f"{len(order)}"),
        Fact("seeds", f"{len(seeds)}"),
        Fact("measurements", f"{len(points):,}"),
    ]
    if _BASELINE in strategies and order[0] != _BASELINE:
        more = best["mean"] - _area(strategies[_BASELINE])["mean"]
        facts.insert(1, Fact("more than random", f"{100 * more:+.1f}", "points, area over boxes"))
    return facts


def _band(points: pl.DataFrame, name: str, metric: str, axis: str) -> CurveBand:
    rounds = (
        points.filter(pl.col("strategy") == name)
        .group_by("round")
        .agg(
            pl.col(axis).mean().cast(pl.Float64),
            pl.col(metric).mean().alias("mean"),
            pl.col(metric).min().alias("low"),
            pl.col(metric).max().alias("high"),
        )
        .sort("round")
    )
    spent, *values = (rounds[c].to_numpy() for c in (axis, "mean", "low", "high"))
    return CurveBand(name, spent, *values)


def _areas(strategies: dict[str, Any], order: Sequence[str]) -> Table:
    rows = []
    for name in order:
        figures = strategies[name]
        saved = figures["boxes_to_reach_random"]
        shares = [] if saved is None else saved["share_saved"]
        cells = [
            _interval(_area(figures)),
            _interval(figures["area"]["images"]["mean_ap"]),
            _interval(figures["area"]["boxes"].get("rare_third_ap")),
            Cell(", ".join("never" if s is None else f"{s:.0%}" for s in shares)),
        ]
        rows.append(Row(name, cells))
    return Table(
        columns=("strategy", "mAP over boxes", "over images", "rarest third", "boxes saved"),
        rows=rows,
        note=(
            "Means of the metric over the range that all arms cover, in points of mAP, with 95 % "
            "bootstrap intervals over seeds. Boxes saved: share of random's boxes not needed to "
            "reach its final mAP, by seed."
        ),
    )


def _interval(interval: dict[str, float] | None) -> Cell:
    if interval is None:
        return Cell("not measured")
    mean, low, high = (_points(interval[key]) for key in ("mean", "low", "high"))
    return Cell(f"{mean} [{low}, {high}]")


def _points(value: float) -> str:
    return f"{100 * value:.1f}"


def _wins(matrix: dict[str, Any], order: Sequence[str]) -> Table:
    rows = []
    for row in order:
        cells = []
        for column in order:
            interval = matrix[row].get(column)
            if interval is None:
                cells.append(Cell("–"))  # noqa: RUF001
                continue
            tone = "better" if interval["low"] > 0 else "worse" if interval["high"] < 0 else ""
            cells.append(Cell(f"{100 * interval['mean']:+.1f}", tone))
        rows.append(Row(row, cells))
    return Table(
        columns=("row minus column", *order),
        rows=rows,
        note=(
            "Difference of the areas of mAP over boxes, in points, paired by seed; coloured and "
            "bold where the 95 % interval leaves out zero."
        ),
    )


def _classes(study: Path, order: Sequence[str], config: SimulateConfig | None) -> Table | None:
    """AP of each class after the last round, means over seeds; None if no arm tells."""
    finals = {name: _final_class_ap(study, name) for name in order}
    finals = {name: values for name, values in finals.items() if values is not None}
    if not finals:
        return None
    number = len(next(iter(finals.values())))
    names = _class_names(config, number)
    best = np.max([np.nan_to_num(values, nan=-1.0) for values in finals.values()], axis=0)
    rows = []
    for label, name in enumerate(names):
        cells = []
        for values in finals.values():
            value = float(values[label])
            tone = "better" if value == best[label] else ""
            cells.append(Cell("–" if np.isnan(value) else _points(value), tone))  # noqa: RUF001
        rows.append(Row(name, cells))
    return Table(
        columns=("class", *finals),
        rows=rows,
        note="AP in points, mean over seeds; the best of each class is bold.",
    )


def _final_class_ap(study: Path, strategy: str) -> Any:
    values = []
    for arm in sorted((study / "arms" / strategy).glob("seed-*")):
        done = [folder for folder in arm.glob("round-*") if (folder / "result.json").exists()]
        if done:
            last = max(done, key=lambda folder: int(folder.name.removeprefix("round-")))
            result = read_own(last / "result.json")
            if isinstance(result, dict) and "class_ap" in result:
                values.append([np.nan if v is None else v for v in result["class_ap"]])
    if not values:
        return None
    try:
        table = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise StoreError(f"class_ap must be one number per class in all of {study}") from None
    known = ~np.isnan(table)
    sums = np.where(known, table, 0.0).sum(axis=0)
    return np.where(known.any(axis=0), sums / np.maximum(known.sum(axis=0), 1), np.nan)


def _class_names(config: SimulateConfig | None, number: int) -> list[str]:
    try:
        names = () if config is None else build_dataset(config.pool).class_names
    except DataError:
        names = ()
    return list(names) if len(names) == number else [f"class {label}" for label in range(number)]


def _details(study: Path, config: SimulateConfig | None) -> list[tuple[str, str]]:
    rows = [("study", str(study.absolute()))]
    if config is not None:
        training, budget, initial = config.training, config.budget, config.initial
        rows += [
            ("pool", config.pool.path),
            ("test set", config.test.path),
            ("initial set", f"{initial.amount:g} {initial.unit}"),
            ("each round", f"{budget.amount:g} {budget.unit}"),
            ("detector", Path(training.init).name),
            ("training", f"{training.steps} steps at {training.image_size} px in every arm"),
        ]
    return rows


def _notices(points: pl.DataFrame) -> list[str]:
    ends = points.group_by("strategy", "seed").agg(pl.col("round").max())
    short = ends.filter(pl.col("round") < ends["round"].max())
    if short.is_empty():
        return []
    return [
        f"{len(short)} of {len(ends)} arms have fewer rounds than the others: the study was "
        "stopped, or nothing was left to label. Areas count the range that all arms cover."
    ]
