"""The page of a run: overview, gallery, and in a review the decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from detal.report.category_curves import CurvePanel
from detal.report.class_balance import ClassBalance
from detal.report.html_page import plural, render
from detal.report.svg import Frame, Series, bars, histogram, line_chart, scatter

__all__ = ["Chart", "Fact", "GainCurve", "MapPoints", "RunView", "Spread", "run_page"]

Floats = NDArray[np.float64]

_LOG_RATIO = 30


@dataclass(frozen=True)
class Fact:
    """A figure at the top of a page."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """A picture with its title and a note."""

    title: str
    svg: Markup
    note: str


@dataclass(frozen=True, eq=False)
class Spread:
    """How a figure is spread over pool and batch.

    Attributes:
        title: What figure.
        x_label: Its axis.
        edges: (T + 1,) bin edges.
        pool: (T,) counts.
        batch: (T,) counts.
    """

    title: str
    x_label: str
    edges: Floats
    pool: Floats
    batch: Floats


@dataclass(frozen=True, eq=False)
class MapPoints:
    """Image features in two dimensions.

    Attributes:
        pool: (p, 2) some of the candidates.
        labeled: (q, 2) some of the labelled images.
        selected: (K, 2) the batch.
        explained: Share of the variance that both axes hold, in [0, 1].
    """

    pool: Floats
    labeled: Floats
    selected: Floats
    explained: float


@dataclass(frozen=True, eq=False)
class GainCurve:
    """What a table expects of the batch.

    Attributes:
        spent: (K,) cost up to each image.
        gain: (K,) points of mAP expected up to each image.
        unit: Of the cost.
        measured: Whether it rests on a measured table, not on curves taken for granted.
    """

    spent: Floats
    gain: Floats
    unit: str
    measured: bool


@dataclass(frozen=True, eq=False)
class RunView:
    """What the page shows.

    Attributes:
        title: Of the page.
        subtitle: Below the title.
        facts: Figures at the top.
        gallery: For the page's script: see `detal.runs.gallery.gallery_data`.
        thumbs: Base64 of a WebP of each image, empty where one cannot be read; none if served.
        details: Name and value of each setting worth telling.
        notices: What the reader must know, such as what an older run does not keep.
        balance: Objects per class, or None.
        spreads: Histograms.
        map: Projection, or None.
        gain: Expected gain over cost, or None.
        panels: Category curves.
        after: By label, expected objects after the batch, for the panels.
        served: Whether a review server stands behind the page.
    """

    title: str
    subtitle: str
    facts: Sequence[Fact]
    gallery: dict[str, Any]
    thumbs: Sequence[str]
    details: Sequence[tuple[str, str]]
    notices: Sequence[str] = ()
    balance: ClassBalance | None = None
    spreads: Sequence[Spread] = ()
    map: MapPoints | None = None
    gain: GainCurve | None = None
    panels: Sequence[CurvePanel] = ()
    after: dict[int, float] = field(default_factory=dict)
    served: bool = False


def run_page(view: RunView) -> str:
    """The page as HTML."""
    scripts = ["gallery.js", "map.js", "start.js", *(["review.js"] if view.served else [])]
    curves = _curves(view)
    balance = [] if view.balance is None else view.balance.rows()
    log = _is_long_tailed(balance)
    context = {
        "title": view.title,
        "subtitle": view.subtitle,
        "body_class": "review" if view.served else "run",
        "footer": "Written by detal. Boxes are the detector's predictions, not labels.",
        "served": view.served,
        "sections": _sections(view, curves=bool(curves)),
        "facts": view.facts,
        "notices": view.notices,
        "balance": _balance_rows(balance, log=log),
        "balance_log": log,
        "map": None if view.map is None else _map(view.map),
        "map_note": "" if view.map is None else _map_note(view.map),
        "histograms": [_histogram(spread) for spread in view.spreads],
        "curves": curves,
        "curves_note": _curves_note(view),
        "details": view.details,
        "data": view.gallery,
        "thumbs": view.thumbs,
    }
    return render("run.html", scripts=scripts, context=context, served=view.served)


def _sections(view: RunView, *, curves: bool) -> list[tuple[str, str]]:
    parts = [
        ("images", "Images", True),
        ("classes", "Classes", view.balance is not None),
        ("map", "Map", view.map is not None),
        ("scores", "Scores", bool(view.spreads)),
        ("curves", "Expected gain", curves),
        ("details", "How it was made", True),
    ]
    return [(anchor, name) for anchor, name, there in parts if there]


def _is_long_tailed(rows: Sequence[tuple[str, float, float]]) -> bool:
    after = [before + added for _, before, added in rows if before + added > 0]
    return bool(after) and max(after) / max(min(after), 1.0) > _LOG_RATIO


def _balance_rows(rows: Sequence[tuple[str, float, float]], *, log: bool) -> list[dict[str, Any]]:
    largest = max((before + added for _, before, added in rows), default=1.0)
    return [
        {
            "name": name,
            "bar": bars(before, added, largest, log=log),
            "before": f"{before:,.0f}",
            "added": f"{added:,.0f}" if added >= 100 else f"{added:.1f}",
        }
        for name, before, added in rows
    ]


def _map(points: MapPoints) -> Markup:
    groups = [("pool", points.pool), ("labeled", points.labeled), ("selected", points.selected)]
    return scatter(
        groups,
        label=(
            f"Map of image features: {len(points.pool):,} pool images, {len(points.labeled):,} "
            f"labelled ones and the {len(points.selected):,} of this batch"
        ),
    )


def _map_note(points: MapPoints) -> str:
    return (
        "Image features on their two main directions (PCA), which hold "
        f"{points.explained:.0%} of the variance. The image at hand is ringed; a click leads to "
        "the nearest one of the batch."
    )


def _histogram(spread: Spread) -> Chart:
    pool, batch = (counts / (counts.sum() or 1.0) for counts in (spread.pool, spread.batch))
    middles = [_median(spread.edges, counts) for counts in (spread.pool, spread.batch)]
    note = f"median: pool {middles[0]:.2f}, batch {middles[1]:.2f}"
    svg = histogram(
        spread.edges,
        [("pool", pool), ("batch", batch)],
        x_label=spread.x_label,
        label=f"{spread.title}; {note}",
    )
    return Chart(spread.title, svg, note)


def _median(edges: Floats, counts: Floats) -> float:
    """To the middle of a bin."""
    if not counts.sum():
        return 0.0
    place = int(np.searchsorted(np.cumsum(counts), counts.sum() / 2))
    return float(edges[place] + edges[place + 1]) / 2


def _curves(view: RunView) -> list[Chart]:
    charts = []
    if view.gain is not None and len(view.gain.gain):
        gain = view.gain
        total = float(gain.gain[-1])
        unit = gain.unit
        line = Series("expected gain", np.insert(gain.spent, 0, 0.0), np.insert(gain.gain, 0, 0.0))
        text = f"{total:.3g} points of mAP for {gain.spent[-1]:,.0f} {unit}"
        svg = line_chart([line], x_label=unit, label=f"Expected gain over cost: {text}", height=180)
        charts.append(Chart("Expected gain of the batch", svg, text))
    return [*charts, *(_panel(panel, view.after) for panel in view.panels)]


def _curves_note(view: RunView) -> str:
    if view.gain is not None and not view.gain.measured:
        return (
            "Expected from learning curves taken for granted, one for all classes; detal tables "
            "build measures them. It ranks images; it does not forecast."
        )
    return (
        "AP of each class over its labelled objects, as the table measured it: dots are detectors "
        "trained on parts of the labels, the band is the 95 % interval of the fit; dashed, the "
        "labels now; solid, with this batch."
    )


def _panel(panel: CurvePanel, after: dict[int, float]) -> Chart:
    then = after.get(panel.label, panel.labeled)
    top = max(float(np.nanmax([*panel.high, *panel.ap])), 0.05)
    frame = Frame(x=(0.0, float(panel.grid[-1])), y=(0.0, min(1.0, 1.08 * top)), height=170)
    low, high = frame.height - 34.0, 12.0
    lines = [
        Markup('<line class="{}" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"></line>').format(
            name,
            float(frame.px(min(x, panel.grid[-1]))),
            float(frame.px(min(x, panel.grid[-1]))),
            low,
            high,
        )
        for name, x in (("now", panel.labeled), ("after", then))
    ]
    gained = np.interp([panel.labeled, then], panel.grid, panel.line)
    note = (
        f"{plural(round(panel.labeled), 'object')} + {then - panel.labeled:.1f}: "
        f"AP {gained[0]:.2f} to {gained[1]:.2f}"
    )
    svg = frame.svg(
        frame.axes("labelled objects"),
        Markup('<g class="line s{}">').format(panel.label % 10)
        + frame.band(panel.grid, panel.low, panel.high, "band")
        + frame.polyline(panel.grid, panel.line, "stroke")
        + frame.dots(panel.counts, panel.ap, "points")
        + Markup("</g>"),
        *lines,
        label=f"Learning curve of {panel.name}; {note}",
    )
    return Chart(panel.name, svg, note)
