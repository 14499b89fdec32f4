"""The files of a YOLO dataset, whoever made the labels."""

from __future__ import annotations

import shutil
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import yaml
from numpy.typing import NDArray

from detal.boxes import xyxy_to_cxcywhn
from detal.datasets.images import YOLO_SUFFIXES, read_image
from detal.errors import DataError
from detal.files import is_file

__all__ = ["label_lines", "name_key", "place_image", "unique_names", "write_yolo_files"]


def write_yolo_files(
    folder: Path,
    paths: Sequence[str],
    labels: Sequence[str],
    *,
    class_names: Sequence[str],
    header: str,
    num_val: int = 0,
) -> None:
    """Write a YOLO dataset.

        images/      one link per image (a copy where links are impossible, a PNG for file types
                     that ultralytics does not read)
        labels/      one text file per image: class cx cy w h, in parts of the image; may be empty
        images.txt   the images in the given order
        val.txt      the validation images, if there are any
        data.yaml    ``yolo train data=.../data.yaml``; holds no absolute path, so it can be moved

    Args:
        folder: Made if absent; otherwise empty.
        paths: P image files.
        labels: P contents of label files (`label_lines`).
        class_names: C names, in label order.
        header: Comment lines at the top of ``data.yaml``.
        num_val: How many of the images, the last ones, are for validation; with none of them
            ``val`` is the training set, because ultralytics insists on one.

    Raises:
        DataError: If an image file is missing.
    """
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    names = unique_names(paths)
    for name, path, text in zip(names, paths, labels, strict=True):
        place_image(Path(path), folder / "images" / name)
        (folder / "labels" / name).with_suffix(".txt").write_text(text, encoding="utf-8")
    num_train = len(names) - num_val
    _write_list(folder / "images.txt", names[:num_train])
    if num_val:
        _write_list(folder / "val.txt", names[num_train:])
    content = {
        "train": "images.txt",
        "val": "val.txt" if num_val else "images.txt",
        "names": dict(enumerate(class_names)),
    }
    text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=10_000)
    (folder / "data.yaml").write_text(header + text, encoding="utf-8")


def label_lines(boxes: NDArray[Any], labels: NDArray[Any], *, width: int, height: int) -> str:
    """Content of one label file.

    Args:
        boxes: (n, 4) xyxy in pixels.
        labels: (n,) int64.
        width: Of the image, in pixels.
        height: Of the image, in pixels.
    """
    rows = xyxy_to_cxcywhn(boxes, width=width, height=height)
    return "".join(
        f"{label} {' '.join(f'{value:.6f}' for value in row)}\n"
        for label, row in zip(labels.tolist(), rows.tolist(), strict=True)
    )


def unique_names(paths: Sequence[str]) -> list[str]:
    """One file name per image, so that no two share image or label file.

    An image keeps its own name, spaces and letters of any script included. Where names collide
    (also by letter case, by Unicode form or by extension alone, because labels lose the extension)
    the later ones get ``_2``, ``_3``, … Characters that would break a list of files become ``_``. A
    name whose ending ultralytics does not know (``.jfif``, ``.gif``) gets ``.png`` appended.
    """
    wanted = [_legal(Path(path)) for path in paths]
    taken = Counter(name_key(name) for name in wanted)
    seen: set[str] = set()
    names = []
    for name in wanted:
        stem, suffix = Path(name).stem, Path(name).suffix
        unique, number = name, 1
        while name_key(unique) in seen or (number > 1 and name_key(unique) in taken):
            number += 1
            unique = f"{stem}_{number}{suffix}"
        seen.add(name_key(unique))
        names.append(unique)
    return names


def name_key(name: str) -> str:
    """What two file names must not share: the name without ending, letter case and Unicode form."""
    return unicodedata.normalize("NFC", Path(name).stem).casefold()


def _legal(path: Path) -> str:
    printable = "".join(
        "_" if c == "\\" or unicodedata.category(c) in {"Cc", "Zl", "Zp"} else c for c in path.name
    )
    return printable if Path(printable).suffix.lower() in YOLO_SUFFIXES else f"{printable}.png"


def _write_list(path: Path, names: Sequence[str]) -> None:
    path.write_text("".join(f"./images/{name}\n" for name in names), encoding="utf-8")


def place_image(source: Path, target: Path, *, copy: bool = False) -> None:
    """Link, copy or, where ultralytics would not take the file by its name, convert the image.

    Args:
        source: The image.
        target: The file to make; its folder exists.
        copy: Copy also where links are possible.

    Raises:
        DataError: If there is no such image.
    """
    if not is_file(source):
        raise DataError(f"an image must exist to be linked, found no file {source}")
    if source.suffix.lower() not in YOLO_SUFFIXES:
        bgr = cv2.cvtColor(read_image(source).pixels, cv2.COLOR_RGB2BGR)
        target.write_bytes(cv2.imencode(".png", bgr)[1].tobytes())
        return
    if copy:
        shutil.copyfile(source, target)
        return
    try:
        target.symlink_to(source.absolute())
    except (OSError, NotImplementedError):  # a file system or a Windows account without links
        shutil.copyfile(source, target)
