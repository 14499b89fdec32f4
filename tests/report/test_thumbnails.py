from pathlib import Path

import cv2
import numpy as np
import pytest

from detal.report.thumbnails import encode, thumbnail_side, thumbnails
from tests.manifests.factories import write_image


def test_colours_and_proportions_stay() -> None:
    red = np.zeros((100, 200, 3), dtype=np.uint8)
    red[..., 0] = 255
    small = cv2.imdecode(np.frombuffer(encode(red, longest=50), np.uint8), cv2.IMREAD_COLOR)
    assert small is not None
    assert small.shape == (25, 50, 3)
    assert small.mean(axis=(0, 1)) == pytest.approx([0, 0, 255], abs=12)  # blue, green, red


def test_nothing_is_enlarged() -> None:
    data = encode(np.zeros((3, 7, 3), dtype=np.uint8), longest=50)
    small = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert small is not None
    assert small.shape == (3, 7, 3)


def test_in_order_with_gaps(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    paths = [str(write_image(tmp_path / "a.png")), str(tmp_path / "gone.png")]
    made = list(
        thumbnails(paths, longest=20, progress=lambda done, total: seen.append((done, total)))
    )
    assert made[0] is not None
    assert made[1] is None
    assert seen == [(1, 2), (2, 2)]


def test_more_images_are_smaller() -> None:
    assert [thumbnail_side(n) for n in (0, 200, 201, 1000, 5000)] == [480, 480, 320, 320, 224]
