"""``boxes.csv``: one row per pre-annotation, for scripts and spreadsheets."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from detal.manifests.batch import Batch
from detal.manifests.offered import offered_boxes
from detal.manifests.table import plain_text

__all__ = ["BOX_COLUMNS", "write_boxes_csv"]

BOX_COLUMNS = ("rank", "image_id", "image", "class", "score", "x1", "y1", "x2", "y2")


def write_boxes_csv(path: Path, batch: Batch, references: Sequence[str]) -> None:
    """Write one row per box in the selection's order (UTF-8, comma separated, pixels).

    Texts that a spreadsheet would run as formulas get a leading apostrophe.

    Args:
        path: File to write.
        batch: What to write.
        references: Path or URL of each image.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(BOX_COLUMNS)
        for row, boxes in enumerate(offered_boxes(batch)):
            for box in boxes:
                corners = [f"{value:.2f}" for value in box.box]
                texts = (batch.images[row].image_id, references[row], box.name)
                plain = [plain_text(text) for text in texts]
                writer.writerow([row + 1, *plain, f"{box.score:.4f}", *corners])
