from pathlib import Path

import cv2
import numpy as np
import pytest

from detal.loop.duplicates import near_duplicate_share, thumbnails

A, B = np.eye(4, dtype=np.float32)[:2]
NEAR_A = (A + 0.1 * B) / np.linalg.norm(A + 0.1 * B)
NOTHING = np.zeros((0, 4), dtype=np.float32)


@pytest.mark.parametrize(
    ("batch", "before", "share"),
    [
        pytest.param([A, B], NOTHING, 0.0, id="different"),
        pytest.param([A, NEAR_A], NOTHING, 0.5, id="the-second-of-a-pair-counts"),
        pytest.param([A, B], [NEAR_A], 0.5, id="labelled-before"),
        pytest.param([A, A, A], [B], 2 / 3, id="three-alike"),
        pytest.param(NOTHING, [A], 0.0, id="empty-batch"),
    ],
)
def test_share(batch, before, share: float) -> None:
    assert near_duplicate_share(np.array(batch), np.array(before)) == pytest.approx(share)


def test_thumbnails_are_unit_vectors_blind_to_brightness(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(0, 128, 2, dtype=np.uint8), (64, 1))
    for name, image in (("dark", ramp), ("bright", ramp + 60), ("turned", ramp.T)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
    dark, bright, turned = thumbnails(
        [str(tmp_path / f"{name}.png") for name in ("dark", "bright", "turned")]
    )
    assert dark @ dark == pytest.approx(1, abs=1e-5)
    assert dark @ bright > 0.99
    assert abs(dark @ turned) < 0.1


def test_a_flat_image_resembles_nothing(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "flat.png"), np.full((20, 20), 7, np.uint8))
    flat = thumbnails([str(tmp_path / "flat.png")] * 2)
    assert near_duplicate_share(flat, flat[:0]) == 0
