"""One picture of objects: rows of crops, each with its box and a line below."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from detal.datasets.images import read_image
from detal.errors import DataError
from detal.report.style import INK, MUTED, PAPER, TILE, class_color, font_families, short

__all__ = ["Crop", "CropRow", "write_crop_sheet"]

_MARGIN_IN = 0.3
_TOP_IN = 0.95
_TITLE_IN = 1.75
_TILE_IN = 1.05
_GAP_IN = 0.1
_CAPTION_IN = 0.34
_SECTION_IN = 0.34
_TILE_PX = 220
_CONTEXT = 0.35
_LEAST_PX = 24.0


@dataclass(frozen=True)
class Crop:
    """One object.

    Attributes:
        path: Image file.
        box: xyxy in pixels of the decoded image.
        label: Class, for the colour.
        caption: Up to two short lines below.
        proposed: A second, dashed box, or None.
    """

    path: str
    box: tuple[float, float, float, float]
    label: int
    caption: str
    proposed: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class CropRow:
    """A row of the picture.

    Attributes:
        title: What it shows.
        note: A short line below the title.
        crops: The objects, best first.
        section: A heading above the row, or empty.
    """

    title: str
    note: str
    crops: Sequence[Crop]
    section: str = ""


def write_crop_sheet(path: Path, rows: Sequence[CropRow], *, title: str, note: str) -> None:
    """Write a PNG with a row of crops per ``rows``; an unreadable image is an empty tile.

    Args:
        path: File to write.
        rows: From top to bottom.
        title: Heading.
        note: A line below it.
    """
    columns = max([len(row.crops) for row in rows] + [4])
    width = 2 * _MARGIN_IN + _TITLE_IN + columns * (_TILE_IN + _GAP_IN)
    sections = sum(bool(row.section) for row in rows)
    height = _TOP_IN + len(rows) * (_TILE_IN + _CAPTION_IN) + sections * _SECTION_IN + 0.2
    figure = Figure(figsize=(width, height), facecolor=PAPER)
    FigureCanvasAgg(figure)
    sheet = _Sheet(figure, width, height)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        sheet.text(_MARGIN_IN, 0.2, title, size=15, weight="bold", color=INK)
        sheet.text(_MARGIN_IN, 0.55, note, size=9, color=MUTED)
        top = _TOP_IN
        for row in rows:
            if row.section:
                sheet.text(_MARGIN_IN, top + 0.02, row.section, size=10.5, weight="bold", color=INK)
                top += _SECTION_IN
            _draw_row(sheet, row, top)
            top += _TILE_IN + _CAPTION_IN
        figure.savefig(path, format="png", dpi=110, metadata={"Software": None})


@dataclass(frozen=True, eq=False)
class _Sheet:
    """A figure in inches from its top left."""

    figure: Figure
    width: float
    height: float

    def text(self, left: float, top: float, text: str, **style: Any) -> None:
        self.figure.text(
            left / self.width,
            1 - top / self.height,
            text,
            va="top",
            family=font_families(),
            parse_math=False,
            **style,
        )

    def tile(self, left: float, top: float) -> Axes:
        bottom = self.height - top - _TILE_IN
        return self.figure.add_axes(
            (
                left / self.width,
                bottom / self.height,
                _TILE_IN / self.width,
                _TILE_IN / self.height,
            )
        )


def _draw_row(sheet: _Sheet, row: CropRow, top: float) -> None:
    sheet.text(_MARGIN_IN, top + 0.1, short(row.title, 20), size=9.5, weight="bold", color=INK)
    sheet.text(_MARGIN_IN, top + 0.32, row.note, size=7.2, color=MUTED, linespacing=1.3)
    for column, crop in enumerate(row.crops):
        left = _MARGIN_IN + _TITLE_IN + column * (_TILE_IN + _GAP_IN)
        axes = sheet.tile(left, top)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_facecolor(TILE)
        for spine in axes.spines.values():
            spine.set_visible(False)
        _draw_crop(axes, crop)
        sheet.text(left, top + _TILE_IN + 0.03, crop.caption, size=6.2, color=INK, linespacing=1.15)


def _draw_crop(axes: Axes, crop: Crop) -> None:
    try:
        pixels = read_image(crop.path).pixels
    except DataError:
        axes.text(0.5, 0.5, "cannot be read", ha="center", size=7, color=MUTED)
        return
    boxes = [np.array(box) for box in (crop.box, crop.proposed) if box is not None]
    low, high = np.min([box[:2] for box in boxes], axis=0), np.max([box[2:] for box in boxes], 0)
    side = max(float((high - low).max()) * (1 + 2 * _CONTEXT), _LEAST_PX)
    left, top = (low + high) / 2 - side / 2
    first_x, first_y = max(0, int(left)), max(0, int(top))
    part = pixels[first_y : int(top + side) + 1, first_x : int(left + side) + 1]
    if part.size == 0:
        axes.text(0.5, 0.5, "outside the image", ha="center", size=7, color=MUTED)
        return
    scale = _TILE_PX / side
    size = [max(1, round(length * scale)) for length in part.shape[1::-1]]
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    right, bottom = first_x + part.shape[1], first_y + part.shape[0]
    axes.imshow(
        cv2.resize(part, size, interpolation=method), extent=(first_x, right, bottom, first_y)
    )
    for box, style in zip(boxes, ("-", "--"), strict=False):
        axes.add_patch(
            Rectangle(
                (box[0], box[1]),
                box[2] - box[0],
                box[3] - box[1],
                fill=False,
                edgecolor=class_color(crop.label),
                lw=1.4,
                linestyle=style,
            )
        )
    axes.set_xlim(left, left + side)
    axes.set_ylim(top + side, top)
