"""CVAT for images 1.1, and the labels that its task needs.

Own writer: datumaro writes the format too, but neither scores nor ids, in another order.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from detal.datasets.cvat import CVAT_FILE, CVAT_TAG
from detal.manifests.batch import Batch
from detal.manifests.names import check_class_names, check_xml_text, xml_safe
from detal.manifests.offered import Offered, offered_boxes, stated_fields

__all__ = ["SCORE_ATTRIBUTE", "check_cvat_names", "write_cvat"]

SCORE_ATTRIBUTE = "detal_conf"
"""Attribute of a box with its score: CVAT's importer reads no score of its own."""

_MAX_NAME = 64  # CVAT cuts longer names without a word


def write_cvat(folder: Path, batch: Batch, names: Sequence[str]) -> None:
    """Write ``annotations.xml``, and ``labels.json`` for making the task.

    Why an image was chosen is a tag of the image (label ``detal_selection``) with attributes; one
    of them is the image's id, by which annotations are merged.

    Args:
        folder: Made; must not exist.
        batch: What to write.
        names: What CVAT calls the images: it matches annotations to images by name.

    Raises:
        DataError: If the tool cannot hold a class name, an image's id or name.
    """
    check_cvat_names(batch.class_names)
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    labels = _labels(batch.class_names)
    _add_meta(root, labels, len(batch))
    for row, boxes in enumerate(offered_boxes(batch)):
        image = SubElement(
            root,
            "image",
            id=str(row),
            name=check_xml_text(names[row], "an image's name"),
            width=str(batch.images[row].width),
            height=str(batch.images[row].height),
        )
        for box in boxes:
            _add_box(image, box)
        _add_tag(image, stated_fields(batch, row))
    folder.mkdir()
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(folder / CVAT_FILE, encoding="utf-8", xml_declaration=True)
    text = json.dumps(labels, ensure_ascii=False, indent=1)
    (folder / "labels.json").write_text(text + "\n", encoding="utf-8")


def check_cvat_names(class_names: Sequence[str]) -> None:
    """Check that CVAT can hold the class names.

    Raises:
        DataError: If it cannot.
    """
    check_class_names(class_names, "CVAT", max_length=_MAX_NAME, reserved=CVAT_TAG)


def _labels(class_names: Sequence[str]) -> list[dict[str, Any]]:
    """The labels as CVAT's API takes them."""
    boxes = [
        {"name": name, "type": "rectangle", "attributes": [_attribute(SCORE_ATTRIBUTE)]}
        for name in class_names
    ]
    fields = ("detal_image_id", "detal_rank", "detal_score", "detal_reason")
    tag = {"name": CVAT_TAG, "type": "tag", "attributes": [_attribute(name) for name in fields]}
    return [*boxes, tag]


def _attribute(name: str) -> dict[str, Any]:
    text = {"input_type": "text", "default_value": "", "values": [""]}
    return {"name": name, "mutable": False, **text}


def _add_meta(root: Element, labels: Sequence[dict[str, Any]], num_images: int) -> None:
    task = SubElement(SubElement(root, "meta"), "task")
    SubElement(task, "size").text = str(num_images)
    group = SubElement(task, "labels")
    for stated in labels:
        label = SubElement(group, "label")
        SubElement(label, "name").text = stated["name"]
        SubElement(label, "type").text = stated["type"]
        attributes = SubElement(label, "attributes")
        for field in stated["attributes"]:
            attribute = SubElement(attributes, "attribute")
            SubElement(attribute, "name").text = field["name"]
            SubElement(attribute, "mutable").text = "False"
            SubElement(attribute, "input_type").text = "text"
            SubElement(attribute, "default_value").text = ""
            SubElement(attribute, "values").text = ""


def _add_box(image: Element, offered: Offered) -> None:
    sides = zip(("xtl", "ytl", "xbr", "ybr"), offered.box, strict=True)
    stated = {side: f"{value:.2f}" for side, value in sides}
    fixed = {"label": offered.name, "source": "auto", "occluded": "0", "z_order": "0"}
    box = SubElement(image, "box", attrib={**fixed, **stated})
    SubElement(box, "attribute", name=SCORE_ATTRIBUTE).text = f"{offered.score:.4f}"


def _add_tag(image: Element, fields: dict[str, Any]) -> None:
    tag = SubElement(image, "tag", label=CVAT_TAG, source="auto")
    image_id = check_xml_text(fields["detal_image_id"], "an image's id")
    texts = {**fields, "detal_image_id": image_id, "detal_reason": xml_safe(fields["detal_reason"])}
    for name, value in texts.items():
        SubElement(tag, "attribute", name=name).text = "" if value is None else str(value)
