"""Which formats a batch is written in, and how their files name the images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from detal.errors import ConfigError, unknown_name
from detal.manifests.batch import Batch
from detal.manifests.boxes_table import write_boxes_csv
from detal.manifests.coco import write_coco
from detal.manifests.cvat import check_cvat_names, write_cvat
from detal.manifests.fiftyone import write_fiftyone
from detal.manifests.image_references import (
    LOCAL_FILES,
    HandedImages,
    ImageMode,
    ImagePrefix,
    hand_images,
)
from detal.manifests.label_studio import labelling_config, write_label_studio
from detal.manifests.voc import check_voc_names, write_voc
from detal.manifests.yolo import write_yolo

__all__ = [
    "DEFAULT",
    "WRITERS",
    "HandOver",
    "check_names",
    "parse_formats",
    "write_formats",
]

_Writer = Callable[[Path, Batch, HandedImages, str], None]


@dataclass(frozen=True)
class HandOver:
    """What to write.

    Attributes:
        formats: Names of ``WRITERS``.
        mode: Whether images are named where they are, linked or copied.
        prefix: What stands for a local folder in the tool; Label Studio's local-files form is for
            Label Studio alone.
    """

    formats: tuple[str, ...]
    mode: ImageMode = "reference"
    prefix: ImagePrefix | None = None


def _coco(folder: Path, batch: Batch, handed: HandedImages, _: str) -> None:
    names = handed.references if handed.prefixed or not handed.places else handed.places
    write_coco(folder / "coco.json", batch, file_names=names)


def _cvat(folder: Path, batch: Batch, handed: HandedImages, _: str) -> None:
    # Without a prefix the task is made of files with these names, as in yolo/images/.
    write_cvat(folder / "cvat", batch, handed.references if handed.prefixed else handed.names)


WRITERS: dict[str, _Writer] = {
    "coco": _coco,
    "csv": lambda folder, batch, handed, _: write_boxes_csv(
        folder / "boxes.csv", batch, handed.references
    ),
    "yolo": lambda folder, batch, *_: write_yolo(folder / "yolo", batch),
    "label_studio": lambda folder, batch, handed, model_version: write_label_studio(
        folder / "label_studio", batch, handed.references, model_version=model_version
    ),
    "cvat": _cvat,
    "voc": lambda folder, batch, handed, _: write_voc(folder / "voc", batch, handed),
    "fiftyone": lambda folder, batch, handed, _: write_fiftyone(folder / "fiftyone", batch, handed),
}
"""Writer of each format: of its own file or folder."""

DEFAULT = HandOver(formats=("coco", "csv", "yolo"))
"""What `detal select` writes unless told otherwise."""


def parse_formats(names: Sequence[str]) -> tuple[str, ...]:
    """Names of formats, hyphens for underscores allowed, repeats dropped.

    Raises:
        ConfigError: If there is no such format, or none is given.
    """
    formats = tuple(dict.fromkeys(name.strip().replace("-", "_") for name in names))
    for name in formats:
        if name not in WRITERS:
            raise ConfigError(unknown_name("manifest format", name, WRITERS))
    if not formats:
        raise ConfigError(f"at least one format must be given, of {', '.join(WRITERS)}")
    return formats


def check_names(hand_over: HandOver, class_names: Sequence[str]) -> None:
    """Check before the work whether the tools can hold the class names.

    Raises:
        DataError: If one of them cannot.
    """
    for name in hand_over.formats:
        if name in _NAME_CHECKS:
            _NAME_CHECKS[name](class_names)


_NAME_CHECKS: dict[str, Callable[[Sequence[str]], object]] = {
    "label_studio": labelling_config,
    "cvat": check_cvat_names,
    "voc": check_voc_names,
}


def write_formats(
    folder: Path, batch: Batch, hand_over: HandOver, *, final: Path, model_version: str
) -> None:
    """Write a batch in several formats.

    Args:
        folder: Exists, and holds none of their files.
        batch: What to write.
        hand_over: Formats, and how they name the images.
        final: Where ``folder`` will be in the end.
        model_version: Says in the tools which detector made the predictions.

    Raises:
        DataError: If an image is missing or not where the prefix says, or a tool cannot hold a
            name.
    """
    handed = hand_images(
        [image.path for image in batch.images],
        folder,
        final=final.absolute(),
        mode=hand_over.mode,
    )
    prefix = hand_over.prefix
    prefixed = handed if prefix is None else handed.prefixed_by(prefix)
    is_for_one = prefix is not None and prefix.prefix.endswith(LOCAL_FILES)
    for name in hand_over.formats:
        named = handed if is_for_one and name != "label_studio" else prefixed
        WRITERS[name](folder, batch, named, model_version)
