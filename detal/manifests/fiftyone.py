"""FiftyOne: samples with predictions, fields and a tag, so that its app is a viewer.

Own writer of what its own exporter writes: FiftyOne needs a database to be imported at all.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from detal.manifests.batch import Batch, Image
from detal.manifests.image_references import HandedImages
from detal.manifests.offered import Offered, offered_boxes, stated_fields

__all__ = ["write_fiftyone"]

_TAG = "detal"
_DIGITS = 8


def write_fiftyone(folder: Path, batch: Batch, handed: HandedImages) -> None:
    """Write ``samples.json`` and ``metadata.json``.

    Opens with ``fo.Dataset.from_dir(folder, dataset_type=fo.types.LegacyFiftyOneDataset)``. The app
    shows the boxes as ``predictions`` with confidence, and filters and sorts by ``detal_rank``,
    ``detal_score``, ``detal_reason``, ``detal_expected_boxes`` and ``detal_group``; every sample
    has the tag ``detal``.

    Args:
        folder: Made; must not exist.
        batch: What to write.
        handed: How the images are named.
    """
    folder.mkdir()
    paths = [f"../{place}" for place in handed.places] or handed.references
    samples = [
        {
            "filepath": paths[row],
            "tags": [_TAG],
            "metadata": {
                "_cls": "ImageMetadata",
                "width": batch.images[row].width,
                "height": batch.images[row].height,
            },
            "predictions": {
                "_cls": "Detections",
                "detections": [_detection(box, batch.images[row]) for box in boxes],
            },
            **stated_fields(batch, row),
            "detal_expected_boxes": round(float(batch.expected_boxes[row]), 3),
            "detal_group": batch.images[row].group,
        }
        for row, boxes in enumerate(offered_boxes(batch))
    ]
    _write(folder / "samples.json", {"samples": samples})
    info = {"classes": list(batch.class_names)}
    _write(folder / "metadata.json", {"media_type": "image", "info": info})


def _detection(offered: Offered, image: Image) -> dict[str, Any]:
    x1, y1, x2, y2 = offered.box
    width, height = image.width, image.height
    parts = (x1 / width, y1 / height, (x2 - x1) / width, (y2 - y1) / height)
    return {
        "_cls": "Detection",
        "label": offered.name,
        "bounding_box": [round(part, _DIGITS) for part in parts],
        "confidence": offered.score,
    }


def _write(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1)
    path.write_text(text + "\n", encoding="utf-8")
