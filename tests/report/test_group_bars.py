"""The picture of what groups brought."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from detal.report import GroupBar, write_group_gains

BAR = GroupBar(
    name="group 1",
    about="10 of 20 images · crème brûlée $5$, 猫",
    gain=0.01,
    reach=0.004,
    measured=0.015,
)


def picture(path: Path, bars: list[GroupBar], *, noise: float = 0.005) -> np.ndarray:
    write_group_gains(path, bars, noise=noise, title="Gains", note="dots: measured")
    image = cv2.imread(str(path))
    assert image is not None
    return np.asarray(image)


@pytest.mark.parametrize("number", [1, 4, 12])
def test_one_row_per_group(tmp_path: Path, number: int) -> None:
    image = picture(tmp_path / "a.png", [BAR] * number)
    assert image.shape[0] == pytest.approx(130 * (0.3 * number + 1.3), abs=2)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"gain": 0.02}, id="gain"),
        pytest.param({"reach": 0.001}, id="interval"),
        pytest.param({"measured": float("nan")}, id="measured"),
        pytest.param({"about": "nothing"}, id="words"),
    ],
)
def test_everything_is_drawn(tmp_path: Path, change: dict[str, Any]) -> None:
    frame = [replace(BAR, gain=-0.03, measured=0.05), replace(BAR, gain=0.05)]
    full = picture(tmp_path / "a.png", [*frame, BAR])
    assert (picture(tmp_path / "b.png", [*frame, replace(BAR, **change)]) != full).any()


def test_the_noise_is_drawn_and_nothing_at_all_is_no_error(tmp_path: Path) -> None:
    full = picture(tmp_path / "a.png", [BAR])
    assert (picture(tmp_path / "b.png", [BAR], noise=0.006) != full).any()
    flat = replace(BAR, gain=0.0, reach=0.0, measured=float("nan"))
    assert picture(tmp_path / "c.png", [flat], noise=0.0).std() > 1
