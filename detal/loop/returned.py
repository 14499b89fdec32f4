"""Open what came back from the people who label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detal.config import DatasetConfig
from detal.datasets.dataset import Dataset
from detal.datasets.images import IMAGE_SUFFIXES
from detal.datasets.listing import absolute, files_below
from detal.datasets.reading import detect_format, open_dataset
from detal.datasets.yolo_labels import label_path
from detal.datasets.yolo_yaml import read_source
from detal.errors import DataError

__all__ = ["open_returned"]


def open_returned(
    annotations: DatasetConfig, *, manifest: Path, class_names: Sequence[str]
) -> Dataset:
    """Open annotations; only images that are in them count.

    In COCO these are the images listed, in YOLO those with a label file (an empty one says that
    there is no object), in VOC those with an XML file.

    Args:
        annotations: COCO JSON, YOLO or VOC, with the folder of its images where it does not tell.
        manifest: Folder of the run; its images stand in for those of VOC annotations without any.
        class_names: What the numbers in YOLO labels mean if no file beside them tells.

    Raises:
        DataError: If it cannot be read, or holds no annotations.
    """
    path = Path(annotations.path)
    images_root = None if annotations.images is None else absolute(annotations.images)
    kind = annotations.format if annotations.format != "auto" else detect_format(path)
    names = None
    if kind == "yolo" and read_source(absolute(path), root=images_root).names is None:
        names = tuple(class_names) or None
    if kind == "voc" and images_root is None:
        has_images = next(files_below(absolute(path), IMAGE_SUFFIXES), None) is not None
        images_root = None if has_images else manifest / "yolo" / "images"
    dataset = open_dataset(
        path, format=kind, images_root=images_root, split=annotations.split, class_names=names
    )
    if dataset.annotations is None:
        raise DataError(
            f"annotations must be COCO JSON with a list 'annotations', YOLO label files or VOC XML "
            f"files; found {len(dataset)} images without any in {path}"
        )
    paths = dataset.images["path"].to_list()
    if kind == "yolo":
        present = [Path(label_path(image)).is_file() for image in paths]
        return dataset.take(np.flatnonzero(present))
    if kind == "voc":
        without = {p.file for p in dataset.problems if p.kind == "missing_annotation"}
        return dataset.take(np.flatnonzero([image not in without for image in paths]))
    return dataset
