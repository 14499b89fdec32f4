"""A labelled dataset as a YOLO training folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from detal.datasets.dataset import Dataset
from detal.datasets.images import image_size
from detal.errors import ConfigError, DataError
from detal.manifests.yolo_files import label_lines, write_yolo_files

__all__ = ["write_yolo_dataset"]

_NO_VAL = """\
# `val` is the training set itself, so that `yolo train` starts: its figures mean nothing.
"""


def write_yolo_dataset(folder: Path, dataset: Dataset, *, val: Dataset | None = None) -> None:
    """Write a YOLO dataset of the true boxes (`detal.manifests.yolo_files.write_yolo_files`).

    Crowds are left out, as in ultralytics' own conversions of COCO and VOC. Equal arguments give
    byte-identical files. Inside a `staged_folder` it appears complete or not at all.

    Args:
        folder: Absent or empty.
        dataset: Annotated images to train on; their classes, in this order, are those written.
        val: Annotated images to validate on; objects of other classes are left out.

    Raises:
        ConfigError: If ``folder`` is not empty.
        DataError: If a dataset has no annotations, or an image file is missing.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(f"a YOLO dataset is written into an absent or empty folder, got {folder}")
    parts = [dataset] if val is None else [dataset, val]
    write_yolo_files(
        folder,
        [path for part in parts for path in part.images["path"]],
        [text for part in parts for text in _label_texts(part, dataset.class_names)],
        class_names=dataset.class_names,
        header=_NO_VAL if not val else "",
        num_val=0 if val is None else len(val),
    )


def _label_texts(dataset: Dataset, class_names: Sequence[str]) -> Iterator[str]:
    """Content of the label file of each image, with the labels of ``class_names``."""
    found = dataset.annotations
    if found is None:
        raise DataError(f"{dataset.name} must have annotations to be written for training")
    number = {name: label for label, name in reversed(list(enumerate(class_names)))}
    known = [number.get(name, -1) for name in dataset.class_names]
    if dataset.class_names == class_names:
        known = list(range(len(class_names)))  # also where two classes share a name
    labels = np.array(known, dtype=np.int64)[found.labels]
    wanted = (labels >= 0) & ~found.is_crowd
    columns = dataset.images.select("path", "width", "height").iter_rows()
    for (path, width, height), start, stop in zip(
        columns, found.offsets[:-1].tolist(), found.offsets[1:].tolist(), strict=True
    ):
        rows = start + np.flatnonzero(wanted[start:stop])
        if len(rows) and (width is None or height is None):
            width, height = image_size(path)
        yield label_lines(found.boxes[rows], labels[rows], width=width or 1, height=height or 1)
