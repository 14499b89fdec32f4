"""What measured tables say: as pictures, and in figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from detal.report import CurvePanel, GroupBar, write_category_curves, write_group_gains
from detal.reward import FittedCurves, GroupGains

__all__ = [
    "curve_panel",
    "draw_curves",
    "draw_groups",
    "draw_tables",
    "read_group_gains",
    "read_outlook",
]

_CURVES, _GROUPS = "curves", "groups"
_CLASSES_NAMED = 2
_MOST_PANELS = 24
_GRID = 120
_BEYOND = 1.6
_SIGMAS_95 = 1.96
_FURTHER = 10


def draw_tables(folder: Path, output: Path | None = None) -> list[Path]:
    """Draw all tables of a folder that `detal.runs.tables` wrote.

    Args:
        folder: With category curves, gains of groups, or both.
        output: PNG of the first; that of groups beside curves gets ``_groups`` in its name. By
            default ``curves.png`` and ``groups.png`` in the folder.

    Raises:
        DataError: If there is no table in it.
        StoreError: If one is damaged.
    """
    curves, groups = ((folder / f"{name}.json").exists() for name in (_CURVES, _GROUPS))
    pictures = [draw_curves(folder, output)] if curves or not groups else []
    if groups:
        beside = output and output.with_name(f"{output.stem}_groups{output.suffix}")
        pictures.append(draw_groups(folder, beside if curves else output))
    return pictures


def draw_groups(folder: Path, output: Path | None = None) -> Path:
    """Draw the gains of the groups of a table, greatest first.

    Args:
        folder: With a table of groups.
        output: The PNG; ``groups.png`` in the folder by default.

    Raises:
        DataError: If there is no table of groups in it.
        StoreError: If it is damaged.
    """
    table = GroupGains.load(folder)
    path = output or folder / f"{_GROUPS}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = read_group_gains(folder)
    write_group_gains(
        path,
        [
            GroupBar(
                name=f"group {row['group']}",
                about=f"{row['trained']} of {row['images']} images · {', '.join(row['classes'])}",
                gain=row["gain"],
                reach=row["interval"],
                measured=float("nan") if row["measured"] is None else row["measured"],
            )
            for row in rows
        ],
        noise=_SIGMAS_95 * table.shrunk.noise,
        title="Gain of a short training on each group of candidates",
        note=(
            "bars: gain of mAP without noise, 95 % interval; dots: as measured; band: 95 % of what "
            "the same training gives without a group"
        ),
    )
    return path


def read_group_gains(folder: Path) -> list[dict[str, Any]]:
    """Per group what the table says, greatest gain first.

    Returns:
        Rows of ``group`` (1..G), ``images``, ``trained`` (images of the variant), ``pseudo_boxes``,
        ``measured`` (gain of mAP, 0..1, or None without a variant), ``gain`` (shrunk), ``interval``
        (half of its 95 % interval) and ``classes`` (that gain most).

    Raises:
        DataError: If there is no table of groups in the folder.
        StoreError: If it is damaged.
    """
    table = GroupGains.load(folder)
    shrunk, measured = table.shrunk, table.measured
    by_class = np.nan_to_num(shrunk.class_gain)
    rows = [
        {
            "group": g + 1,
            "images": int(table.images[g]),
            "trained": int(table.trained[g]),
            "pseudo_boxes": int(table.pseudo_boxes[g]),
            "measured": None if np.isnan(measured[g]) else float(measured[g]),
            "gain": float(shrunk.gain[g]),
            "interval": float(_SIGMAS_95 * shrunk.deviation),
            "classes": [
                table.class_names[c]
                for c in np.argsort(-by_class[g], kind="stable")[:_CLASSES_NAMED]
                if by_class[g, c] > 0
            ],
        }
        for g in range(len(table))
    ]
    return sorted(rows, key=lambda row: -float(str(row["gain"])))


def draw_curves(folder: Path, output: Path | None = None) -> Path:
    """Draw the curves of a table, those with most labels first.

    Args:
        folder: With category curves.
        output: The PNG; ``curves.png`` in the folder by default.

    Raises:
        DataError: If there is no table in it.
        StoreError: If it is damaged.
    """
    table = FittedCurves.load(folder)
    path = output or folder / f"{_CURVES}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = np.argsort(-table.labeled_counts, kind="stable")[:_MOST_PANELS]
    few = len(shown) < len(table.class_names)
    most = f"the {len(shown)} of {len(table.class_names)} classes with most labels, " if few else ""
    write_category_curves(
        path,
        [curve_panel(table, int(label)) for label in shown],
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


def curve_panel(table: FittedCurves, label: int, *, upto: float = 0.0) -> CurvePanel:
    """What to draw of the class with number ``label``, as far as ``upto`` objects at least."""
    now = float(table.labeled_counts[label])
    grid = np.linspace(0, max(_BEYOND * max(now, *table.counts[:, label]), 10.0, upto), _GRID)
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
