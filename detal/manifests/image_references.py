"""How the files of a hand-over name their images, and copies or links of the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from detal.errors import ConfigError, DataError
from detal.manifests.yolo_files import place_image, unique_names

__all__ = ["LOCAL_FILES", "HandedImages", "ImageMode", "ImagePrefix", "hand_images"]

LOCAL_FILES = "/data/local-files/?d="
"""How Label Studio names files below its document root."""

ImageMode = Literal["reference", "link", "copy"]
"""Images are named where they are, or linked or copied into ``images/``."""

_UNQUOTED = ("s3://", "gs://", "azure-blob://")


@dataclass(frozen=True)
class ImagePrefix:
    """What stands for a local folder in the tool.

    Attributes:
        root: The folder, absolute.
        prefix: ``https://host/frames``, ``s3://bucket/frames``, ``file://``, the local-files form
            of Label Studio ``/data/local-files/?d=``, or empty for paths relative to ``root``.
    """

    root: Path
    prefix: str

    @staticmethod
    def parse(text: str) -> ImagePrefix:
        """From ``ROOT=PREFIX``.

        Raises:
            ConfigError: If it is not of this form, or there is no such folder.
        """
        root, separator, prefix = text.partition("=")
        place = Path(root).expanduser()
        if not separator or not place.is_absolute() or not place.is_dir():
            raise ConfigError(
                "an image prefix must be FOLDER=PREFIX with the absolute path of a folder, for "
                f"example /data=s3://bucket/data, got {text!r}"
            )
        return ImagePrefix(place, prefix)

    def apply(self, path: str) -> str:
        """What the tool is told for a file below the folder; URLs are percent-encoded.

        Raises:
            DataError: If the file lies elsewhere.
        """
        if not Path(path).is_relative_to(self.root):
            raise DataError(
                f"every image must be below {self.root} to be named {self.prefix}…, got {path}"
            )
        name = Path(path).relative_to(self.root).as_posix()
        if not self.prefix:
            return name
        joined = self.prefix.endswith(("/", "=")) and self.prefix != "file://"
        is_plain = self.prefix.startswith(_UNQUOTED)
        return f"{self.prefix}{'' if joined else '/'}{name if is_plain else quote(name)}"


@dataclass(frozen=True)
class HandedImages:
    """The K images of a batch as a tool finds them.

    Attributes:
        names: A file name for each, no two alike, as in the YOLO folder.
        references: Path or URL of each.
        places: Paths relative to the hand-over's folder if they were linked or copied there.
        prefixed: References are made by a prefix.
    """

    names: tuple[str, ...]
    references: tuple[str, ...]
    places: tuple[str, ...] = ()
    prefixed: bool = False

    def prefixed_by(self, prefix: ImagePrefix) -> HandedImages:
        """The same images with references made by a prefix.

        Raises:
            DataError: If an image is not below its folder.
        """
        return replace(self, references=tuple(map(prefix.apply, self.references)), prefixed=True)


def hand_images(
    paths: Sequence[str], folder: Path, *, final: Path, mode: ImageMode = "reference"
) -> HandedImages:
    """Link or copy images if asked to, and say how to name them.

    Args:
        paths: K image files.
        folder: Exists; gets ``images/``.
        final: Where ``folder`` will be in the end, absolute.
        mode: ``reference`` names the images where they are.

    Returns:
        The images, referred to by their absolute paths.

    Raises:
        DataError: If an image is missing.
    """
    names = unique_names(paths)
    places = []
    if mode != "reference":
        (folder / "images").mkdir(exist_ok=True)
        for path, name in zip(paths, names, strict=True):
            place_image(Path(path), folder / "images" / name, copy=mode == "copy")
        places = [f"images/{name}" for name in names]
        paths = [str(final / place) for place in places]
    return HandedImages(tuple(names), tuple(paths), tuple(places))
