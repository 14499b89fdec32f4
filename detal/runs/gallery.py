"""The images of a run as the page's script reads them."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from detal.manifests import Batch
from detal.report.html_page import class_hex

__all__ = ["gallery_data", "reason_kind"]

_NUMBER = re.compile(r"[+-]?\d[\d.,]*(?:e[+-]?\d+)?(?: ?%)?")
_MOST_KINDS = 20


def gallery_data(
    batch: Batch, *, count: int, min_score: float, points: list[list[float]]
) -> dict[str, Any]:
    """Everything about the images but their pixels, as JSON values.

    Args:
        batch: The batch, then the reserve.
        count: Images of the batch proper.
        min_score: Lowest score of the boxes that are there.
        points: Place of each image in the map; empty if there is no map.

    Returns:
        ``classes``, ``colors``, ``unit``, ``count``, ``min_score``, ``kinds`` of reasons, and
        ``images``: ``id``, ``n`` (file name), ``path``, ``g`` (group), ``w``, ``h``, ``s`` (score
        or None), ``e`` (expected boxes), ``c`` (cost), ``r`` (reason), ``k`` (its kind), ``p``
        (place in the map) and ``b`` (six numbers per box: x, y, width, height, label, score).
    """
    kinds = [reason_kind(reason) for reason in batch.selection.reasons]
    names = sorted(set(kinds))
    if len(names) > _MOST_KINDS:
        names, kinds = [], [""] * len(kinds)
    number_of = {name: number for number, name in enumerate(names)}
    offsets = batch.detections.offsets.tolist()
    boxes = _packed_boxes(batch)
    images = []
    for row, image in enumerate(batch.images):
        score = float(batch.selection.scores[row])
        images.append(
            {
                "id": image.image_id,
                "n": Path(image.path).name,
                "path": image.path,
                "g": image.group or "",
                "w": image.width,
                "h": image.height,
                "s": None if math.isnan(score) else float(f"{score:.6g}"),
                "e": round(float(batch.expected_boxes[row]), 3),
                "c": round(float(batch.selection.costs[row]), 3),
                "r": batch.selection.reasons[row],
                "k": number_of.get(kinds[row], -1),
                "p": points[row] if points else None,
                "b": boxes[6 * offsets[row] : 6 * offsets[row + 1]],
            }
        )
    return {
        "classes": list(batch.class_names),
        "colors": [class_hex(label) for label in range(len(batch.class_names))],
        "unit": batch.selection.budget.unit,
        "count": count,
        "min_score": min_score,
        "kinds": names,
        "images": images,
        "served": False,
    }


def _packed_boxes(batch: Batch) -> list[float]:
    seen = batch.detections
    rows = zip(seen.boxes.tolist(), seen.labels.tolist(), seen.scores.tolist(), strict=True)
    packed: list[float] = []
    for (left, top, right, bottom), label, score in rows:
        packed += [round(left, 1), round(top, 1), round(right - left, 1), round(bottom - top, 1)]
        packed += [label, round(score, 3)]
    return packed


def reason_kind(reason: str) -> str:
    """The first part of a reason without its numbers: what reasons of one kind have in common."""
    first = re.split(r"[;,](?!\d)", reason, maxsplit=1)[0]
    return " ".join(_NUMBER.sub("…", first).split())
