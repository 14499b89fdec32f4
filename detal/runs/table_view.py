"""What a table of category curves says: as a picture, and in figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from detal.report import CurvePanel, write_category_curves
from detal.reward import FittedCurves

__all__ = ["draw_table", "read_outlook"]

_PICTURE = "curves.png"
_MOST_PANELS = 24
_GRID = 120
_BEYOND = 1.6
_SIGMAS_95 = 1.96
_FURTHER = 10


def draw_table(folder: Path, output: Path | None = None) -> Path:
    """Draw the curves of a table, those with most labels first.

    Args:
        folder: That `build_table` wrote.
        output: The PNG; ``curves.png`` in the folder by default.

    Raises:
        DataError: If there is no table in it.
        StoreError: If it is damaged.
    """
    table = FittedCurves.load(folder)
    path = output or folder / _PICTURE
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = np.argsort(-table.labeled_counts, kind="stable")[:_MOST_PANELS]
    few = len(shown) < len(table.class_names)
    most = f"the {len(shown)} of {len(table.class_names)} classes with most labels, " if few else ""
    write_category_curves(
        path,
        [_panel(table, int(label)) for label in shown],
        title="AP over labelled objects",
        note=(
            f"{most}dots: detectors trained on parts of the labels; band: 95 % interval of the "
            "fit; dashed: labels now"
        ),
    )
    return path


def read_outlook(folder: Path) -> list[dict[str, Any]]:
    """Per class what the table expects, those that gain most first.

    Returns:
        Rows of ``class``, ``labeled`` (objects), ``ap`` (0..1, expected with them), ``interval``
        (half of the 95 % interval) and ``gain`` (AP that 10 further objects add).

    Raises:
        DataError: If there is no table in the folder.
        StoreError: If it is damaged.
    """
    table = FittedCurves.load(folder)
    now = table.labeled_counts
    ap, further = table.curves.ap(now), table.curves.ap(now + _FURTHER)
    reach = _SIGMAS_95 * table.curves.deviation(now)
    numbers = (column.tolist() for column in (now, ap, reach, further - ap))
    keys = ("class", "labeled", "ap", "interval", "gain")
    rows = [
        dict(zip(keys, row, strict=True)) for row in zip(table.class_names, *numbers, strict=True)
    ]
    return sorted(rows, key=lambda row: -row["gain"])


def _panel(table: FittedCurves, label: int) -> CurvePanel:
    now = float(table.labeled_counts[label])
    grid = np.linspace(0, max(_BEYOND * max(now, *table.counts[:, label]), 10.0), _GRID)
    everywhere = np.repeat(grid[:, None], len(table.class_names), axis=1)
    line = table.curves.ap(everywhere)[:, label]
    reach = _SIGMAS_95 * table.curves.deviation(everywhere)[:, label]
    return CurvePanel(
        label=label,
        name=table.class_names[label],
        labeled=now,
        counts=table.counts[:, label],
        ap=table.ap[:, label],
        grid=grid,
        line=line.clip(0, 1),
        low=(line - reach).clip(0, 1),
        high=(line + reach).clip(0, 1),
    )
