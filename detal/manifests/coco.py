"""``coco.json``: the chosen images with the predictions as annotations."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from detal.boxes import xyxy_to_xywh
from detal.manifests.batch import Batch

__all__ = ["write_coco"]

_PIXEL_DIGITS = 2
_SCORE_DIGITS = 4


def write_coco(path: Path, batch: Batch, *, images_root: Path | None = None) -> None:
    """Write COCO object-detection JSON; the annotations are also a valid results list.

    Images keep their id where the source's ids are integers, else they are numbered from 1; either
    way ``detal_image_id`` is the source's id as text. ``detal_rank``, ``detal_score`` and
    ``detal_reason`` say why an image is there. Boxes are rounded to 0.01 px, scores to 0.0001.

    Args:
        path: File to write.
        batch: What to write.
        images_root: Files below it are named relative to it, others by their absolute path.
    """
    ids = [
        int(image.image_id) if batch.integer_ids else number
        for number, image in enumerate(batch.images, start=1)
    ]
    content = {
        "info": {"description": "images chosen by detal; annotations are predictions"},
        "licenses": [],
        "images": [_image(batch, row, image_id, images_root) for row, image_id in enumerate(ids)],
        "annotations": _annotations(batch, ids),
        "categories": [
            {"id": category_id, "name": name, "supercategory": ""}
            for category_id, name in zip(batch.category_ids, batch.class_names, strict=True)
        ],
    }
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1)
    path.write_text(text + "\n", encoding="utf-8")


def _image(batch: Batch, row: int, image_id: int, images_root: Path | None) -> dict[str, Any]:
    image = batch.images[row]
    score = float(batch.selection.scores[row])
    file = Path(image.path)
    inside = images_root is not None and file.is_relative_to(images_root)
    return {
        "id": image_id,
        "file_name": file.relative_to(images_root).as_posix()
        if images_root is not None and inside
        else str(file),
        "width": image.width,
        "height": image.height,
        "detal_image_id": image.image_id,
        "detal_rank": row + 1,
        "detal_score": None if math.isnan(score) else float(f"{score:.6g}"),
        "detal_reason": batch.selection.reasons[row],
    }


def _annotations(batch: Batch, ids: list[int]) -> list[dict[str, Any]]:
    seen = batch.detections
    boxes = xyxy_to_xywh(seen.boxes.numpy()).round(_PIXEL_DIGITS).tolist()
    rows = zip(
        seen.image_index.tolist(), seen.labels.tolist(), boxes, seen.scores.tolist(), strict=True
    )
    return [
        {
            "id": number,
            "image_id": ids[image],
            "category_id": batch.category_ids[label],
            "bbox": box,
            "area": round(box[2] * box[3], _PIXEL_DIGITS),
            "iscrowd": 0,
            "segmentation": [],
            "score": round(score, _SCORE_DIGITS),
        }
        for number, (image, label, box, score) in enumerate(rows, start=1)
    ]
