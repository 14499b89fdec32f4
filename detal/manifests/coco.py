"""``coco.json``: the chosen images with the predictions as annotations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detal.boxes import xyxy_to_xywh
from detal.manifests.batch import PIXEL_DIGITS, SCORE_DIGITS, Batch
from detal.manifests.offered import stated_fields

__all__ = ["write_coco"]


def write_coco(path: Path, batch: Batch, *, file_names: Sequence[str] | None = None) -> None:
    """Write COCO object-detection JSON; the annotations are also a valid results list.

    Images keep their id where the source's ids are integers, else they are numbered from 1; either
    way ``detal_image_id`` is the source's id as text. ``detal_rank``, ``detal_score`` and
    ``detal_reason`` say why an image is there. Boxes are rounded to 0.01 px, scores to 0.0001.

    Args:
        path: File to write.
        batch: What to write.
        file_names: What each image is called, by default its absolute path.
    """
    names = [image.path for image in batch.images] if file_names is None else file_names
    ids = [
        int(image.image_id) if batch.integer_ids else number
        for number, image in enumerate(batch.images, start=1)
    ]
    content = {
        "info": {"description": "images chosen by detal; annotations are predictions"},
        "licenses": [],
        "images": [_image(batch, row, ids[row], name) for row, name in enumerate(names)],
        "annotations": _annotations(batch, ids),
        "categories": [
            {"id": category_id, "name": name, "supercategory": ""}
            for category_id, name in zip(batch.category_ids, batch.class_names, strict=True)
        ],
    }
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1)
    path.write_text(text + "\n", encoding="utf-8")


def _image(batch: Batch, row: int, image_id: int, file_name: str) -> dict[str, Any]:
    return {
        "id": image_id,
        "file_name": file_name,
        "width": batch.images[row].width,
        "height": batch.images[row].height,
        **stated_fields(batch, row),
    }


def _annotations(batch: Batch, ids: list[int]) -> list[dict[str, Any]]:
    seen = batch.detections
    boxes = xyxy_to_xywh(seen.boxes.numpy()).round(PIXEL_DIGITS).tolist()
    rows = zip(
        seen.image_index.tolist(), seen.labels.tolist(), boxes, seen.scores.tolist(), strict=True
    )
    return [
        {
            "id": number,
            "image_id": ids[image],
            "category_id": batch.category_ids[label],
            "bbox": box,
            "area": round(box[2] * box[3], PIXEL_DIGITS),
            "iscrowd": 0,
            "segmentation": [],
            "score": round(score, SCORE_DIGITS),
        }
        for number, (image, label, box, score) in enumerate(rows, start=1)
    ]
