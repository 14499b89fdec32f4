"""``selection.csv``: one row per image, for people and spreadsheets."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from detal.errors import DataError
from detal.manifests.batch import Batch, Image

__all__ = ["COLUMNS", "read_csv", "write_csv"]

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
                    _plain(image.image_id),
                    _plain(image.path),
                    image.width,
                    image.height,
                    _plain(image.group or ""),
                    "" if math.isnan(score) else f"{score:.6g}",
                    f"{batch.expected_boxes[row]:.3f}",
                    f"{batch.selection.costs[row]:.3f}",
                    batch.selection.budget.unit,
                    counts[row],
                    _plain(batch.selection.reasons[row]),
                ]
            )


def read_csv(path: Path) -> tuple[Image, ...]:
    """The images of a manifest by rank, also after a spreadsheet has sorted and saved the file.

    Raises:
        DataError: If the file cannot be read or is no selection.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = sorted(csv.DictReader(file), key=lambda row: int(row["rank"]))
        images = tuple(
            Image(
                image_id=_original(row["image_id"]),
                path=_original(row["path"]),
                width=int(row["width"]),
                height=int(row["height"]),
                group=_original(row["group"]) or None,
            )
            for row in rows
        )
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise DataError(f"{path} must be a selection.csv as detal writes it: {error!r}") from None
    if len({image.image_id for image in images}) != len(images):
        raise DataError(f"{path} must name every image once")
    return images


def _plain(text: str) -> str:
    return f"'{text}" if _is_risky(text) else text


def _original(text: str) -> str:
    return text[1:] if text.startswith("'") and _is_risky(text) else text


def _is_risky(text: str) -> bool:
    """Whether it would be a formula, or be taken for a protected one when read back."""
    return text.lstrip("'").startswith(_FORMULA_STARTS)
