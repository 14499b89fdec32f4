"""Image files that are not what they seem."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.bad_inputs.cases import Case, Make, check, family
from tests.datasets.making import write_image

__all__ = ["cases"]


def cases() -> list[Case]:
    """All of them; each is checked, and some are offered to ``select`` as well."""
    made = {name: _checked(name, content) for name, content in _contents().items()}
    return [
        *family("images", made, used=_USED),
        *family("images in a pool", {name: _offered(name) for name in _OFFERED}),
    ]


_USED = {
    "one-pixel.png": "an image of 1 x 1 is an image",
    "png-called.jpg": "the bytes tell the format, as in training",
    "jpeg-called.png": "the bytes tell the format, as in training",
    "animated.gif": "the first frame, as in training",
    "animated.webp": "the first frame, as in training",
    "animated.png": "the first frame, as in training",
    "two-pages.tif": "the first page, as in training",
    "sixteen-bits.png": "the high byte, as in training",
    "palette.png": "colours",
    "alpha.png": "colours",
    "grey.jpg": "three equal channels",
    "cmyk.jpg": "colours",
    "trailing-garbage.jpg": "all pixels are there",
    "thin.png": "1 x 5,000 is an image",
    "exif-nonsense.jpg": "no orientation",
    "icc-nonsense.png": "a profile is not pixels",
    "larger-than-data.jpg": "the decoder fills what is missing, as in training",
}
_OFFERED = (
    "zero-bytes.jpg",
    "truncated.jpg",
    "truncated.png",
    "text.jpg",
    "huge-header.png",
    "bomb-30000x30000.png",
    "bomb-30000x30000.jpg",
    "bomb-30000x30000.gif",
    "html.png",
    "svg.png",
)


def _checked(name: str, content: Callable[[], bytes]) -> Make:
    def make(folder: Path) -> Sequence[object]:
        write_image(folder / "images" / "good.png", seed=99)
        (folder / "images" / name).write_bytes(content())
        return check(folder / "images")

    return make


def _offered(name: str) -> Make:
    def make(folder: Path) -> Sequence[object]:
        from tests.bad_inputs.cases import select

        target = folder / "world" / "pool" / "3.png"
        target.unlink()
        target.write_bytes(_contents()[name]())
        return select(folder)

    return make


def _encoded(kind: str, *, mode: str = "RGB", size: tuple[int, int] = (40, 30), **options) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def _frames(kind: str) -> bytes:
    frames = [Image.new("RGB", (40, 30), (i * 40, 0, 0)) for i in range(5)]
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, data: bytes, *extra: bytes, depth: int = 8) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    parts = [_chunk(b"IHDR", head), *extra, _chunk(b"IDAT", data), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _png_bomb(side: int, depth: int = 8) -> bytes:
    packer = zlib.compressobj(9)
    row = bytes(1 + -(-side * depth // 8))
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    return _png(side, side, data, depth=depth)


def _with_size(data: bytes, width: int, height: int) -> bytes:
    """A JPEG whose frame header states another size."""
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + struct.pack(">HH", height, width) + data[place + 4 :]


def _bmp(width: int, height: int, bits: int = 24) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 100, 0, 0, 54) + info + bytes(100)


def _damaged(data: bytes, part: slice) -> bytes:
    changed = bytearray(data)
    changed[part] = bytes(255 - b for b in changed[part])
    return bytes(changed)


def _contents() -> dict[str, Callable[[], bytes]]:
    jpeg, png = _encoded("JPEG"), _encoded("PNG")
    webp, tiff, bmp = _encoded("WEBP"), _encoded("TIFF"), _encoded("BMP")
    gif, jp2 = _encoded("GIF"), _encoded("JPEG2000")
    exif = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12\0\x03\xff\xff\xff\xff" * 20
    return {
        "zero-bytes.jpg": lambda: b"",
        "one-byte.png": lambda: b"\x89",
        "text.jpg": lambda: b"this is no image at all",
        "html.png": lambda: b"<html><script>alert(1)</script></html>",
        "svg.png": lambda: b"<svg xmlns='x' onload='alert(1)'><image href='file:///etc/passwd'/>",
        "zeros.jpg": lambda: bytes(10_000),
        "noise.png": lambda: np.random.default_rng(1).bytes(10_000),
        "only-magic.png": lambda: png[:8],
        "only-magic.jpg": lambda: jpeg[:3],
        "only-magic.gif": lambda: b"GIF89a",
        "only-magic.tif": lambda: b"II*\0",
        "only-magic.webp": lambda: b"RIFF\xff\xff\xff\xffWEBP",
        "only-magic.bmp": lambda: b"BM",
        "truncated.jpg": lambda: jpeg[: len(jpeg) // 2],
        "truncated.png": lambda: png[: len(png) // 2],
        "truncated.webp": lambda: webp[: len(webp) // 2],
        "truncated.tif": lambda: tiff[: len(tiff) // 2],
        "truncated.bmp": lambda: bmp[: len(bmp) // 2],
        "truncated.gif": lambda: gif[: len(gif) // 2],
        "truncated.jp2": lambda: jp2[: len(jp2) // 2],
        "no-end.jpg": lambda: jpeg[:-2],
        "no-end.png": lambda: png[:-12],
        "no-end.gif": lambda: gif[:-1],
        "damaged-crc.png": lambda: _damaged(png, slice(29, 33)),
        "damaged-data.png": lambda: _damaged(png, slice(60, 70)),
        "damaged-header.jpg": lambda: _damaged(jpeg, slice(2, 20)),
        "damaged-header.tif": lambda: _damaged(tiff, slice(4, 8)),
        "damaged-data.webp": lambda: _damaged(webp, slice(20, 60)),
        "trailing-garbage.jpg": lambda: jpeg + b"PK\x03\x04" * 100,
        "one-pixel.png": lambda: _encoded("PNG", size=(1, 1)),
        "thin.png": lambda: _encoded("PNG", size=(1, 5000)),
        "no-width.png": lambda: _png(0, 10, zlib.compress(bytes(10))),
        "no-height.jpg": lambda: _with_size(jpeg, 40, 0),
        "no-size.bmp": lambda: _bmp(0, 0),
        "negative-size.bmp": lambda: _bmp(-40, -30),
        "huge-header.png": lambda: _png(2**31 - 1, 2**31 - 1, b""),
        "huge-header.jpg": lambda: _with_size(jpeg, 65535, 65535),
        "huge-header.bmp": lambda: _bmp(2**31 - 1, 2**31 - 1),
        "larger-than-data.jpg": lambda: _with_size(jpeg, 4000, 3000),
        "larger-than-data.bmp": lambda: _bmp(4000, 3000),
        "bomb-30000x30000.png": lambda: _png_bomb(30_000, depth=1),
        "bomb-30000x30000-grey.png": lambda: _png_bomb(30_000),
        "bomb-30000x30000.jpg": lambda: _with_size(jpeg, 30_000, 30_000),
        "bomb-30000x30000.gif": lambda: gif[:6] + struct.pack("<HH", 30_000, 30_000) + gif[10:],
        "bomb-13000x13000.png": lambda: _png_bomb(13_000, depth=1)[:-40],
        "text-bomb.png": lambda: _png(
            4,
            4,
            zlib.compress(bytes(20)),
            _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000))),
        ),
        "icc-nonsense.png": lambda: _png(
            4, 4, zlib.compress(bytes(20)), _chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(100)))
        ),
        "exif-nonsense.jpg": lambda: (
            jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]
        ),
        "animated.gif": lambda: _frames("GIF"),
        "animated.webp": lambda: _frames("WEBP"),
        "animated.png": lambda: _frames("PNG"),
        "two-pages.tif": lambda: _frames("TIFF"),
        "sixteen-bits.png": lambda: _png(4, 4, zlib.compress(bytes(36)), depth=16),
        "palette.png": lambda: _encoded("PNG", mode="P"),
        "alpha.png": lambda: _encoded("PNG", mode="RGBA"),
        "grey.jpg": lambda: _encoded("JPEG", mode="L"),
        "cmyk.jpg": lambda: _encoded("JPEG", mode="CMYK"),
        "png-called.jpg": lambda: png,
        "jpeg-called.png": lambda: jpeg,
        "pdf.jpg": lambda: b"%PDF-1.4\n" + bytes(500),
        "zip.png": lambda: b"PK\x03\x04" + bytes(500),
        "loop.tif": lambda: b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
        "postscript.png": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
    }
