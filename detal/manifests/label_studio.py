"""Label Studio: tasks with predictions, and the labelling config for them.

Own writer: no library writes its tasks with scores and data of one's own; its SDK checks them in
the tests, and so does the real tool (`make test-label-studio`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any
from xml.etree import ElementTree

from detal.errors import DataError
from detal.manifests.batch import Batch, Image
from detal.manifests.names import check_class_names
from detal.manifests.offered import Offered, offered_boxes, stated_fields

__all__ = ["FROM_NAME", "TO_NAME", "labelling_config", "tasks_of", "write_label_studio"]

FROM_NAME = "label"
"""Name of the control that draws boxes, in config and predictions."""
TO_NAME = "image"
"""Name of the object that is drawn on, and of the image in the data."""

_PERCENT_DIGITS = 6


def write_label_studio(
    folder: Path, batch: Batch, references: Sequence[str], *, model_version: str
) -> None:
    """Write ``tasks.json`` and ``config.xml``.

    Args:
        folder: Made; must not exist.
        batch: What to write.
        references: Path or URL of each image.
        model_version: Says in the tool which detector made the predictions.

    Raises:
        DataError: If the tool cannot hold a class name.
    """
    config = labelling_config(batch.class_names)
    folder.mkdir()
    tasks = tasks_of(batch, references, model_version=model_version)
    text = json.dumps(tasks, ensure_ascii=False, allow_nan=False, indent=1)
    (folder / "tasks.json").write_text(text + "\n", encoding="utf-8")
    (folder / "config.xml").write_text(config, encoding="utf-8")


def labelling_config(class_names: Sequence[str]) -> str:
    """The labelling interface: image, boxes of the classes, and why the image was chosen.

    Raises:
        DataError: If the tool cannot hold a class name.
    """
    check_class_names(class_names, "Label Studio")
    for name in class_names:
        if name.startswith("$"):  # stands for a value of the task's data
            raise DataError(f"for Label Studio a class name must not begin with $, got {name!r}")
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Header", value="$detal_reason")
    ElementTree.SubElement(view, "Image", name=TO_NAME, value=f"${TO_NAME}", zoom="true")
    labels = ElementTree.SubElement(view, "RectangleLabels", name=FROM_NAME, toName=TO_NAME)
    for name in class_names:
        ElementTree.SubElement(labels, "Label", value=name)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def tasks_of(
    batch: Batch, references: Sequence[str], *, model_version: str
) -> list[dict[str, Any]]:
    """One task for each image, in the selection's order.

    The data says what the data manager can sort and filter by: ``detal_rank``, ``detal_score``
    (acquisition score, higher = more informative), ``detal_reason``, ``detal_expected_boxes``,
    ``detal_group`` and ``detal_image_id``, by which annotations are merged. The score of a
    prediction is the mean of its boxes' scores; an image without boxes has no prediction.

    Args:
        batch: What to write.
        references: Path or URL of each image.
        model_version: Of the predictions.
    """
    tasks = []
    for row, (image, boxes) in enumerate(zip(batch.images, offered_boxes(batch), strict=True)):
        data = {
            TO_NAME: references[row],
            **stated_fields(batch, row),
            "detal_expected_boxes": round(float(batch.expected_boxes[row]), 3),
            "detal_group": image.group,
        }
        prediction = {
            "model_version": model_version,
            "score": round(fmean(box.score for box in boxes), 4) if boxes else 0.0,
            "result": [_result(box, image, number) for number, box in enumerate(boxes, start=1)],
        }
        tasks.append({"data": data, "predictions": [prediction] if boxes else []})
    return tasks


def _result(offered: Offered, image: Image, number: int) -> dict[str, Any]:
    x1, y1, x2, y2 = offered.box
    value = {
        "x": 100 * x1 / image.width,
        "y": 100 * y1 / image.height,
        "width": 100 * (x2 - x1) / image.width,
        "height": 100 * (y2 - y1) / image.height,
        "rotation": 0.0,
    }
    return {
        "id": f"detal{number}",
        "type": "rectanglelabels",
        "from_name": FROM_NAME,
        "to_name": TO_NAME,
        "original_width": image.width,
        "original_height": image.height,
        "image_rotation": 0,
        "score": offered.score,
        "value": {
            **{key: round(percent, _PERCENT_DIGITS) for key, percent in value.items()},
            "rectanglelabels": [offered.name],
        },
    }
