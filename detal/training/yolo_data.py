"""Which images a YOLO ``data.yaml`` trains on, read as ultralytics reads it but without its checks.

Its own check looks for fonts on the network when a class name is not ASCII, downloads datasets that
are missing and asks for a validation set that a fixed schedule does not need.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from detal.datasets.images import YOLO_SUFFIXES
from detal.errors import DataError
from detal.training.progress import digest

__all__ = ["YoloData", "read_yolo_data"]


@dataclass(frozen=True)
class YoloData:
    """The training part of a ``data.yaml``.

    Attributes:
        file: The ``data.yaml``.
        class_names: C names.
        images: Absolute image paths, sorted.
        fingerprint: Hash of names, image paths, image sizes in bytes and label files.
    """

    file: Path
    class_names: tuple[str, ...]
    images: tuple[Path, ...]
    fingerprint: str


def read_yolo_data(data_yaml: Path) -> YoloData:
    """Resolve the training images of a ``data.yaml`` and hash what training depends on.

    Raises:
        DataError: If the file is missing or malformed, or names no image with a labelled object.
    """
    content = _load(data_yaml)
    names = _class_names(content, data_yaml)
    entries = content.get("train")
    entries = [entries] if isinstance(entries, str) else entries
    if not isinstance(entries, list) or not entries:
        raise DataError(f"train must name a folder, a list file or several, in {data_yaml}")
    root = _root(content, data_yaml)
    images = sorted({image for entry in entries for image in _expand(root, str(entry), data_yaml)})
    if not images:
        raise DataError(f"no training image found through {data_yaml} (train: {entries})")
    parts: list[Any] = [names]
    labelled = False
    for image in images:
        label = _label_path(image)
        text = label.read_bytes() if label.is_file() else b""
        labelled = labelled or bool(text.strip())
        if not image.is_file():
            raise DataError(f"no such image file: {image} (named by {data_yaml})")
        parts.append((str(image), image.stat().st_size, text))
    if not labelled:
        raise DataError(
            f"none of the {len(images)} training images of {data_yaml} has a labelled object; "
            f"labels are looked for at {_label_path(images[0])} and the like"
        )
    return YoloData(data_yaml, names, tuple(images), digest(parts))


def _load(data_yaml: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(data_yaml.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise DataError(f"cannot read {data_yaml}: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{data_yaml} must be a mapping with train and names")
    return content


def _class_names(content: dict[str, Any], data_yaml: Path) -> tuple[str, ...]:
    names = content.get("names")
    if isinstance(names, dict):
        if sorted(names) != list(range(len(names))):
            raise DataError(f"names must be numbered 0..{len(names) - 1}, in {data_yaml}")
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DataError(f"names must list the classes, in {data_yaml}")
    return tuple(str(name) for name in names)


def _root(content: dict[str, Any], data_yaml: Path) -> Path:
    folder = Path(str(content.get("path") or "."))
    if folder.is_absolute():
        return folder
    beside = data_yaml.resolve().parent / folder
    return beside if beside.is_dir() or not folder.is_dir() else folder.resolve()


def _expand(root: Path, entry: str, data_yaml: Path) -> Iterator[Path]:
    """Absolute paths of the images of one entry: a folder or a text file of paths."""
    place = (root / entry).resolve()
    if not place.exists() and entry.startswith("../"):
        place = (root / entry[3:]).resolve()  # as ultralytics does, for exports that count one up
    if place.is_dir():
        paths = (path for path in place.rglob("*.*") if path.is_file())
    elif place.is_file():
        lines = place.read_text(encoding="utf-8-sig").splitlines()
        paths = (place.parent / line.strip() for line in lines if line.strip())
    else:
        raise DataError(f"no such folder or list file: {place} (train: {entry} in {data_yaml})")
    return (path for path in paths if path.suffix.lower() in YOLO_SUFFIXES)


def _label_path(image: Path) -> Path:
    """Where ultralytics looks: the last folder ``images`` becomes ``labels``."""
    parts = list(image.with_suffix(".txt").parts)
    for i in range(len(parts) - 2, 0, -1):
        if parts[i] == "images":
            parts[i] = "labels"
            break
    return Path(*parts)
