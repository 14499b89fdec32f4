"""Read image files exactly as the detectors' training pipeline reads them.

Pixels come from OpenCV (``imdecode`` in colour, from bytes, so that any file name works), as in
ultralytics: EXIF orientation applied, 16 bits cut to the high byte, grey, palette, RGBA and CMYK
turned into three channels, the first page of a TIFF and the first frame of an animation; AVIF and
HEIC through Pillow. Pillow also looks at each header first, for what OpenCV does not tell:

* More than ``MAX_PIXELS`` pixels are refused before anything is decoded.
* A truncated JPEG is one without an end-of-image marker behind its first scan (some OpenCV versions
  return such an image half grey); a PNG must have intact chunks up to the last, a GIF its trailer;
  the decoders of the other formats fail by themselves.
* A file that Pillow cannot identify is refused, as ultralytics refuses it for training.

Importing this module silences OpenCV's own log: every failure becomes a `DataError`. One message
cannot be caught: libjpeg writes a line to stderr when pixel data inside a complete JPEG is damaged
(OpenCV decodes such an image all the same, and so does training).
"""

from __future__ import annotations

import errno
import hashlib
import io
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from detal.datasets.threads import map_in_threads
from detal.errors import AWAY, DataError
from detal.files import open_regular

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "YOLO_SUFFIXES",
    "DecodedImage",
    "image_size",
    "image_sizes",
    "read_image",
]

MAX_PIXELS = 178_956_970
"""Largest width x height that is decoded; the limit at which Pillow refuses too."""

YOLO_SUFFIXES = frozenset(
    {".avif", ".bmp", ".dng", ".heic", ".heif", ".jp2", ".jpeg", ".jpg", ".mpo", ".png", ".tif"}
    | {".tiff", ".webp"}
)
"""File names that ultralytics takes for images."""

IMAGE_SUFFIXES = YOLO_SUFFIXES | {".gif", ".jfif", ".jpe", ".pbm", ".pgm", ".ppm"}
"""File names that a plain folder takes for images."""

# In the order in which they are tried.
_PIL_FORMATS = (
    *("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP"),
    *("GIF", "AVIF", "JPEG2000", "PPM", "HEIF"),
)
# What OpenCV reads in some versions only.
_PIL_DECODED_FORMATS = frozenset({"AVIF", "GIF", "HEIF"})
_PIL_FIRST_SUFFIXES = (".avif", ".heic", ".heif")
_PNG_END = b"IEND\xaeB`\x82"
_ORIENTATION_TAG = 274
_SWAPPING_ORIENTATIONS = frozenset({5, 6, 7, 8})
# What Pillow's parsers raise on files that are not theirs or are damaged; warnings, because a
# caller may have turned them into errors.
_PIL_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    EOFError,
    struct.error,
    UserWarning,
)

# Faults of the machine, not of the image: to quarantine it would lose it.
_NOT_THE_FILE = AWAY | {errno.EMFILE, errno.ENFILE, errno.ENOMEM}

if hasattr(cv2, "setLogLevel"):  # in some versions here, in others there
    cv2.setLogLevel(0)
else:
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """One decoded image.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, contiguous, upright.
        content_hash: BLAKE2b-128 of the file's bytes, hexadecimal.
        num_bytes: Size of the file.
        file_format: What the bytes are, whatever the name says: ``JPEG``, ``PNG``, …
    """

    pixels: NDArray[np.uint8]
    content_hash: str
    num_bytes: int
    file_format: str

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.pixels.shape[0]), int(self.pixels.shape[1])


def read_image(path: str | Path) -> DecodedImage:
    """Read and decode one image file; safe to call from several threads.

    Raises:
        DataError: If the file is missing, empty, not an image, truncated, damaged or has more than
            ``MAX_PIXELS`` pixels.
        OSError: If disk or network fail, which tells nothing about the image.
    """
    path = Path(path)
    data = _read_bytes(path)
    header = _identify(io.BytesIO(data), path)
    _check_complete(data, header, path)
    bgr = _decode(data, path.suffix.lower())
    if bgr is None and header.format in _PIL_DECODED_FORMATS:
        bgr = _decode_with_pillow(data, path)
    if bgr is None:
        raise DataError(
            f"{path} cannot be decoded: the {header.format} data are truncated or damaged"
        )
    return DecodedImage(
        pixels=np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8),
        content_hash=hashlib.blake2b(data, digest_size=16).hexdigest(),
        num_bytes=len(data),
        file_format=str(header.format),
    )


def image_size(path: str | Path) -> tuple[int, int]:
    """Width and height of the upright image, from its header alone wherever the header tells.

    Raises:
        DataError: If the file is missing, empty, not an image or too large.
        OSError: If disk or network fail, which tells nothing about the image.
    """
    path = Path(path)
    try:
        with open_regular(path) as file:
            header = _identify(file, path)
            turned = _orientation(header) in _SWAPPING_ORIENTATIONS
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    if not turned:
        return header.size
    if header.format in {"JPEG", "MPO"}:
        return header.size[1], header.size[0]
    # For other formats it depends on the versions of OpenCV and Pillow who applies the orientation.
    height, width = read_image(path).size_hw
    return width, height


def image_sizes(
    paths: Sequence[str], *, workers: int | None = None
) -> Iterator[tuple[int, int] | DataError]:
    """Width and height of each image (`image_size`) in order, or the error that prevents it."""
    return map_in_threads(_size_or_error, paths, workers=workers)


def _size_or_error(path: str) -> tuple[int, int] | DataError:
    try:
        return image_size(path)
    except DataError as error:
        return error


def _read_bytes(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read()
    except (OSError, ValueError) as error:  # ValueError: a NUL inside the name
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError | ValueError) -> DataError:
    if isinstance(error, OSError) and error.errno in _NOT_THE_FILE:
        raise error
    if isinstance(error, FileNotFoundError):
        return DataError(f"no such image file: {path}")
    return DataError(f"cannot read image file {path}: {getattr(error, 'strerror', None) or error}")


@lru_cache(maxsize=1)
def _openers() -> tuple[tuple[Callable[..., Any], Callable[[bytes], Any] | None], ...]:
    """Pillow's plugins for the formats we read.

    Not ``Image.open``: ultralytics replaces it by a function that installs packages when it does
    not know a file, and its own size check warns where we refuse.
    """
    Image.init()
    for module in ("pillow_heif", "pi_heif"):
        try:
            import_module(module).register_heif_opener()
        except ImportError:
            continue
        break
    return tuple(Image.OPEN[name] for name in _PIL_FORMATS if name in Image.OPEN)


def _identify(file: IO[bytes], path: Path) -> ImageFile.ImageFile:
    """Parse the header of an image file and check its size."""
    prefix = file.read(16)
    if not prefix:
        raise DataError(f"image file is empty (0 bytes): {path}")
    for factory, accept in _openers():
        try:
            if accept is not None and not accept(prefix):
                continue
            file.seek(0)
            header: ImageFile.ImageFile = factory(file, "")
        except Image.DecompressionBombError as error:
            raise DataError(
                f"an image must have 1 to {MAX_PIXELS:,} pixels: {path} ({error})"
            ) from None
        except _PIL_ERRORS:
            continue
        width, height = header.size
        if not 0 < width * height <= MAX_PIXELS:
            raise DataError(
                f"an image must have 1 to {MAX_PIXELS:,} pixels, got {width} x {height}: {path}"
            )
        return header
    raise DataError(f"not an image, or its header is damaged: {path} (starts with {prefix[:8]!r})")


def _orientation(header: ImageFile.ImageFile) -> int:
    try:
        if header.format == "TIFF":
            return int(header.tag_v2.get(_ORIENTATION_TAG, 1))  # type: ignore[attr-defined]
        # Without this test Pillow decodes a whole PNG in search of the tag.
        return int(header.getexif().get(_ORIENTATION_TAG, 1)) if "exif" in header.info else 1
    except _PIL_ERRORS:
        return 1  # OpenCV ignores broken EXIF data too


def _check_complete(data: bytes, header: ImageFile.ImageFile, path: Path) -> None:
    """Raise a DataError for what a decoder may pass or complain about on stderr."""
    if header.format in {"JPEG", "MPO"}:
        if not data.endswith(b"\xff\xd9") and data.find(b"\xff\xd9", _first_scan(data)) < 0:
            raise DataError(f"JPEG is truncated (no end-of-image marker): {path}")
    elif header.format == "PNG":
        try:
            header.verify()
        except _PIL_ERRORS as error:
            raise DataError(f"PNG is truncated or damaged ({error}): {path}") from None
        if not data.endswith(_PNG_END) and _PNG_END not in data:
            raise DataError(f"PNG is truncated (its last chunk is incomplete): {path}")
    elif header.format == "GIF" and not data.rstrip(b"\0").endswith(b";"):
        raise DataError(f"GIF is truncated (no trailer): {path}")


def _first_scan(data: bytes) -> int:
    """Where pixel data start in a JPEG: metadata before may hold a whole thumbnail JPEG."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xDA:
            break
        if marker == 0xFF:  # fill byte
            position += 1
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return position


def _decode(data: bytes, suffix: str) -> NDArray[Any] | None:
    """(H, W, 3) uint8 BGR by OpenCV, or None."""
    buffer = np.frombuffer(data, dtype=np.uint8)
    if suffix in _PIL_FIRST_SUFFIXES:
        return None
    try:
        pixels = _decode_tiff(buffer) if suffix in {".tif", ".tiff"} else None
        if pixels is None:
            pixels = cv2.imdecode(buffer, cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return pixels


def _decode_tiff(buffer: NDArray[np.uint8]) -> NDArray[Any] | None:
    """First page of a colour TIFF without its alpha channel, or None for any other TIFF."""
    ok, pages = cv2.imdecodemulti(buffer, cv2.IMREAD_UNCHANGED, range=(0, 1))
    if not ok or pages[0].ndim != 3 or pages[0].shape[2] < 3:
        return None
    pixels: NDArray[Any] = pages[0][..., :3]
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    return np.ascontiguousarray(pixels) if pixels.dtype == np.uint8 else None


def _decode_with_pillow(data: bytes, path: Path) -> NDArray[Any] | None:
    """(H, W, 3) uint8 BGR of a format that OpenCV does not know, or None."""
    try:
        image = ImageOps.exif_transpose(_identify(io.BytesIO(data), path))
        return np.asarray(image.convert("RGB"))[..., ::-1]
    except _PIL_ERRORS:
        return None
