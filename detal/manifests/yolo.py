"""``yolo/``: links to the images, label files and a ``data.yaml`` that trains as it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from detal.manifests.batch import Batch, Image
from detal.manifests.yolo_files import label_lines, unique_names, write_yolo_files

__all__ = ["file_names", "write_yolo"]

_HEADER = """\
# The boxes are predictions: correct them before training counts for anything.
# `val` is the same batch, so that `yolo train` starts; name your own validation set for figures.
"""


def write_yolo(folder: Path, batch: Batch) -> None:
    """Write a YOLO dataset of the pre-annotations (`write_yolo_files`).

    Args:
        folder: Made; must not exist.
        batch: What to write.

    Raises:
        DataError: If an image file is missing.
    """
    offsets = batch.detections.offsets.tolist()
    boxes, labels = batch.detections.boxes.numpy(), batch.detections.labels.numpy()
    write_yolo_files(
        folder,
        [image.path for image in batch.images],
        [
            label_lines(boxes[start:stop], labels[start:stop], width=i.width, height=i.height)
            for i, start, stop in zip(batch.images, offsets[:-1], offsets[1:], strict=True)
        ],
        class_names=batch.class_names,
        header=_HEADER,
    )


def file_names(images: Sequence[Image]) -> list[str]:
    """The name of each image in the YOLO folder (`unique_names`)."""
    return unique_names([image.path for image in images])
