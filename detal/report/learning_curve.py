"""A picture of how an agent learned: its reward beside greedy's, and how open its choices were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from detal.report.style import ACCENT, INK, MUTED, PAPER, font_families

__all__ = ["write_learning_curve"]

_SIZE = (6.4, 4.4)
_DPI = 130


def write_learning_curve(
    path: Path,
    *,
    steps: Sequence[int],
    rewards: Sequence[float],
    entropies: Sequence[float],
    held_out: Mapping[int, float],
    greedy: float,
) -> None:
    """Write a PNG of two panels.

    Args:
        path: The file.
        steps: S numbers; steps of imitation are negative.
        rewards: S mean rewards of the rollouts, in percent.
        entropies: S mean entropies of a pick in nats, NaN where unknown.
        held_out: Mean reward of the held-out rollouts by step.
        greedy: Reward of greedy's batch, in percent.
    """
    figure = Figure(figsize=_SIZE, facecolor=PAPER, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    learned = [(s, r) for s, r in zip(steps, rewards, strict=True) if s > 0]
    above.axhline(greedy, color=MUTED, linewidth=1.2, label="greedy")
    if learned:
        above.plot(
            *zip(*learned, strict=True), color=INK, linewidth=1.0, label="drawn batches, mean"
        )
    above.plot(
        list(held_out),
        list(held_out.values()),
        "o-",
        color=ACCENT,
        markersize=3.5,
        label="held out",
    )
    below.plot(steps, entropies, color=INK, linewidth=1.0)
    fonts = font_families()
    _label(above, "reward, %", fonts)
    _label(below, "entropy, nats", fonts)
    below.set_xlabel("step (below 0: imitating greedy)", fontfamily=fonts, fontsize=8, color=MUTED)
    above.legend(frameon=False, prop={"family": fonts, "size": 8})
    figure.savefig(path, dpi=_DPI)


def _label(axes: Axes, text: str, fonts: list[str]) -> None:
    axes.set_ylabel(text, fontfamily=fonts, fontsize=8, color=MUTED)
    axes.tick_params(labelsize=7, colors=MUTED)
    axes.spines[["top", "right"]].set_visible(False)
