"""A pool without annotations: a folder, a glob, a list of paths in a text file, or one image."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from detal.datasets.dataset import Dataset
from detal.datasets.images import IMAGE_SUFFIXES
from detal.datasets.listing import (
    absolute,
    expand_glob,
    files_below,
    image_frame,
    read_path_list,
    unique_files,
)
from detal.errors import DataError

__all__ = ["read_folder"]


def read_folder(
    path: str | Path,
    *,
    images_root: str | Path | None = None,
    split: str | None = None,
    class_names: Sequence[str] | None = None,
) -> Dataset:
    """List images; no image file is opened, so sizes stay unknown until decoding.

    Args:
        path: A folder (searched recursively), a glob (``**`` goes through folders), a ``.txt`` list
            with one path per line, or an image.
        images_root: What the paths of a list and all ids are relative to; by default the folder,
            the part of the glob before its first wildcard, or the list's own folder.
        split: A folder of this name below ``path`` to which the pool is restricted.
        class_names: Classes of the dataset; there are no objects.

    Raises:
        DataError: If nothing is there, or the list cannot be read.
    """
    entries, root = _entries(str(path), None if images_root is None else absolute(images_root))
    if split is not None:
        root, entries = _restrict(entries, root, split)
    ids, paths, problems = unique_files(entries, root)
    names = tuple(class_names or ())
    return Dataset(
        name=absolute(path).stem,
        images=image_frame(ids, paths),
        class_names=names,
        category_ids=tuple(range(len(names))),
        problems=tuple(problems),
    )


def _entries(text: str, images_root: Path | None) -> tuple[list[tuple[str, str, str]], Path]:
    """Path, file and place of each image, and the root of the ids."""
    path = absolute(text)
    if path.is_dir():
        found = files_below(path, IMAGE_SUFFIXES)
        return [(name, name, "") for name in found], images_root or path
    if path.is_file() and path.suffix.lower() == ".txt":
        root = images_root or path.parent
        lines = read_path_list(path, roots=[root] if images_root else [root, Path.cwd()])
        return [(name, str(path), f"line {number}") for number, name in lines], root
    if path.is_file():
        return [(str(path), str(path), "")], images_root or path.parent
    if not glob.has_magic(text):
        raise DataError(f"a pool must be a folder, a glob, a .txt list or an image, got {path}")
    root, matches = expand_glob(text)
    files = [name for name in matches if Path(name).suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        raise DataError(f"no image matches {path}")
    return [(name, name, "") for name in files], images_root or root


def _restrict(
    entries: list[tuple[str, str, str]], root: Path, split: str
) -> tuple[Path, list[tuple[str, str, str]]]:
    folder = root / split
    if not folder.is_dir():
        raise DataError(f"split must name a folder below {root}, got {split!r}")
    return root, [entry for entry in entries if Path(entry[0]).is_relative_to(folder)]
