"""Open a dataset in any of the formats we read."""

from __future__ import annotations

import glob
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol, get_args

from detal.datasets.coco import read_coco
from detal.datasets.coco_files import coco_files
from detal.datasets.cvat import CVAT_FILE, is_cvat, read_cvat
from detal.datasets.dataset import Dataset
from detal.datasets.folder import read_folder
from detal.datasets.images import IMAGE_SUFFIXES
from detal.datasets.label_studio import read_label_studio
from detal.datasets.listing import absolute, files_below
from detal.datasets.metadata import join_metadata
from detal.datasets.voc import read_voc
from detal.datasets.voc_files import find_voc_root
from detal.datasets.yolo import read_yolo
from detal.datasets.yolo_yaml import find_yaml
from detal.errors import ConfigError, DataError, reason, unknown_name
from detal.files import exists

__all__ = ["FORMATS", "READERS", "DatasetFormat", "Reader", "detect_format", "open_dataset"]

DatasetFormat = Literal["auto", "coco", "voc", "yolo", "folder", "label_studio", "cvat"]


class Reader(Protocol):
    """Reads one format."""

    def __call__(
        self,
        path: str | Path,
        *,
        images_root: str | Path | None = None,
        split: str | None = None,
        class_names: Sequence[str] | None = None,
    ) -> Dataset:
        """Open the dataset at ``path``.

        Raises:
            DataError: If it cannot be read at all.
        """
        ...


READERS: dict[str, Reader] = {
    "coco": read_coco,
    "voc": read_voc,
    "yolo": read_yolo,
    "folder": read_folder,
    "label_studio": read_label_studio,
    "cvat": read_cvat,
}
"""Reader of each format."""

FORMATS: tuple[str, ...] = get_args(DatasetFormat)
"""Names that ``format`` may have."""


_LOOK_AT = 10_000  # files of a folder that tell its format: a pool may hold millions


def open_dataset(
    path: str | Path,
    *,
    format: str = "auto",  # noqa: A002 - the word users know from configs
    images_root: str | Path | None = None,
    split: str | None = None,
    class_names: Sequence[str] | None = None,
    metadata: str | Path | None = None,
) -> Dataset:
    """Open a dataset; what is wrong with single images and objects is in its ``problems``.

    Args:
        path: COCO JSON, YOLO ``data.yaml``, VOC folder, Label Studio JSON, CVAT XML, image folder,
            glob, list of paths, image.
        format: ``auto`` or one of ``READERS``.
        images_root: Folder of the images, where the dataset does not tell.
        split: Split inside the dataset; all of it by default.
        class_names: Classes in label order; by default what the dataset says.
        metadata: CSV with one row per image (`join_metadata`).

    Raises:
        ConfigError: If there is no such format.
        DataError: If nothing is there, it is in no format we know, or it cannot be read at all.
    """
    if format not in FORMATS:
        raise ConfigError(unknown_name("dataset format", format, FORMATS))
    try:
        if not exists(absolute(path)) and not glob.has_magic(str(path)):
            raise DataError(_nothing_there(absolute(path)))
        name = detect_format(path) if format == "auto" else format
        dataset = READERS[name](path, images_root=images_root, split=split, class_names=class_names)
    except OSError as error:  # a folder that may not be listed, or went away meanwhile
        raise DataError(f"cannot read {error.filename or path}: {reason(error)}") from None
    return dataset if metadata is None else join_metadata(dataset, metadata)


def _nothing_there(path: Path) -> str:
    parent = path.parent
    if not parent.is_dir():
        return f"no such file or folder: {path}"
    names = [entry.name for entry in itertools.islice(parent.iterdir(), 200)]
    return f"no such file or folder: {path}" + (
        f"; {unknown_name('name', path.name, names)}" if names else f" ({parent} is empty)"
    )


def detect_format(path: str | Path) -> str:
    """The format of what is at ``path``, by names and a look into the first file.

    Raises:
        DataError: If it is in no format we know.
    """
    place = absolute(path)
    if place.is_dir():
        return _detect_folder(place)
    if not exists(place):
        return "folder"  # a glob
    suffix = place.suffix.lower()
    if suffix == ".json":
        return "label_studio" if _is_list(place) else "coco"
    if suffix == ".xml" and is_cvat(place):
        return "cvat"
    if suffix in {".yaml", ".yml"}:
        return "yolo"
    if suffix == ".txt" or suffix in IMAGE_SUFFIXES:
        return "folder"
    hint = "; for VOC give the folder of the XML files" if suffix == ".xml" else ""
    raise DataError(
        f"a dataset must be a COCO or Label Studio .json, a YOLO .yaml, a CVAT .xml, a .txt list, "
        f"an image or a folder, got {place}{hint}"
    )


def _detect_folder(folder: Path) -> str:
    if find_yaml(folder) is not None:
        return "yolo"
    if is_cvat(folder / CVAT_FILE):
        return "cvat"
    if _is_voc(folder):
        return "voc"
    if coco_files(folder):
        return "coco"
    if _is_yolo(folder):
        return "yolo"
    if next(files_below(folder, IMAGE_SUFFIXES), None) is not None or not any(folder.iterdir()):
        return "folder"
    raise DataError(
        f"found no dataset in {folder}: looked for data.yaml (YOLO), Annotations/*.xml (VOC), "
        "instances*.json (COCO), images/ and labels/ (YOLO) and image files"
    )


def _is_list(file: Path) -> bool:
    """Whether a JSON file holds a list, as Label Studio's exports do."""
    try:
        with file.open("rb") as opened:
            return opened.read(1024).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
    except OSError:
        return False


def _is_voc(folder: Path) -> bool:
    """Whether one of the first files below is VOC XML."""
    files = files_below(find_voc_root(folder), IMAGE_SUFFIXES | {".xml"})
    xml = next((f for f in itertools.islice(files, _LOOK_AT) if f.lower().endswith(".xml")), None)
    if xml is None:
        return False
    try:
        with Path(xml).open("rb") as file:
            return re.search(rb"<annotation[\s>]", file.read(2048)) is not None
    except OSError:
        return False


def _is_yolo(folder: Path) -> bool:
    labels = [folder / "labels", *(folder / name / "labels" for name in ("train", "valid", "val"))]
    return any(place.is_dir() for place in labels)
