"""Where the files of a COCO dataset lie: the JSON in a folder, the images around the JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from detal.datasets.dataset import Problem
from detal.datasets.listing import absolute
from detal.errors import DataError
from detal.files import is_file

__all__ = ["choose_file", "coco_files", "find_images_root"]

_SAMPLE = 64  # image names that are looked up to find the image folder
_NAMES = re.compile(r"(instances|annotations|_annotations|image_info).*\.json", re.IGNORECASE)


def coco_files(folder: Path) -> list[Path]:
    """JSON files with a name usual for COCO, in the folder or in its ``annotations``."""
    places = (folder, folder / "annotations")
    return sorted(
        file
        for place in places
        if place.is_dir()
        for file in place.iterdir()
        if _NAMES.fullmatch(file.name) and file.is_file()
    )


def choose_file(folder: Path, split: str | None) -> tuple[Path, str | None]:
    """The COCO file of a folder, and the split that is still to be looked for inside it.

    Raises:
        DataError: If there is none or more than one.
    """
    files = coco_files(folder)
    if len(files) == 1:
        return files[0], None if split is not None and split in files[0].stem else split
    if split is not None:
        named = [file for file in files if split in file.stem]
        if len(named) == 1:
            return named[0], None
    if not files:
        raise DataError(
            f"a COCO folder must hold instances*.json or annotations/instances*.json: {folder}"
        )
    found = ", ".join(file.name for file in files)
    raise DataError(f"{folder} holds several COCO files, give one of them or its split: {found}")


def find_images_root(
    file: Path,
    names: Sequence[str],
    images_root: str | Path | None,
    problems: list[Problem],
) -> Path:
    """The folder that image names are relative to: the candidate where most of a sample exist."""
    split = re.sub(r"^(instances|image_info|annotations)_", "", file.stem)
    near, above = file.parent, file.parent.parent
    candidates = [near, near / "images", above, above / "images", near / split, above / split]
    candidates += [near / "images" / split, above / "images" / split]
    if images_root is not None:
        candidates = [absolute(images_root)]
    sample = names[:: max(1, len(names) // _SAMPLE)]
    hits = [
        sum(is_file(root / name) for name in sample) if root.is_dir() else 0 for root in candidates
    ]
    if names and not any(hits):
        looked = ", ".join(str(root) for root in candidates if root.is_dir() or images_root)
        message = (
            f"image files must exist, none of {len(sample)} that were tried does, for example "
            f"{sample[0]}; looked in {looked}; give the image folder"
        )
        problems.append(Problem("images_not_found", str(file), "", message, "warning"))
    return candidates[hits.index(max(hits))]
