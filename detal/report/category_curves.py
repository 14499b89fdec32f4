"""A picture of the category curves: what was measured, what was fitted, where the labels stand."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from detal.report.style import ACCENT, INK, MUTED, PAPER, class_color, font_families, short

__all__ = ["CurvePanel", "write_category_curves"]

Floats = NDArray[np.float64]

_COLUMNS = 4
_PANEL = (2.9, 2.2)
_DPI = 130


@dataclass(frozen=True, eq=False)
class CurvePanel:
    """One category.

    Attributes:
        label: Its number, for the colour.
        name: Its name.
        labeled: Labelled objects now.
        counts: (V,) objects that each variant was trained on.
        ap: (V,) AP (0..1) that it reached, NaN if unknown.
        grid: (G,) objects, >= 0, at which the curve is drawn.
        line: (G,) fitted AP.
        low: (G,) lower end of its interval.
        high: (G,) upper end of its interval.
    """

    label: int
    name: str
    labeled: float
    counts: Floats
    ap: Floats
    grid: Floats
    line: Floats
    low: Floats
    high: Floats


def write_category_curves(
    path: Path, panels: Sequence[CurvePanel], *, title: str, note: str
) -> None:
    """Write a PNG with one panel per category, all with the same AP axis.

    Args:
        path: The file.
        panels: Categories in the order they are shown; at least one.
        title: Above all panels.
        note: At the bottom, in small print.
    """
    columns = min(_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    size = (max(columns * _PANEL[0], 6.0), rows * _PANEL[1] + 0.8)
    figure = Figure(figsize=size, dpi=_DPI, facecolor=PAPER, layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", size=13, weight="bold", color=INK)
    figure.supxlabel(note, x=0.01, ha="left", size=8, color=MUTED)
    top = _highest(panels)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, panel in zip(axes, panels, strict=False):
        _draw(ax, panel, top=top)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    # Glyphs that no installed font has are drawn as boxes; a warning for each would be noise.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        figure.savefig(path)


def _highest(panels: Sequence[CurvePanel]) -> float:
    """Upper end of the AP axis: all points and lines fit below."""
    highest = max(float(np.nanmax([*p.ap, *p.line])) for p in panels)
    return min(1.0, max(0.1, 1.25 * highest))


def _draw(ax: Axes, panel: CurvePanel, *, top: float) -> None:
    color = class_color(panel.label)
    ax.fill_between(panel.grid, panel.low, panel.high, color=color, alpha=0.15, linewidth=0)
    ax.plot(panel.grid, panel.line, color=color, linewidth=1.6)
    ax.plot(panel.counts, panel.ap, "o", color=color, markersize=4.5, clip_on=False, zorder=3)
    ax.axvline(panel.labeled, color=ACCENT, linewidth=1.1, linestyle=(0, (3, 2)))
    ax.set_xlim(0, panel.grid[-1])
    ax.set_ylim(0, top)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(nbins=4))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
    ax.set_title(
        f"{short(panel.name, 22)} · {panel.labeled:,.0f} labelled",
        loc="left",
        size=9,
        color=INK,
        family=font_families(),
        parse_math=False,
    )
    ax.tick_params(colors=MUTED, labelsize=7.5)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(MUTED)
