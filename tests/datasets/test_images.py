from __future__ import annotations

import hashlib
import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from detal.datasets import image_size, images, read_image
from detal.errors import DataError
from tests.datasets.making import write_image

PIXELS = np.random.default_rng(7).integers(0, 256, (20, 30, 3), dtype=np.uint8)
SMOOTH = np.stack(np.meshgrid(np.arange(30) * 8, np.arange(20) * 12), axis=-1).astype(np.uint8)


def save(path: Path, array: Any = PIXELS, *, mode: str | None = None, **options: Any) -> Path:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[274] = orientation
    return tags


FILES: dict[str, Any] = {
    "jpeg": lambda d: save(d / "a.jpg"),
    "progressive_jpeg": lambda d: save(d / "a.jpeg", progressive=True),
    "gray_jpeg": lambda d: save(d / "a.jpg", mode="L"),
    "cmyk_jpeg": lambda d: save(d / "a.jpg", mode="CMYK"),
    "png": lambda d: save(d / "a.png"),
    "gray_png": lambda d: save(d / "a.png", mode="L"),
    "gray_alpha_png": lambda d: save(d / "a.png", mode="LA"),
    "one_bit_png": lambda d: save(d / "a.png", mode="1"),
    "rgba_png": lambda d: save(d / "a.png", mode="RGBA"),
    "palette_png": lambda d: save(d / "a.png", mode="P"),
    "gray16_png": lambda d: save(d / "a.png", (SMOOTH[..., 0].astype(np.uint16) * 257)),
    "bmp": lambda d: save(d / "a.bmp"),
    "webp": lambda d: save(d / "a.webp", lossless=True),
    "rotated_webp": lambda d: save(d / "a.webp", lossless=True, exif=exif(6)),
    "tiff": lambda d: save(d / "a.tif"),
    "rgba_tiff": lambda d: save(d / "a.tiff", mode="RGBA"),
    "gray_tiff": lambda d: save(d / "a.tif", mode="L"),
    "gray16_tiff": lambda d: save(d / "a.tif", (SMOOTH[..., 0].astype(np.uint16) * 257)),
    "rotated_tiff": lambda d: save(d / "a.tif", exif=exif(8)),
    "jpeg2000": lambda d: save(d / "a.jp2"),
    "avif": lambda d: save(d / "a.avif"),
    "rotated_avif": lambda d: save(d / "a.avif", exif=exif(6)),
    "png_named_jpg": lambda d: Path(save(d / "a.png")).rename(d / "a.jpg"),
    "jpeg_named_tif": lambda d: Path(save(d / "a.jpg")).rename(d / "a.tif"),
    "one_pixel": lambda d: save(d / "a.png", PIXELS[:1, :1]),
    "one_row": lambda d: save(d / "a.jpg", PIXELS[:1]),
    "animated_gif": lambda d: save(
        d / "a.gif", save_all=True, append_images=[Image.fromarray(PIXELS[::-1].copy())]
    ),
    **{
        f"exif_{turn}_{name}": lambda d, turn=turn, name=name: save(d / name, exif=exif(turn))
        for turn in range(1, 9)
        for name in ("a.jpg", "a.png")
    },
}


@pytest.mark.parametrize("make", FILES.values(), ids=FILES)
def test_pixels_are_those_of_the_training_pipeline(make: Any, tmp_path: Path) -> None:
    os.environ.setdefault("YOLO_CONFIG_DIR", str(tmp_path))
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    from ultralytics.utils.patches import imread

    path = make(tmp_path)
    expected = imread(str(path))
    if expected is None or expected.shape[2] != 3:
        pytest.skip("this version of OpenCV or of the library does not read it as three channels")
    expected = expected[..., ::-1]
    image = read_image(path)
    if path.suffix == ".avif" and image.size_hw == expected.shape[1::-1]:
        pytest.skip("this version of the library does not turn AVIF upright")
    assert image.pixels.dtype == np.uint8
    assert image.pixels.flags.c_contiguous
    np.testing.assert_array_equal(image.pixels, expected)
    assert image_size(path) == expected.shape[1::-1]
    assert image.size_hw == expected.shape[:2]


def test_channels_are_rgb_and_upright(tmp_path: Path) -> None:
    pixels = np.zeros((2, 4, 3), dtype=np.uint8)
    pixels[:, :2, 0] = 200  # left half red
    # Orientation 6: the file's left column is the top row of the upright image.
    path = save(tmp_path / "a.png", pixels, exif=exif(6))
    upright = read_image(path).pixels
    assert upright.shape == (4, 2, 3)
    assert (upright[:2] == [200, 0, 0]).all()
    assert (upright[2:] == 0).all()


def test_sixteen_bits_keep_the_high_byte(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.array([[0, 255, 256, 65535]], dtype=np.uint16))
    assert read_image(path).pixels[0, :, 0].tolist() == [0, 0, 1, 255]


def test_hash_and_size_are_of_the_bytes(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png")
    image = read_image(path)
    assert image.content_hash == hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    assert image.num_bytes == path.stat().st_size
    assert image.file_format == "PNG"


@pytest.mark.parametrize(
    "name", ["with space.jpg", "画像 Ünïcödé.jpg", "a#b?c%20.jpg", "АБВ/где.jpg"]
)
def test_any_name_can_be_read(name: str, tmp_path: Path) -> None:
    assert read_image(write_image(tmp_path / name)).size_hw == (30, 40)


def test_reading_in_threads_gives_the_same(tmp_path: Path) -> None:
    paths = [write_image(tmp_path / f"{i}.jpg", seed=i) for i in range(16)]
    alone = [read_image(path).pixels for path in paths]
    with ThreadPoolExecutor(8) as pool:
        together = [image.pixels for image in pool.map(read_image, paths)]
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, -2], ids=["20%", "50%", "90%", "no_last_bytes"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("a.jpg", {}, id="jpeg"),
        pytest.param("a.jpg", {"progressive": True}, id="progressive"),
        pytest.param("a.jpg", {"exif": exif(6)}, id="jpeg_exif"),
        pytest.param("a.png", {}, id="png"),
        pytest.param("a.webp", {}, id="webp"),
        pytest.param("a.bmp", {}, id="bmp"),
        pytest.param("a.gif", {}, id="gif"),
        pytest.param("a.tif", {}, id="tiff"),
        pytest.param("a.tif", {"compression": "tiff_lzw"}, id="tiff_lzw"),
        pytest.param("a.jp2", {}, id="jpeg2000"),
        pytest.param("a.avif", {}, id="avif"),
    ],
)
def test_truncated_files_are_refused_in_silence(
    name: str, options: dict[str, Any], keep: float, tmp_path: Path, capfd: Any
) -> None:
    data = save(tmp_path / name, **options).read_bytes()
    (tmp_path / name).write_bytes(data[: int(keep) if keep < 0 else int(len(data) * keep)])
    with pytest.raises(DataError, match=r"truncated|damaged"):
        read_image(tmp_path / name)
    assert capfd.readouterr().err == ""


def test_truncation_is_not_hidden_by_a_thumbnail_with_its_own_end_marker(tmp_path: Path) -> None:
    whole = save(tmp_path / "a.jpg").read_bytes()
    thumbnail = b"\xff\xe1" + (len(whole) + 2).to_bytes(2, "big") + whole
    (tmp_path / "a.jpg").write_bytes((whole[:2] + thumbnail + whole[2:])[:-20])
    with pytest.raises(DataError, match="no end-of-image marker"):
        read_image(tmp_path / "a.jpg")


def test_bytes_behind_the_end_of_a_jpeg_do_no_harm(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg")
    expected = read_image(path).pixels
    path.write_bytes(path.read_bytes() + b"trailer of some camera")
    np.testing.assert_array_equal(read_image(path).pixels, expected)


def test_damaged_png_is_refused_in_silence(tmp_path: Path, capfd: Any) -> None:
    path = save(tmp_path / "a.png")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"PNG is truncated or damaged"):
        read_image(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("read", [read_image, image_size])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "no such image file", id="missing"),
        pytest.param(b"", r"empty \(0 bytes\)", id="empty"),
        pytest.param(b"hello, I am no image at all", "not an image", id="text"),
        pytest.param(b"\xff\xd8\xff", "not an image", id="jpeg_magic_only"),
        pytest.param(b"\x89PNG\r\n\x1a\n", "not an image", id="png_magic_only"),
        pytest.param(b"GIF89a", "not an image", id="gif_magic_only"),
    ],
)
def test_what_is_no_image_is_refused(
    read: Any, content: bytes | None, message: str, tmp_path: Path, capfd: Any
) -> None:
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as info:
        read(path)
    assert str(path) in str(info.value)
    assert capfd.readouterr().err == ""


def test_folder_instead_of_image(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read image file"):
        read_image(tmp_path)


def test_too_many_pixels_are_refused_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A PNG header that promises 100,000 x 100,000 pixels, with the data of a small one.
    data = bytearray(save(tmp_path / "a.png").read_bytes())
    data[16:24] = (100_000).to_bytes(4, "big") * 2
    import zlib

    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(data)

    def fail(*_: Any) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(cv2, "imdecode", fail)
    with pytest.raises(DataError, match=r"1 to 178,956,970 pixels, got 100000 x 100000"):
        read_image(tmp_path / "a.png")
    with pytest.raises(DataError, match="got 100000 x 100000"):
        image_size(tmp_path / "a.png")


def test_pillow_reads_what_opencv_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.gif", mode="P")
    expected = read_image(path).pixels
    monkeypatch.setattr(cv2, "imdecode", lambda *_: None)
    np.testing.assert_array_equal(read_image(path).pixels, expected)


def test_unknown_files_do_not_reach_a_replaced_image_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # ultralytics replaces Image.open by a function that installs packages on unknown files.
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("Image.open was called")

    monkeypatch.setattr(Image, "open", fail)
    (tmp_path / "a.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match="not an image"):
        read_image(tmp_path / "a.jpg")
    assert read_image(save(tmp_path / "b.png")).size_hw == (20, 30)


def test_image_size_reads_the_header_only(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", exif=exif(6))
    path.write_bytes(path.read_bytes()[:700])  # the pixel data are gone
    assert image_size(path) == (20, 30)


def test_image_sizes_keep_order_and_give_errors(tmp_path: Path) -> None:
    good = write_image(tmp_path / "a.png", width=5, height=6)
    sizes = list(images.image_sizes([str(good), str(tmp_path / "b.png"), str(good)]))
    assert sizes[0] == sizes[2] == (5, 6)
    assert isinstance(sizes[1], DataError)
    assert list(images.image_sizes([])) == []


def test_every_byte_string_is_an_image_or_a_data_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG")
    for number in range(150):
        data = bytearray(buffer.getvalue())
        for place in rng.integers(0, len(data), 4):
            data[place] = rng.integers(0, 256)
        path = tmp_path / f"{number}.png"
        path.write_bytes(data)
        try:
            pixels = read_image(path).pixels
        except DataError:
            continue
        assert pixels.shape == PIXELS.shape
