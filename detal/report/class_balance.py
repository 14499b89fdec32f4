"""Labelled objects per class, before a batch and after."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from detal.errors import DataError
from detal.report.style import ACCENT, INK, MUTED, font_families, short

__all__ = ["ClassBalance", "draw_class_balance"]

_MOST_CLASSES = 30
_LOG_RATIO = 30
_LEAST_ADDED = 0.05
_BEFORE = "#9aa3b2"


@dataclass(frozen=True, eq=False)
class ClassBalance:
    """What a batch is expected to add to the labelled objects.

    Attributes:
        class_names: C names.
        before: (C,) labelled objects.
        added: (C,) objects that the batch is expected to add.
    """

    class_names: tuple[str, ...]
    before: NDArray[np.int64]
    added: NDArray[np.float64]

    def __post_init__(self) -> None:
        if not len(self.class_names) == len(self.before) == len(self.added):
            raise DataError(
                f"before and added must have one number for each of {len(self.class_names)} "
                f"classes, got {len(self.before)} and {len(self.added)}"
            )

    def rows(self) -> list[tuple[str, float, float]]:
        """(name, before, added) of the classes shown, most frequent first.

        With many classes, the most frequent ones and those that gain most stand for themselves; the
        rest, and what is neither labelled nor expected, is one row, summed up.
        """
        order = np.lexsort((np.arange(len(self.before)), -self.added, -self.before))
        kept = order
        if len(order) > _MOST_CLASSES:
            present = order[(self.before[order] > 0) | (self.added[order] >= _LEAST_ADDED)]
            head, others = np.split(present, [_MOST_CLASSES // 2])
            gaining = others[np.argsort(-self.added[others], kind="stable")]
            chosen = np.concatenate([head, gaining[: _MOST_CLASSES - len(head)]])
            kept = order[np.isin(order, chosen)]
        rows = [
            (self.class_names[i], float(self.before[i]), float(self.added[i]))
            for i in kept.tolist()
        ]
        rest = np.setdiff1d(order, kept)
        if len(rest):
            sums = float(self.before[rest].sum()), float(self.added[rest].sum())
            rows.append((f"{len(rest):,} other classes", *sums))
        return rows


def draw_class_balance(axes: Axes, balance: ClassBalance) -> None:
    """Horizontal bars: labelled now in grey, expected after the batch in colour behind."""
    rows = balance.rows()
    places = np.arange(len(rows))
    before = np.array([row[1] for row in rows])
    after = before + np.array([row[2] for row in rows])
    axes.barh(places, after, color=ACCENT, height=0.66)
    axes.barh(places, before, color=_BEFORE, height=0.66)
    axes.set_yticks(
        places,
        [short(row[0], 24) for row in rows],
        family=font_families(),
        size=8.5,
        color=INK,
        parse_math=False,
    )
    axes.set_ylim(max(len(rows), 2) - 0.4, -0.6)
    _scale(axes, before, after)
    for place, low, high in zip(places, before, after, strict=True):
        axes.annotate(
            f"{low:,.0f} + {high - low:,.3g}"
            if high - low < 1000
            else f"{low:,.0f} + {high - low:,.0f}",
            (max(high, axes.get_xlim()[0]), place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            size=7.5,
            color=MUTED,
        )
    axes.set_title("Objects per class", loc="left", size=11.5, weight="bold", color=INK, pad=26)
    axes.legend(
        handles=[
            Patch(color=_BEFORE, label="labelled now"),
            Patch(color=ACCENT, label="expected in this batch"),
        ],
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=2,
        frameon=False,
        fontsize=8,
        handlelength=1,
        borderaxespad=0.2,
    )
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", colors=MUTED, labelsize=8)


def _scale(axes: Axes, before: NDArray[np.float64], after: NDArray[np.float64]) -> None:
    """A logarithmic axis for a long tail, with room for the figures at the bars' ends."""
    largest = float(after.max(initial=1.0))
    positive = after[after > 0]
    if len(positive) and largest / max(float(positive.min()), 1.0) > _LOG_RATIO:
        axes.set_xscale("log")
        axes.set_xlim(0.5, largest**1.35)
        axes.xaxis.set_major_locator(LogLocator(base=10))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(0, largest * 1.35)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
