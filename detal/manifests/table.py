"""``selection.csv``: one row per image, for people and spreadsheets."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from detal.manifests.batch import Batch

__all__ = ["COLUMNS", "write_csv"]

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
    text that a spreadsheet would run as a formula gets a leading apostrophe; read ids back from
    ``coco.json``.
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


def _plain(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
