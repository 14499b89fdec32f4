"""Pascal VOC: one XML file per image.

Corners are counted from 0 and not rounded to whole pixels, as CVAT and datumaro write them and as
`detal.datasets.voc` reads them. Own writer: none of the libraries writes scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from detal.manifests.batch import Batch
from detal.manifests.image_references import HandedImages
from detal.manifests.names import check_class_names, xml_safe
from detal.manifests.offered import Offered, offered_boxes, stated_fields

__all__ = ["check_voc_names", "write_voc"]


def write_voc(folder: Path, batch: Batch, handed: HandedImages) -> None:
    """Write ``Annotations/*.xml`` and ``ImageSets/Main/default.txt``.

    ``<score>`` of an object is the prediction's; ``<detal>`` says why the image was chosen. Both
    are for people and scripts: most tools drop what they do not know. Files are named like the
    images in the YOLO folder, by which annotations are merged.

    Args:
        folder: Made; must not exist.
        batch: What to write.
        handed: How the images are named.

    Raises:
        DataError: If the format cannot hold a class name.
    """
    check_voc_names(batch.class_names)
    (folder / "Annotations").mkdir(parents=True)
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    for row, boxes in enumerate(offered_boxes(batch)):
        root = _annotation(batch, row, handed)
        for box in boxes:
            _add_object(root, box)
        ElementTree.indent(root)
        text = ElementTree.tostring(root, encoding="unicode")
        name = Path(handed.names[row]).stem
        (folder / "Annotations" / f"{name}.xml").write_text(text + "\n", encoding="utf-8")
    stems = "".join(f"{Path(name).stem}\n" for name in handed.names)
    (folder / "ImageSets" / "Main" / "default.txt").write_text(stems, encoding="utf-8")


def check_voc_names(class_names: Sequence[str]) -> None:
    """Check that the format can hold the class names.

    Raises:
        DataError: If it cannot.
    """
    check_class_names(class_names, "VOC")


def _annotation(batch: Batch, row: int, handed: HandedImages) -> Element:
    image = batch.images[row]
    root = Element("annotation")
    SubElement(root, "folder").text = "images"
    SubElement(root, "filename").text = xml_safe(handed.names[row])
    SubElement(root, "path").text = xml_safe(handed.references[row])
    SubElement(SubElement(root, "source"), "database").text = "detal"
    size = SubElement(root, "size")
    for tag, value in (("width", image.width), ("height", image.height), ("depth", 3)):
        SubElement(size, tag).text = str(value)
    SubElement(root, "segmented").text = "0"
    why = SubElement(root, "detal")
    for name, field in stated_fields(batch, row).items():
        text = "" if field is None else xml_safe(str(field))
        SubElement(why, name.removeprefix("detal_")).text = text
    return root


def _add_object(root: Element, offered: Offered) -> None:
    thing = SubElement(root, "object")
    SubElement(thing, "name").text = offered.name
    for tag, text in (("pose", "Unspecified"), ("truncated", "0"), ("difficult", "0")):
        SubElement(thing, tag).text = text
    SubElement(thing, "score").text = f"{offered.score:.4f}"
    box = SubElement(thing, "bndbox")
    for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), offered.box, strict=True):
        SubElement(box, tag).text = f"{value:.2f}".rstrip("0").rstrip(".")
