"""One picture of a batch: the chosen images with their boxes, and what they do to the classes."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from detal.datasets.images import read_image
from detal.errors import DataError
from detal.report.class_balance import ClassBalance, draw_class_balance
from detal.report.style import INK, MUTED, PAPER, TILE, class_color, font_families, short
from detal.structures import Detections, Selection

__all__ = ["SheetBatch", "SheetImage", "write_contact_sheet"]

_MOST_IMAGES = 40
_MARGIN_IN = 0.3
_TOP_IN = 0.95
_TILE_IN = 2.3
_GAP_IN = 0.14
_CAPTION_IN = 0.56
_PANEL_IN = 3.6
_PANEL_HEAD_IN = 0.5
_TILE_PX = 480
_BOXES_SHOWN = 40
_LABELS_SHOWN = 6


class SheetImage(Protocol):
    """One chosen image."""

    @property
    def path(self) -> str:
        """Its file."""
        ...


class SheetBatch(Protocol):
    """What the picture needs of a batch; `detal.manifests.Batch` has it."""

    @property
    def selection(self) -> Selection:
        """The K images chosen."""
        ...

    @property
    def images(self) -> Sequence[SheetImage]:
        """The K images, in the selection's order."""
        ...

    @property
    def detections(self) -> Detections:
        """The boxes to draw on the K images."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """C names, in label order."""
        ...


def write_contact_sheet(
    path: Path,
    batch: SheetBatch,
    *,
    counts_before: NDArray[np.int64],
    counts_added: NDArray[np.float64],
) -> None:
    """Write a PNG: up to 40 chosen images, and the labelled objects per class before and after.

    Of a larger batch the images shown are spread evenly over the ranks, first and last included.
    An image that cannot be read is shown as an empty tile that says so.

    Args:
        path: File to write.
        batch: The images, with the boxes to draw.
        counts_before: (C,) labelled objects.
        counts_added: (C,) objects that the batch is expected to add.

    Raises:
        DataError: If the counts are not one per class.
    """
    balance = ClassBalance(batch.class_names, counts_before, counts_added)
    number = len(batch.selection)
    shown = np.unique(np.linspace(0, number - 1, min(number, _MOST_IMAGES)).round().astype(int))
    layout = _Layout(*_grid(len(shown)), bars=len(balance.rows()))
    figure = Figure(figsize=(layout.width, layout.height), facecolor=PAPER)
    FigureCanvasAgg(figure)
    # Glyphs that no installed font has are drawn as boxes; a warning for each would be noise.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        _draw_title(figure, layout, batch.selection, shown=len(shown))
        for cell, row in enumerate(shown.tolist()):
            tile = _Tile(
                path=batch.images[row].path,
                rank=row + 1,
                reason=batch.selection.reasons[row],
                detections=batch.detections.take([row]),
                class_names=batch.class_names,
            )
            tile.draw(figure, layout, cell)
        top = _TOP_IN + _PANEL_HEAD_IN
        panel = layout.axes(
            figure, layout.panel_left, top, width=_PANEL_IN, height=layout.panel_height
        )
        draw_class_balance(panel, balance)
        figure.savefig(path, format="png", dpi=110, metadata={"Software": None})


def _grid(images: int) -> tuple[int, int]:
    """Columns and rows of the grid, wider than high."""
    columns = int(np.clip(np.ceil(np.sqrt(images * 1.6)), 3, 8))
    return columns, max(1, -(-images // columns))


@dataclass(frozen=True)
class _Layout:
    """Where things are; all lengths in inches, from the top left."""

    columns: int
    rows: int
    bars: int

    @property
    def panel_left(self) -> float:
        return _MARGIN_IN + self.columns * (_TILE_IN + _GAP_IN) + 1.75

    @property
    def panel_height(self) -> float:
        return 0.3 * max(self.bars, 2)

    @property
    def width(self) -> float:
        return self.panel_left + _PANEL_IN + _MARGIN_IN

    @property
    def height(self) -> float:
        grid = self.rows * (_TILE_IN + _CAPTION_IN)
        return _TOP_IN + max(grid, _PANEL_HEAD_IN + self.panel_height + 0.35) + 0.1

    def tile(self, cell: int) -> tuple[float, float]:
        """Left and top of a tile."""
        row, column = divmod(cell, self.columns)
        left = _MARGIN_IN + column * (_TILE_IN + _GAP_IN)
        return left, _TOP_IN + row * (_TILE_IN + _CAPTION_IN)

    def axes(self, figure: Figure, left: float, top: float, *, width: float, height: float) -> Axes:
        bottom = self.height - top - height
        return figure.add_axes(
            (left / self.width, bottom / self.height, width / self.width, height / self.height)
        )

    def text(self, figure: Figure, left: float, top: float, text: str, **style: Any) -> None:
        figure.text(
            left / self.width,
            1 - top / self.height,
            text,
            va="top",
            family=font_families(),
            parse_math=False,
            **style,
        )


def _draw_title(figure: Figure, layout: _Layout, selection: Selection, *, shown: int) -> None:
    budget, number = selection.budget, len(selection)
    images = f"{number:,} image" + ("" if number == 1 else "s")
    cost = "" if budget.unit == "images" else f", {selection.spent:,.0f} expected to be spent"
    part = "" if shown == number else f" · {shown} shown, spread evenly over the ranks"
    layout.text(figure, _MARGIN_IN, 0.2, f"{images} to label", size=17, weight="bold", color=INK)
    subtitle = f"budget {budget.amount:,g} {budget.unit}{cost}{part}"
    layout.text(figure, _MARGIN_IN, 0.56, subtitle, size=10.5, color=MUTED)


@dataclass(frozen=True, eq=False)
class _Tile:
    path: str
    rank: int
    reason: str
    detections: Detections
    class_names: Sequence[str]

    def draw(self, figure: Figure, layout: _Layout, cell: int) -> None:
        left, top = layout.tile(cell)
        self._draw_image(layout.axes(figure, left, top, width=_TILE_IN, height=_TILE_IN))
        below = top + _TILE_IN + 0.06
        layout.text(figure, left, below, f"#{self.rank}", size=7.5, weight="bold", color=INK)
        layout.text(
            figure, left + 0.32, below, _wrapped(self.reason), size=7, color=INK, linespacing=1.2
        )

    def _draw_image(self, axes: Axes) -> None:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_facecolor(TILE)
        for spine in axes.spines.values():
            spine.set_visible(False)
        try:
            pixels = read_image(self.path).pixels
        except DataError:
            axes.text(0.5, 0.5, "cannot be read", ha="center", size=8, color=MUTED)
            return
        scale = min(1.0, _TILE_PX / max(pixels.shape[:2]))
        pixels = _resized(pixels, scale)
        axes.imshow(pixels, interpolation="antialiased")
        self._draw_boxes(axes, scale, max(pixels.shape[:2]))
        # A square view with the image in its middle.
        height, width = pixels.shape[:2]
        side = max(height, width) / 2
        axes.set_xlim(width / 2 - side - 0.5, width / 2 + side - 0.5)
        axes.set_ylim(height / 2 + side - 0.5, height / 2 - side - 0.5)

    def _draw_boxes(self, axes: Axes, scale: float, side: int) -> None:
        scores = self.detections.scores.numpy()[:_BOXES_SHOWN]
        boxes = self.detections.boxes.numpy()[:_BOXES_SHOWN] * scale - 0.5
        labels = self.detections.labels.numpy()[:_BOXES_SHOWN]
        # Strongest last, so that its label is not covered.
        for place in reversed(range(len(scores))):
            left, top, right, bottom = boxes[place]
            color = class_color(int(labels[place]))
            axes.add_patch(
                Rectangle(
                    (left, top), right - left, bottom - top, fill=False, edgecolor=color, lw=1.3
                )
            )
            if place < _LABELS_SHOWN:
                name = short(self.class_names[int(labels[place])], 16)
                axes.text(
                    max(left, 0) + side * 0.008,
                    max(top, side * 0.045),
                    f"{name} {scores[place]:.2f}",
                    size=5.6,
                    color="white",
                    va="bottom",
                    family=font_families(),
                    bbox={"facecolor": color, "edgecolor": "none", "pad": 0.8, "alpha": 0.85},
                    parse_math=False,
                    clip_on=True,
                )


def _resized(pixels: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    if scale >= 1:
        return pixels
    size = [max(1, round(side * scale)) for side in pixels.shape[1::-1]]
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _wrapped(reason: str) -> str:
    lines = textwrap.wrap(" ".join(reason.split()), width=36, max_lines=3, placeholder=" …")
    return "\n".join(lines)
