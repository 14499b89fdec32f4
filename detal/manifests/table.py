"""``selection.csv``: one row per image, for people and spreadsheets."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast, get_args

import numpy as np
from numpy.typing import NDArray

from detal.errors import DataError
from detal.manifests.batch import Batch, Image
from detal.structures import Budget, BudgetUnit, Selection

__all__ = ["COLUMNS", "plain_text", "read_csv", "read_selection", "write_csv"]

COLUMNS = (
    "rank",
    "image_id",
    "path",
    "width",
    "height",
    "group",
    "score",
    "expected_boxes",
    "cost",
    "cost_unit",
    "boxes",
    "reason",
)
_Read = TypeVar("_Read")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def write_csv(path: Path, batch: Batch) -> None:
    """Write one row per image in the selection's order (UTF-8, comma separated).

    ``boxes`` counts the pre-annotations; a score that the strategy does not have is left empty. A
    text that a spreadsheet would run as a formula gets a leading apostrophe, which `read_csv` takes
    off again.
    """
    counts = batch.detections.counts.tolist()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row, image in enumerate(batch.images):
            score = float(batch.selection.scores[row])
            writer.writerow(
                [
                    row + 1,
                    plain_text(image.image_id),
                    plain_text(image.path),
                    image.width,
                    image.height,
                    plain_text(image.group or ""),
                    "" if math.isnan(score) else f"{score:.6g}",
                    f"{batch.expected_boxes[row]:.3f}",
                    f"{batch.selection.costs[row]:.3f}",
                    batch.selection.budget.unit,
                    counts[row],
                    plain_text(batch.selection.reasons[row]),
                ]
            )


def read_csv(path: Path) -> tuple[Image, ...]:
    """The images of a manifest by rank, also after a spreadsheet has sorted and saved the file.

    Raises:
        DataError: If the file cannot be read or is no selection.
    """
    return _read(path, lambda rows: tuple(_image(row) for row in rows))


def read_selection(path: Path) -> tuple[tuple[Image, ...], Selection, NDArray[np.float64]]:
    """The images of a manifest by rank, why they are there, and their expected boxes (K,).

    The budget is what was spent, and what was passed over is not known any more.

    Raises:
        DataError: If the file cannot be read or is no selection.
    """
    return _read(path, _selection)


def _read(path: Path, convert: Callable[[list[dict[str, str]]], _Read]) -> _Read:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = sorted(csv.DictReader(file), key=lambda row: int(row["rank"]))
        ids = {_original(row["image_id"]) for row in rows}
        converted = convert(rows)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    except (AttributeError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise DataError(f"{path} must be a selection.csv as detal writes it: {error!r}") from None
    if len(ids) != len(rows):
        raise DataError(f"{path} must name every image once")
    return converted


def _image(row: dict[str, str]) -> Image:
    if "\0" in row["path"]:
        raise ValueError("a path must not hold NUL")
    return Image(
        image_id=_original(row["image_id"]),
        path=_original(row["path"]),
        width=int(row["width"]),
        height=int(row["height"]),
        group=_original(row["group"]) or None,
    )


def _selection(
    rows: list[dict[str, str]],
) -> tuple[tuple[Image, ...], Selection, NDArray[np.float64]]:
    images = tuple(_image(row) for row in rows)
    costs = np.array([float(row["cost"]) for row in rows])
    unit = rows[0]["cost_unit"] if rows else "images"
    if unit not in get_args(BudgetUnit):
        raise ValueError(f"cost_unit {unit!r}")
    selection = Selection(
        image_ids=tuple(image.image_id for image in images),
        scores=np.array([float(row["score"] or "nan") for row in rows]),
        costs=costs,
        reasons=tuple(_original(row["reason"]) for row in rows),
        budget=Budget(amount=float(costs.sum()) or 1.0, unit=cast("BudgetUnit", unit)),
        passed_over={},
    )
    return images, selection, np.array([float(row["expected_boxes"]) for row in rows])


def plain_text(text: str) -> str:
    """The text, with an apostrophe before what a spreadsheet would run as a formula."""
    return f"'{text}" if _is_risky(text) else text


def _original(text: str) -> str:
    return text[1:] if text.startswith("'") and _is_risky(text) else text


def _is_risky(text: str) -> bool:
    """Whether it would be a formula, or be taken for a protected one when read back."""
    return text.lstrip("'").startswith(_FORMULA_STARTS)
