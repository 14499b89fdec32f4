"""Charts as inline SVG: they take colours from the page's style sheet, so they follow dark mode.

Everything that is text comes from `escape`; no chart carries a style attribute, which the page's
content security policy would refuse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

__all__ = ["Frame", "Series", "bars", "histogram", "line_chart", "scatter", "tag"]

Floats = NDArray[np.float64]

_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 12.0, 12.0, 34.0


def tag(name: str, *children: str | Markup, **attributes: Any) -> Markup:
    """An element; ``_`` in attribute names becomes ``-``, a trailing one is dropped, None left out.

    Children that are not Markup are escaped.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_number(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = Markup("").join(children)
    return Markup(f"<{name}{written}>{inner}</{name}>")


def _number(value: Any) -> Any:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


def ticks(low: float, high: float, *, count: int, integer: bool = False) -> list[float]:
    """Round numbers within the range."""
    if not high > low:
        return [low]
    values = MaxNLocator(nbins=count, integer=integer).tick_values(low, high)
    slack = 1e-9 * (high - low)
    return [float(v) for v in values if low - slack <= v <= high + slack]


@dataclass(frozen=True)
class Frame:
    """A plot area with its two linear axes.

    Attributes:
        x: Range of the horizontal axis.
        y: Range of the vertical axis.
        width: Of the whole chart, in the chart's own units.
        height: Of the whole chart.
        percent: Whether the vertical axis shows shares as percentages.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    width: float = 360.0
    height: float = 200.0
    percent: bool = False

    def px(self, value: Any) -> Any:
        """Horizontal place of a value or an array of them."""
        low, high = self.x
        share = (np.asarray(value, dtype=np.float64) - low) / ((high - low) or 1.0)
        return _LEFT + share * (self.width - _LEFT - _RIGHT)

    def py(self, value: Any) -> Any:
        """Vertical place of a value or an array of them."""
        low, high = self.y
        share = (np.asarray(value, dtype=np.float64) - low) / ((high - low) or 1.0)
        return self.height - _BOTTOM - share * (self.height - _TOP - _BOTTOM)

    def axes(self, x_label: str) -> Markup:
        """Grid lines, tick labels and the name of the horizontal axis."""
        parts = []
        for value in ticks(*self.y, count=4):
            y = float(self.py(value))
            label = f"{100 * value:g}%" if self.percent else f"{value:,.3g}"
            parts += [
                tag("line", class_="grid", x1=_LEFT, x2=self.width - _RIGHT, y1=y, y2=y),
                tag("text", label, class_="tick", x=_LEFT - 6, y=y + 3.5, text_anchor="end"),
            ]
        floor = self.height - _BOTTOM
        for value in ticks(*self.x, count=5):
            x = float(self.px(value))
            label = f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.3g}"
            parts.append(tag("text", label, class_="tick", x=x, y=floor + 14, text_anchor="middle"))
        middle = (_LEFT + self.width - _RIGHT) / 2
        parts.append(
            tag("text", x_label, class_="axis", x=middle, y=self.height - 4, text_anchor="middle")
        )
        return Markup("").join(parts)

    def svg(self, *children: Markup, label: str, class_: str = "chart") -> Markup:
        """The chart; ``label`` says in words what it shows."""
        return tag(
            "svg",
            *children,
            class_=class_,
            viewBox=f"0 0 {self.width:g} {self.height:g}",
            role="img",
            aria_label=label,
        )

    def polyline(self, x: Floats, y: Floats, class_: str) -> Markup:
        """A line through the points that are numbers."""
        return tag("polyline", class_=class_, points=self._points(x, y))

    def band(self, x: Floats, low: Floats, high: Floats, class_: str) -> Markup:
        """The area between two lines."""
        both = np.concatenate([x, x[::-1]]), np.concatenate([low, high[::-1]])
        return tag("polygon", class_=class_, points=self._points(*both))

    def dots(self, x: Floats, y: Floats, class_: str) -> Markup:
        """Points as one path of round dots; the style sheet sets their size."""
        kept = np.isfinite(x) & np.isfinite(y)
        places = zip(self.px(x[kept]).tolist(), self.py(y[kept]).tolist(), strict=True)
        return tag("path", class_=class_, d="".join(f"M{px:.1f} {py:.1f}h0" for px, py in places))

    def _points(self, x: Floats, y: Floats) -> str:
        kept = np.isfinite(x) & np.isfinite(y)
        places = zip(self.px(x[kept]).tolist(), self.py(y[kept]).tolist(), strict=True)
        return " ".join(f"{px:.1f},{py:.1f}" for px, py in places)


@dataclass(frozen=True, eq=False)
class Series:
    """One line of a chart.

    Attributes:
        name: In the legend.
        x: (n,) ascending.
        y: (n,).
        class_: Of the line, for its colour.
        low: (n,) lower end of its band, or None.
        high: (n,) upper end of its band, or None.
        dots: Mark the points.
    """

    name: str
    x: Floats
    y: Floats
    class_: str = "line accent"
    low: Floats | None = None
    high: Floats | None = None
    dots: bool = field(default=False)


def line_chart(
    series: Sequence[Series],
    *,
    x_label: str,
    label: str,
    width: float = 360.0,
    height: float = 200.0,
) -> Markup:
    """Lines over a common range that starts at the first point and, vertically, near zero."""
    xs = np.concatenate([s.x for s in series])
    tops = [v for s in series for v in (s.y, s.high) if v is not None]
    lows = [v for s in series for v in (s.y, s.low) if v is not None]
    top, low = float(np.nanmax(np.concatenate(tops))), float(np.nanmin(np.concatenate(lows)))
    room = 0.06 * ((top - low) or abs(top) or 1.0)
    frame = Frame(
        x=(float(xs.min()), float(xs.max())),
        y=(max(0.0, low - room) if low >= 0 else low - room, top + room),
        width=width,
        height=height,
    )
    parts = [frame.axes(x_label)]
    for s in series:
        inner = []
        if s.low is not None and s.high is not None:
            inner.append(frame.band(s.x, s.low, s.high, "band"))
        inner.append(frame.polyline(s.x, s.y, "stroke"))
        if s.dots:
            inner.append(frame.dots(s.x, s.y, "points"))
        parts.append(tag("g", tag("title", s.name), *inner, class_=s.class_))
    return frame.svg(*parts, label=label)


def histogram(
    edges: Floats, groups: Sequence[tuple[str, Floats]], *, x_label: str, label: str
) -> Markup:
    """Shares per bin of several groups, the first filled, the others as outlines above it.

    Args:
        edges: (T + 1,) bin edges, ascending.
        groups: Class name and (T,) shares in [0, 1] of each.
        x_label: Name of the horizontal axis.
        label: What it shows, in words.
    """
    top = max(float(shares.max(initial=0.0)) for _, shares in groups)
    frame = Frame(
        x=(float(edges[0]), float(edges[-1])), y=(0.0, 1.08 * top or 1.0), percent=True, height=180
    )
    steps_x = np.repeat(edges, 2)
    parts = [frame.axes(x_label)]
    for number, (class_, shares) in enumerate(groups):
        steps_y = np.concatenate([[0.0], np.repeat(shares, 2), [0.0]])
        if number == 0:
            parts.append(frame.band(steps_x, np.zeros_like(steps_x), steps_y, class_))
        else:
            parts.append(frame.polyline(steps_x, steps_y, class_))
    return frame.svg(*parts, label=label)


def scatter(groups: Sequence[tuple[str, Floats]], *, label: str) -> Markup:
    """Points (n, 2) of several groups, the last on top; one empty marker for the page's script."""
    points = np.concatenate([np.zeros((0, 2)), *(points for _, points in groups)])
    low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
    middle, reach = (low + high) / 2, float(max((high - low).max() / 2, 1e-6)) * 1.04
    size = 400.0
    parts = [
        tag("path", class_=class_, d=_dots(_placed(points, middle, reach, size)))
        for class_, points in groups
    ]
    marker = tag("circle", class_="marker", r=7, cx=-20, cy=-20)
    return tag(
        "svg",
        *parts,
        marker,
        class_="map",
        viewBox=f"0 0 {size:g} {size:g}",
        role="img",
        aria_label=label,
        data_middle=f"{middle[0]:.6g},{middle[1]:.6g}",
        data_reach=f"{reach:.6g}",
    )


def _placed(points: Floats, middle: Floats, reach: float, size: float) -> Floats:
    share = (points - middle) / reach * (1, -1)
    return np.asarray(size / 2 * (1 + share))


def _dots(places: Floats) -> str:
    return "".join(f"M{x:.1f} {y:.1f}h0" for x, y in places.tolist() if np.isfinite(x + y))


def bars(before: float, added: float, largest: float, *, log: bool) -> Markup:
    """One row of a class balance: what is there, and what comes on top.

    Args:
        before: Objects now.
        added: Objects expected.
        largest: What fills the whole width.
        log: Whether lengths are logarithmic.
    """

    def length(value: float) -> float:
        share = np.log1p(value) / np.log1p(largest) if log else value / largest
        return float(100 * share)

    largest = largest or 1.0
    start = length(before)
    return tag(
        "svg",
        tag("rect", class_="before", x=0, y=0, width=start, height=10),
        tag("rect", class_="added", x=start, y=0, width=length(before + added) - start, height=10),
        class_="bar",
        viewBox="0 0 100 10",
        preserveAspectRatio="none",
        aria_hidden="true",
    )
