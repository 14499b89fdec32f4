"""Open what came back from the people who label."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from detal.config import DatasetConfig
from detal.datasets.dataset import Dataset
from detal.datasets.images import IMAGE_SUFFIXES
from detal.datasets.label_studio import read_label_studio
from detal.datasets.label_studio_tasks import Several
from detal.datasets.listing import absolute, files_below
from detal.datasets.reading import detect_format, open_dataset
from detal.datasets.yolo_labels import label_path
from detal.datasets.yolo_yaml import find_yaml, read_source
from detal.errors import DataError
from detal.files import is_file
from detal.manifests.yolo_files import place_image, unique_names

__all__ = ["open_returned"]


def open_returned(
    annotations: DatasetConfig,
    *,
    paths: Sequence[str],
    class_names: Sequence[str],
    several: Several = "newest",
) -> Dataset:
    """Open annotations; only images that are in them count.

    In COCO and CVAT these are the images listed, in YOLO those with a label file (an empty one says
    that there is no object), in VOC those with an XML file, in Label Studio those with a completed
    annotation.

    Args:
        annotations: COCO JSON, YOLO, VOC, Label Studio JSON or CVAT XML, with the folder of its
            images where it does not tell.
        paths: Images of the run; they stand in for those of YOLO and VOC annotations without any.
        class_names: What the numbers in YOLO labels mean if no file beside them tells.
        several: Which annotation counts where Label Studio has several of an image.

    Raises:
        DataError: If it cannot be read, or holds no annotations.
    """
    path = absolute(annotations.path)
    lone_labels = annotations.images is None and _has_labels_only(path)
    kind: str = annotations.format
    if kind == "auto":
        kind = "yolo" if lone_labels else detect_format(path)
    if kind == "label_studio":
        return read_label_studio(
            path, images_root=annotations.images, split=annotations.split, several=several
        )
    if kind == "yolo" and lone_labels:
        with _stand_ins(paths) as folder:
            (folder / "labels").symlink_to(path / "labels")
            if (path / "classes.txt").is_file():
                (folder / "classes.txt").symlink_to(path / "classes.txt")
            dataset = _open(annotations, folder, kind, class_names)
        told = [replace(p, file=p.file.replace(str(folder), str(path))) for p in dataset.problems]
        return replace(dataset, problems=tuple(told))
    has_images = kind != "voc" or next(files_below(path, IMAGE_SUFFIXES), None) is not None
    if annotations.images is None and not has_images:
        with _stand_ins(paths) as folder:
            there = annotations.model_copy(update={"images": str(folder / "images")})
            return _open(there, path, kind, class_names)
    return _open(annotations, path, kind, class_names)


def _has_labels_only(path: Path) -> bool:
    """Whether it is a folder of YOLO label files without images, as tools export them."""
    if not (path / "labels").is_dir() or find_yaml(path) is not None:
        return False
    return next(files_below(path, IMAGE_SUFFIXES), None) is None


@contextmanager
def _stand_ins(paths: Sequence[str]) -> Iterator[Path]:
    """A folder with links ``images/`` to the images, named as in the manifest's ``yolo/``."""
    with tempfile.TemporaryDirectory(prefix="detal-") as text:
        folder = absolute(text)
        (folder / "images").mkdir()
        for name, path in zip(unique_names(paths), paths, strict=True):
            place_image(Path(path), folder / "images" / name)
        yield folder


def _open(annotations: DatasetConfig, path: Path, kind: str, class_names: Sequence[str]) -> Dataset:
    images_root = None if annotations.images is None else absolute(annotations.images)
    names = None
    if kind == "yolo" and read_source(path, root=images_root).names is None:
        names = tuple(class_names) or None
    dataset = open_dataset(
        path, format=kind, images_root=images_root, split=annotations.split, class_names=names
    )
    if dataset.annotations is None:
        raise DataError(
            f"annotations must be COCO JSON with a list 'annotations', YOLO label files, VOC or "
            f"CVAT XML, or Label Studio JSON; found {len(dataset)} images without any in {path}"
        )
    found = dataset.images["path"].to_list()
    if kind == "yolo":
        return dataset.take(np.flatnonzero([is_file(label_path(image)) for image in found]))
    if kind == "voc":
        without = {p.file for p in dataset.problems if p.kind == "missing_annotation"}
        return dataset.take(np.flatnonzero([image not in without for image in found]))
    return dataset
