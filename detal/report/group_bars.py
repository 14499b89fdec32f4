"""A picture of what groups of candidates brought: bars with intervals, and the noise."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from detal.report.style import ACCENT, INK, MUTED, PAPER, font_families, short

__all__ = ["GroupBar", "write_group_gains"]

_WIDTH, _ROW = 7.6, 0.3
_DPI = 130
_BAR = "#4c78a8"
_POINTS = 100


@dataclass(frozen=True)
class GroupBar:
    """One group.

    Attributes:
        name: Its name.
        about: What is in it, in words.
        gain: Of mAP (0..1), noise taken off.
        reach: Half of its interval.
        measured: Of mAP as measured, NaN if it was not.
    """

    name: str
    about: str
    gain: float
    reach: float
    measured: float


def write_group_gains(
    path: Path, bars: Sequence[GroupBar], *, noise: float, title: str, note: str
) -> None:
    """Write a PNG with one bar per group, in points of mAP.

    Args:
        path: The file.
        bars: Groups from the top down; at least one.
        noise: Half of the interval in which gains lie by chance, in mAP (0..1).
        title: Above.
        note: At the bottom, in small print.
    """
    size = (_WIDTH, len(bars) * _ROW + 1.3)
    figure = Figure(figsize=size, dpi=_DPI, facecolor=PAPER, layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", size=12, weight="bold", color=INK)
    figure.supxlabel(note, x=0.01, ha="left", size=7.5, color=MUTED)
    _draw(figure.subplots(), bars, noise=noise)
    # Glyphs that no installed font has are drawn as boxes; a warning for each would be noise.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        figure.savefig(path)


def _draw(ax: Axes, bars: Sequence[GroupBar], *, noise: float) -> None:
    rows = np.arange(len(bars))
    gain, reach, measured = (
        _POINTS * np.array([getattr(bar, name) for bar in bars])
        for name in ("gain", "reach", "measured")
    )
    ax.axvspan(-_POINTS * noise, _POINTS * noise, color=MUTED, alpha=0.12, linewidth=0)
    ax.axvline(0, color=MUTED, linewidth=0.8)
    ax.barh(rows, gain, height=0.62, color=_BAR)
    ax.errorbar(gain, rows, xerr=reach, fmt="none", ecolor=INK, elinewidth=1.0, capsize=2.5)
    ax.plot(measured, rows, "o", color=ACCENT, markersize=4, zorder=3)
    ax.set_ylim(len(bars) - 0.4, -0.6)
    ends = np.concatenate(
        [gain - reach, gain + reach, measured, [-_POINTS * noise, _POINTS * noise]]
    )
    low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
    margin = 0.05 * max(high - low, 1e-6)
    ax.set_xlim(low - margin, high + margin)
    ax.set_yticks(rows, [f"{bar.name} · {short(bar.about, 44)}" for bar in bars])
    ax.set_xlabel("points of mAP", size=8, color=MUTED)
    ax.tick_params(colors=INK, labelsize=8, length=0)
    for label in ax.get_yticklabels():
        label.set_fontfamily(font_families())
        label.set_parse_math(False)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color(MUTED)
