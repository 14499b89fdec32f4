"""From a study's folder to its figures: JSON, Markdown and CSV tables, curves as PNG and SVG."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib import colormaps
from matplotlib.figure import Figure

from detal.errors import DataError, StoreError
from detal.files import read_own, write_atomic, write_json
from detal.loop.curves import (
    Curve,
    StopRule,
    bootstrap_mean,
    common_areas,
    expected_gain,
    labels_to_reach,
    stopping_point,
    win_matrix,
)
from detal.seeding import generator

__all__ = ["read_points", "summarise", "summary_markdown", "write_summary"]

POINT_FIELDS = ("images", "boxes", "seconds", "steps", "mean_ap", "ap50", "rare_third_ap")
_BASELINE = "random"
_AXES = ("boxes", "images")
_MOST_BANDS = 8
_LINES = ("-", "--", ":")


def read_points(study: Path) -> pl.DataFrame:
    """Every finished measurement of a study: strategy, seed, round and what was measured.

    Arms whose first round is not finished are left out; round 0 is repeated for each strategy.

    Raises:
        DataError: If there is none.
    """
    rows: list[dict[str, Any]] = []
    for arm in sorted((study / "arms").glob("*/seed-*")):
        strategy, seed = arm.parent.name, int(arm.name.removeprefix("seed-"))
        folders = [study / "initial" / arm.name, *_rounds(arm)]
        done = [folder for folder in folders if (folder / "result.json").exists()]
        if len(done) > 1:
            rows += [
                {"strategy": strategy, "seed": seed, "round": r, **_scalars(one / "result.json")}
                for r, one in enumerate(done)
            ]
    if not rows:
        raise DataError(f"no finished round in {study}: run `detal simulate` first")
    return pl.DataFrame(rows, infer_schema_length=None).sort("strategy", "seed", "round")


def _rounds(arm: Path) -> list[Path]:
    return sorted(arm.glob("round-*"), key=lambda path: int(path.name.removeprefix("round-")))


def _scalars(file: Path) -> dict[str, float]:
    """The numbers of one measurement.

    Raises:
        StoreError: If the file is damaged.
    """
    result = read_own(file)
    try:
        flat = {**result, **result.get("timings", {})}
        found = {
            name: float("nan") if value is None else float(value)
            for name, value in flat.items()
            if value is None or isinstance(value, int | float)
        }
        missing = [name for name in ("images", "boxes", "mean_ap") if name not in found]
    except (AttributeError, TypeError, OverflowError) as error:
        raise StoreError(f"{file} must be written by detal simulate: {error!r}") from None
    if missing:
        raise StoreError(f"{file} must be written by detal simulate, it has no {missing[0]}")
    return found


def summarise(points: pl.DataFrame, *, stop: StopRule | None = None) -> dict[str, Any]:
    """Areas, label efficiency, win matrix and stopping advice, as JSON values.

    Args:
        points: From `read_points`.
        stop: Tell where this rule would have ended each arm.

    Returns:
        ``seeds``, and per strategy ``points`` (one per seed and round), ``area`` per axis and
        metric with intervals, ``boxes_to_reach_random``, ``next_100_boxes``, and with a rule
        ``stopped`` (per seed the boxes at which it fired and the mAP that later rounds added, or
        None where it never did); ``win_matrix`` holds the differences of the mAP areas over boxes,
        row minus column. Intervals are 95 % bootstrap intervals over seeds. A metric that is not a
        number somewhere has no area.
    """
    curves = {
        (axis, metric): _curves(points, axis=axis, metric=metric)
        for axis in _AXES
        for metric in ("mean_ap", "ap50", "rare_third_ap")
        if not points[metric].is_nan().any()  # the test set lacks the classes it is about
    }
    areas = {key: common_areas(value) for key, value in curves.items()}
    main = ("boxes", "mean_ap")
    names = points["strategy"].unique().sort().to_list()
    return {
        "seeds": points["seed"].unique().sort().to_list(),
        "axis": "area: mean of the metric over the budget range that all arms cover",
        "strategies": {
            name: {
                "area": {
                    axis: {
                        metric: _interval(by_strategy[name].values(), axis, metric, name)
                        for (a, metric), by_strategy in areas.items()
                        if a == axis
                    }
                    for axis in _AXES
                },
                "boxes_to_reach_random": _efficiency(curves[main], name),
                "next_100_boxes": _advice(curves[main][name]),
                **({} if stop is None else {"stopped": _stopped(curves[main][name], stop)}),
                "near_duplicate_share": _mean(points, name, "batch_near_duplicates"),
                "class_entropy": _mean(points, name, "batch_class_entropy"),
                "selection_s": _mean(points, name, "selection_s"),
                "points": points.filter(pl.col("strategy") == name)
                .select("seed", "round", *POINT_FIELDS)
                .to_dicts(),
            }
            for name in names
        },
        "win_matrix": {
            row: {column: asdict(interval) for column, interval in columns.items()}
            for row, columns in win_matrix(areas[main], rng=generator(0, "wins")).items()
        },
    }


def _curves(points: pl.DataFrame, *, axis: str, metric: str) -> dict[str, dict[int, Curve]]:
    curves: dict[str, dict[int, Curve]] = {}
    for (name, seed), arm in points.group_by("strategy", "seed", maintain_order=True):
        curves.setdefault(str(name), {})[int(str(seed))] = Curve(
            strategy=str(name),
            seed=int(str(seed)),
            spent=arm[axis].cast(pl.Float64).to_numpy(),
            metric=arm[metric].to_numpy(),
        )
    return curves


def _interval(values: Iterable[float], *purpose: str) -> dict[str, float]:
    return asdict(bootstrap_mean(list(values), rng=generator(0, "area", *purpose)))


def _efficiency(curves: dict[str, dict[int, Curve]], name: str) -> dict[str, Any] | None:
    """Boxes needed to reach the final mAP of random of the same seed, and the share saved."""
    if _BASELINE not in curves:
        return None
    boxes, saved = [], []
    for seed, curve in curves[name].items():
        baseline = curves[_BASELINE].get(seed)
        if baseline is not None:
            needed = labels_to_reach(curve, float(baseline.metric[-1]))
            boxes.append(needed if np.isfinite(needed) else None)
            saved.append(1 - needed / float(baseline.spent[-1]) if np.isfinite(needed) else None)
    return {"boxes": boxes, "share_saved": saved}


def _advice(curves: dict[int, Curve]) -> dict[str, float] | None:
    """Expected mAP gain of the next 100 boxes."""
    if sum(len(curve.spent) for curve in curves.values()) < 3:
        return None
    gain = expected_gain(list(curves.values()), more=100, rng=generator(0, "advice"))
    return asdict(gain)


def _stopped(curves: dict[int, Curve], rule: StopRule) -> list[dict[str, float] | None]:
    """Where the rule would have ended each arm, and what the rounds after that brought."""
    stops: list[dict[str, float] | None] = []
    for seed, curve in curves.items():
        at = stopping_point(curve, rule, rng=generator(0, "stop", seed))
        last = float(curve.metric[-1])
        stops.append(
            None
            if at is None
            else {"boxes": float(curve.spent[at]), "mean_ap_later": last - float(curve.metric[at])}
        )
    return stops


def _mean(points: pl.DataFrame, name: str, column: str) -> float | None:
    if column not in points.columns:
        return None
    rows = points.filter((pl.col("strategy") == name) & (pl.col("round") > 0))
    value = rows[column].mean()
    return None if value is None else float(str(value))


def summary_markdown(summary: dict[str, Any]) -> str:
    """The figures as a Markdown table, best area over boxes first."""
    lines = [
        "| strategy | mAP, area over boxes | over images | rare third, area over boxes | "
        "boxes saved | near-duplicates |",
        "|---|---|---|---|---|---|",
    ]
    strategies = summary["strategies"]
    order = sorted(strategies, key=lambda s: -strategies[s]["area"]["boxes"]["mean_ap"]["mean"])
    for name in order:
        figures = strategies[name]
        cells = [
            _cell(figures["area"]["boxes"]["mean_ap"]),
            _cell(figures["area"]["images"]["mean_ap"]),
            _cell(figures["area"]["boxes"].get("rare_third_ap")),
            _saved(figures["boxes_to_reach_random"]),
            ""
            if figures["near_duplicate_share"] is None
            else f"{figures['near_duplicate_share']:.0%}",
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines.append("")
    lines += [f"- {line}" for line in _advice_lines(strategies)]
    seeds = len(summary["seeds"])
    lines.append("")
    lines.append(
        f"{seeds} seeds; brackets: 95 % bootstrap interval over seeds. Boxes saved: share of "
        "random's boxes not needed to reach its final mAP, per seed."
    )
    return "\n".join(lines) + "\n"


def _advice_lines(strategies: dict[str, Any]) -> list[str]:
    """What the next boxes would bring, and where a stopping rule would have ended the arms."""
    lines = []
    for name, figures in strategies.items():
        gain, stops = figures["next_100_boxes"], figures.get("stopped")
        text = ""
        if gain is not None:
            text = (
                f"{name}: the next 100 boxes would add {100 * gain['mean']:.2f} "
                f"[{100 * gain['low']:.2f}, {100 * gain['high']:.2f}] points of mAP"
            )
        if stops is not None:
            at = ["never" if s is None else f"{s['boxes']:.0f} boxes" for s in stops]
            text += f"; the rule would have stopped at {', '.join(at)}"
        lines += [text] if text else []
    return lines


def _cell(interval: dict[str, float] | None) -> str:
    if interval is None:
        return "not measured"
    return f"{interval['mean']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


def _saved(efficiency: dict[str, Any] | None) -> str:
    if efficiency is None:
        return ""
    return ", ".join("never" if s is None else f"{s:.0%}" for s in efficiency["share_saved"])


def write_summary(
    study: Path, output: Path | None = None, *, stop: StopRule | None = None
) -> dict[str, Any]:
    """Write ``summary.json``, ``summary.md``, ``points.csv``, ``curves.png`` and ``curves.svg``.

    Args:
        study: Folder of the study.
        output: Where the files go; the study's folder by default.
        stop: See `summarise`.

    Raises:
        DataError: If no round is finished.
    """
    output = output or study
    points = read_points(study)
    output.mkdir(parents=True, exist_ok=True)
    summary = summarise(points, stop=stop)
    write_json(output / "summary.json", summary, allow_nan=True)
    write_atomic(output / "summary.md", summary_markdown(summary).encode())
    points.write_csv(output / "points.csv")
    figure = _plot(points)
    for suffix in ("png", "svg"):
        figure.savefig(output / f"curves.{suffix}", dpi=150)
    return summary


def _plot(points: pl.DataFrame) -> Figure:
    """MAP and rare-third AP over boxes and images: mean over seeds, band of the seeds' range.

    Beyond eight strategies bands would hide each other and are left out.
    """
    figure = Figure(figsize=(13, 8), layout="constrained")
    metrics = {"mean_ap": "mAP@[.5:.95]", "rare_third_ap": "AP of the rarest third"}
    names = points["strategy"].unique().sort().to_list()
    palette = colormaps["tab10" if len(names) <= 10 else "tab20"]
    for position, (axis, metric) in enumerate((a, m) for m in metrics for a in _AXES):
        axes = figure.add_subplot(2, 2, position + 1)
        for number, name in enumerate(names):
            rounds = (
                points.filter(pl.col("strategy") == name)
                .group_by("round")
                .agg(
                    pl.col(axis).mean(),
                    pl.col(metric).mean().alias("mean"),
                    pl.col(metric).min().alias("low"),
                    pl.col(metric).max().alias("high"),
                )
                .sort("round")
            )
            style: dict[str, Any] = {
                "color": palette(number % palette.N),
                "linestyle": _LINES[number // palette.N % len(_LINES)],
                "linewidth": 2.5 if name == _BASELINE else 1.2,
            }
            axes.plot(rounds[axis], rounds["mean"], marker="o", ms=3, label=name, **style)
            if len(names) <= _MOST_BANDS:
                low, high = rounds["low"], rounds["high"]
                axes.fill_between(rounds[axis], low, high, color=style["color"], alpha=0.12, lw=0)
        axes.set_xlabel(f"labelled {axis}")
        axes.set_ylabel(metrics[metric])
        axes.grid(alpha=0.3)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8)
    return figure
