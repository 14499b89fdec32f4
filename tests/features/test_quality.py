import cv2
import numpy as np
import pytest

from detal.features.quality import image_quality


def grey(rows) -> np.ndarray:
    return np.repeat(np.array(rows, dtype=np.uint8)[:, :, None], 3, axis=2)


def test_by_hand() -> None:
    """A checkerboard of 0 and 255: the Laplacian is +-1020 everywhere (borders are mirrored)."""
    board = grey(255 * (np.indices((8, 8)).sum(axis=0) % 2))
    quality = image_quality(board)
    assert quality == pytest.approx((1020**2, 127.5, 127.5))


@pytest.mark.parametrize("value", [0, 90, 255])
def test_a_flat_image_has_no_sharpness(value: int) -> None:
    assert image_quality(grey(np.full((5, 9), value))) == pytest.approx((0, value, 0))


def test_colours_count_as_they_are_seen() -> None:
    """ITU-R 601: green is brighter than red, red than blue."""
    levels = [image_quality(np.full((4, 4, 3), rgb, np.uint8)).luminance for rgb in np.eye(3) * 255]
    assert levels == pytest.approx([76, 150, 29], abs=1)


@pytest.mark.parametrize(
    "shape",
    [(1, 1), (1, 700), (700, 1), (3, 2000), (640, 480), (1081, 1917)],
    ids=["one-pixel", "row", "column", "strip", "photo", "odd"],
)
def test_any_shape(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    quality = image_quality(rng.integers(0, 256, (*shape, 3), dtype=np.uint8))
    assert np.isfinite(quality).all()
    assert 0 <= quality.luminance <= 255
    assert 0 <= quality.contrast <= 127.5


def test_blur_lowers_sharpness_alone() -> None:
    rng = np.random.default_rng(0)
    sharp = cv2.resize(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8), (800, 600), None, 0, 0, 0)
    blurred = np.asarray(cv2.GaussianBlur(sharp, (0, 0), 6), dtype=np.uint8)
    before, after = image_quality(sharp), image_quality(blurred)
    assert after.sharpness < before.sharpness / 4
    assert after.luminance == pytest.approx(before.luminance, rel=0.02)
    dark = image_quality((sharp // 4).astype(np.uint8))
    assert dark.luminance == pytest.approx(before.luminance / 4, rel=0.05)


def test_the_image_is_left_as_it_is() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (400, 500, 3), dtype=np.uint8)
    before = pixels.copy()
    image_quality(pixels)
    assert np.array_equal(pixels, before)
