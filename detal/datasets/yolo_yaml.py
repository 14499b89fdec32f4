"""Where a YOLO dataset keeps what: ``data.yaml`` in all its forms, or bare folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from detal.datasets.dataset import Problem
from detal.datasets.listing import absolute, native, read_text
from detal.errors import DataError
from detal.files import exists

__all__ = ["SPLITS", "YoloSource", "find_yaml", "read_source"]

SPLITS = ("train", "val", "test")
"""Splits of a ``data.yaml``."""

_MAX_CLASSES = 100_000
_YAML_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")


@dataclass(frozen=True)
class YoloSource:
    """What a ``data.yaml`` says.

    Attributes:
        file: The YAML file, or the bare folder.
        root: Folder that splits and image ids are relative to.
        splits: Folders and text lists of each split.
        names: C class names, or None if nothing names them.
        problems: What was wrong and could be made good.
    """

    file: Path
    root: Path
    splits: dict[str, tuple[Path, ...]]
    names: tuple[str, ...] | None
    problems: tuple[Problem, ...] = ()


def find_yaml(folder: Path) -> Path | None:
    """The ``data.yaml`` of a folder (or its only YAML file that names splits), or None."""
    for name in _YAML_NAMES:
        if (folder / name).is_file():
            return folder / name
    files = sorted((*folder.glob("*.yaml"), *folder.glob("*.yml")))
    with_splits = [f for f in files if any(line.startswith("train:") for line in _lines(f))]
    return with_splits[0] if len(with_splits) == 1 else None


def _lines(file: Path) -> list[str]:
    try:
        return read_text(file).splitlines()
    except DataError:
        return []


def read_source(path: Path, *, root: Path | None = None) -> YoloSource:
    """Read a ``data.yaml``, or find out about a folder.

    Args:
        path: The YAML file or a folder, absolute.
        root: The dataset's root; by default what the YAML says.

    Raises:
        DataError: If there is no dataset, or the YAML does not describe one.
    """
    file = find_yaml(path) if path.is_dir() else path
    if file is None:
        return _bare_folder(path)
    data = _load(file)
    entries = {name: _as_list(data, name, file) for name in SPLITS if data.get(name)}
    if "val" not in entries and data.get("validation"):
        entries["val"] = _as_list(data, "validation", file)
    if not entries:
        raise DataError(f"{file} must name images as train, val or test")
    problems: list[Problem] = []
    root = root or _find_root(data, file, entries, problems)
    splits = {name: tuple(_locate(root, text) for text in texts) for name, texts in entries.items()}
    for name, places in splits.items():
        if any(place.parent == place for place in places):
            raise DataError(f"{file}: {name!r} must be a folder of images, not the whole disk")
    return YoloSource(file, root, splits, _names(data, file), tuple(problems))


def _load(file: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(read_text(file))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{file} must be YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise DataError(f"{file} must hold keys and values (train, val, names), got {data!r:.60}")
    return data


def _as_list(data: dict[str, Any], key: str, file: Path) -> list[str]:
    value = data[key]
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) and item and "\0" not in item for item in values):
        raise DataError(f"{file}: {key!r} must be a path or a list of paths, got {value!r:.60}")
    return values


def _find_root(
    data: dict[str, Any], file: Path, entries: dict[str, list[str]], problems: list[Problem]
) -> Path:
    """The folder meant by ``path``: relative to the YAML or to here, whichever has images."""
    stated = data.get("path")
    if stated is None or stated == "":
        return file.parent
    if not isinstance(stated, str) or "\0" in stated:
        raise DataError(f"{file}: 'path' must be text, got {stated!r:.60}")
    text = native(stated)
    candidates = [absolute(file.parent / Path(text).expanduser()), absolute(text)]
    fallbacks = [file.parent.parent / Path(text).name, file.parent]
    for root in (*candidates, *fallbacks):
        if any(exists(_locate(root, item)) for items in entries.values() for item in items):
            if root not in candidates:
                message = f"'path' must be the dataset's folder, got {stated}; {root} is used"
                problems.append(Problem("dataset_root", str(file), "path", message, "warning"))
            return root
    looked = ", ".join(dict.fromkeys(str(root) for root in (*candidates, *fallbacks)))
    first = next(iter(entries.values()))[0]
    raise DataError(f"{file}: 'path' must hold the images ({first}), looked in {looked}")


def _locate(root: Path, text: str) -> Path:
    """A split's folder or list; some sites write ``../train`` and mean ``train``."""
    place = absolute(root / native(text))
    if not exists(place) and text.startswith("../"):
        inside = absolute(root / native(text)[3:])
        return inside if exists(inside) else place
    return place


def _names(data: dict[str, Any], file: Path) -> tuple[str, ...] | None:
    names, count = data.get("names"), data.get("nc")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if names is None:
        if count is None:
            return None
        text = str(count)[:10]
        if not (text.isdecimal() and int(text) <= _MAX_CLASSES):
            limit = f"'nc' must be the number of classes, at most {_MAX_CLASSES:,}"
            raise DataError(f"{file}: {limit}, got {count!r:.60}")
        return tuple(f"class_{number}" for number in range(int(count)))
    if not isinstance(names, dict):
        raise DataError(f"{file}: 'names' must be a list or number: name, got {names!r:.60}")
    by_number = {int(key): str(name) for key, name in names.items() if str(key).isdecimal()}
    if sorted(by_number) != list(range(len(names))):
        raise DataError(
            f"{file}: 'names' must number the classes 0 to {len(names) - 1}, got "
            f"{', '.join(map(str, names))[:60]}"
        )
    if count is not None and str(count) != str(len(names)):
        raise DataError(f"{file}: 'nc' must be the number of names ({len(names)}), got {count!r}")
    return tuple(by_number[number] for number in range(len(names)))


def _bare_folder(folder: Path) -> YoloSource:
    """Folders ``images`` and ``labels``, alone or inside (or around) folders of the splits."""
    names = _names_file(folder)
    if (folder / "images").is_dir():
        inner = [folder / "images" / name for name in _SPLIT_FOLDERS]
        splits = _existing(inner) or {"all": (folder / "images",)}
        return YoloSource(folder, folder, splits, names)
    splits = _existing([folder / name / "images" for name in _SPLIT_FOLDERS])
    if not splits:
        raise DataError(f"a YOLO dataset must have data.yaml or a folder 'images', got {folder}")
    return YoloSource(folder, folder, splits, names)


_SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "test": "test"}


def _existing(folders: Sequence[Path]) -> dict[str, tuple[Path, ...]]:
    splits = zip(_SPLIT_FOLDERS.values(), folders, strict=True)
    return {split: (folder,) for split, folder in splits if folder.is_dir()}


def _names_file(folder: Path) -> tuple[str, ...] | None:
    """Class names as labelling tools leave them: one per line in ``classes.txt``."""
    for file in (folder / "classes.txt", folder / "labels" / "classes.txt"):
        if file.is_file():
            return tuple(line.strip() for line in read_text(file).splitlines() if line.strip())
    return None
