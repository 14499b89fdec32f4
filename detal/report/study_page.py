"""The page of a study: learning curves, areas, who wins, and AP per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detal.report.html_page import render
from detal.report.run_page import Fact
from detal.report.svg import Series, line_chart

__all__ = ["Cell", "CurveBand", "Row", "StudyView", "Table", "study_page"]

Floats = NDArray[np.float64]

_COLORS = 10
_MOST_BANDS = 8


@dataclass(frozen=True)
class Cell:
    """One figure of a table; ``tone`` is ``better``, ``worse`` or empty."""

    text: str
    tone: str = ""


@dataclass(frozen=True)
class Row:
    """A row of a table."""

    name: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows."""

    columns: Sequence[str]
    rows: Sequence[Row]
    note: str


@dataclass(frozen=True, eq=False)
class CurveBand:
    """The learning curve of one strategy.

    Attributes:
        strategy: Its name.
        spent: (R,) mean of what was labelled after each round.
        mean: (R,) mean of the metric over seeds.
        low: (R,) lowest of the seeds.
        high: (R,) highest of the seeds.
    """

    strategy: str
    spent: Floats
    mean: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, eq=False)
class StudyView:
    """What the page shows.

    Attributes:
        title: Of the page.
        subtitle: Below the title.
        facts: Figures at the top.
        curves: By metric and axis, the curves of all strategies, always in the same order.
        metrics: Key and name of each metric of ``curves``.
        axes: Key and name of each axis of ``curves``.
        baseline: Strategy drawn with a thicker line.
        areas: Areas under the curves.
        wins: Differences of areas between strategies.
        classes: AP per class and strategy, or None.
        details: Name and value of each setting worth telling.
        notices: What the reader must know.
    """

    title: str
    subtitle: str
    facts: Sequence[Fact]
    curves: dict[tuple[str, str], Sequence[CurveBand]]
    metrics: Sequence[tuple[str, str]]
    axes: Sequence[tuple[str, str]]
    baseline: str
    areas: Table
    wins: Table
    classes: Table | None
    details: Sequence[tuple[str, str]]
    notices: Sequence[str] = ()


def study_page(view: StudyView) -> str:
    """The page as HTML."""
    names = [curve.strategy for curve in next(iter(view.curves.values()))]
    context = {
        "title": view.title,
        "subtitle": view.subtitle,
        "body_class": "study",
        "footer": "Written by detal.",
        "facts": view.facts,
        "notices": view.notices,
        "metrics": view.metrics,
        "axes": view.axes,
        "charts": [_chart(view, key, curves) for key, curves in view.curves.items()],
        "curves_note": _curves_note(len(names)),
        "series": [{"name": name, "class_": _class(n, name, view)} for n, name in enumerate(names)],
        "areas": view.areas,
        "areas_note": view.areas.note,
        "wins": view.wins,
        "wins_note": view.wins.note,
        "classes": view.classes,
        "classes_note": "" if view.classes is None else view.classes.note,
        "details": view.details,
    }
    return render("study.html", scripts=["study.js"], context=context)


def _curves_note(strategies: int) -> str:
    bands = "; bands reach from the lowest to the highest seed" if strategies <= _MOST_BANDS else ""
    return f"Means over seeds{bands}."


def _class(number: int, name: str, view: StudyView) -> str:
    dash = f" dash{number // _COLORS % 3}" if number >= _COLORS else ""
    return f"line s{number % _COLORS}{dash}{' baseline' if name == view.baseline else ''}"


def _chart(view: StudyView, key: tuple[str, str], curves: Sequence[CurveBand]) -> dict[str, Any]:
    metric, axis = key
    bands = len(curves) <= _MOST_BANDS
    series = [
        Series(
            curve.strategy,
            curve.spent,
            curve.mean,
            class_=_class(number, curve.strategy, view),
            low=curve.low if bands else None,
            high=curve.high if bands else None,
            dots=True,
        )
        for number, curve in enumerate(curves)
    ]
    name, over = dict(view.metrics)[metric], dict(view.axes)[axis]
    best = max(curves, key=lambda curve: float(curve.mean[-1]))
    label = (
        f"{name} over {over} of {len(curves)} strategies; highest at the end: {best.strategy} "
        f"with {best.mean[-1]:.3f}"
    )
    svg = line_chart(series, x_label=over, label=label, width=620, height=310)
    return {"metric": metric, "axis": axis, "svg": svg}
