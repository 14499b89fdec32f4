"""``yolo/``: links to the images, label files and a ``data.yaml`` that trains as it is."""

from __future__ import annotations

import shutil
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import yaml

from detal.boxes import xyxy_to_cxcywhn
from detal.datasets.images import YOLO_SUFFIXES, read_image
from detal.errors import DataError
from detal.manifests.batch import Batch, Image

__all__ = ["file_names", "write_yolo"]

_HEADER = """\
# The boxes are predictions: correct them before training counts for anything.
# `val` is the same batch, so that `yolo train` starts; name your own validation set for figures.
"""


def write_yolo(folder: Path, batch: Batch) -> None:
    """Write a YOLO dataset.

        images/      one link per image (a copy where links are impossible, a PNG for file types
                     that ultralytics does not read)
        labels/      one text file per image: class cx cy w h, in parts of the image; may be empty
        images.txt   the images in the selection's order
        data.yaml    ``yolo train data=.../data.yaml``; holds no absolute path, so it can be moved

    Args:
        folder: Made; must not exist.
        batch: What to write.

    Raises:
        DataError: If an image file is missing.
    """
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    names = file_names(batch.images)
    offsets = batch.detections.offsets.tolist()
    for row, (image, name) in enumerate(zip(batch.images, names, strict=True)):
        _place(Path(image.path), folder / "images" / name)
        label_file = (folder / "labels" / name).with_suffix(".txt")
        label_file.write_text(
            _label_lines(batch, image, offsets[row], offsets[row + 1]), encoding="utf-8"
        )
    listing = "".join(f"./images/{name}\n" for name in names)
    (folder / "images.txt").write_text(listing, encoding="utf-8")
    content = {
        "train": "images.txt",
        "val": "images.txt",
        "names": dict(enumerate(batch.class_names)),
    }
    text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=10_000)
    (folder / "data.yaml").write_text(_HEADER + text, encoding="utf-8")


def file_names(images: Sequence[Image]) -> list[str]:
    """One file name per image, so that no two share image or label file.

    An image keeps its own name, spaces and letters of any script included. Where names collide
    (also by letter case, by Unicode form or by extension alone, because labels lose the extension)
    the later ones get ``_2``, ``_3``, … Characters that would break a list of files become ``_``. A
    name whose ending ultralytics does not know (``.jfif``, ``.gif``) gets ``.png`` appended.
    """
    wanted = [_legal(Path(image.path)) for image in images]
    taken = Counter(_key(Path(name).stem) for name in wanted)
    seen: set[str] = set()
    names = []
    for name in wanted:
        stem, suffix = Path(name).stem, Path(name).suffix
        unique, number = stem, 1
        while _key(unique) in seen or (number > 1 and _key(unique) in taken):
            number += 1
            unique = f"{stem}_{number}"
        seen.add(_key(unique))
        names.append(unique + suffix)
    return names


def _key(stem: str) -> str:
    return unicodedata.normalize("NFC", stem).casefold()


def _legal(path: Path) -> str:
    printable = "".join(
        "_" if unicodedata.category(c) in {"Cc", "Zl", "Zp"} else c for c in path.name
    )
    return printable if Path(printable).suffix.lower() in YOLO_SUFFIXES else f"{printable}.png"


def _label_lines(batch: Batch, image: Image, start: int, stop: int) -> str:
    rows = xyxy_to_cxcywhn(
        batch.detections.boxes[start:stop].numpy(), width=image.width, height=image.height
    )
    labels = batch.detections.labels[start:stop].tolist()
    return "".join(
        f"{label} {' '.join(f'{value:.6f}' for value in row)}\n"
        for label, row in zip(labels, rows.tolist(), strict=True)
    )


def _place(source: Path, target: Path) -> None:
    """Link, copy or, where ultralytics would not take the file by its name, convert the image."""
    if not source.is_file():
        raise DataError(f"a selected image must exist, found no file {source}")
    if source.suffix.lower() not in YOLO_SUFFIXES:
        bgr = cv2.cvtColor(read_image(source).pixels, cv2.COLOR_RGB2BGR)
        target.write_bytes(cv2.imencode(".png", bgr)[1].tobytes())
        return
    try:
        target.symlink_to(source.absolute())
    except (OSError, NotImplementedError):  # a file system or a Windows account without links
        shutil.copyfile(source, target)
