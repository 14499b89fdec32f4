"""The picture of category curves."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from detal.report import CurvePanel, write_category_curves

GRID = np.linspace(0, 30, 50)
LINE = 0.6 - 0.5 * (GRID + 1) ** -0.5
PANEL = CurvePanel(
    label=0,
    name="crème brûlée $5$ 猫",
    labeled=20,
    counts=np.array([5.0, 10, 20]),
    ap=np.array([0.3, np.nan, 0.5]),
    grid=GRID,
    line=LINE,
    low=LINE - 0.1,
    high=LINE + 0.1,
)


def picture(path: Path, panels: list[CurvePanel]) -> np.ndarray:
    write_category_curves(path, panels, title="AP over labels", note="dots: measured")
    image = cv2.imread(str(path))
    assert image is not None
    return np.asarray(image)


@pytest.mark.parametrize("number", [1, 3, 5])
def test_one_panel_per_class(tmp_path: Path, number: int) -> None:
    image = picture(tmp_path / "a.png", [replace(PANEL, label=i) for i in range(number)])
    rows, columns = -(-number // 4), min(number, 4)
    assert image.shape[0] == pytest.approx(130 * (2.2 * rows + 0.8), abs=2)
    assert image.shape[1] == pytest.approx(130 * max(2.9 * columns, 6), abs=2)


def test_points_lines_and_labels_are_drawn(tmp_path: Path) -> None:
    full = picture(tmp_path / "a.png", [PANEL])
    nothing = np.full(3, np.nan)
    changes: dict[str, dict[str, Any]] = {
        "points": {"ap": nothing},
        "line": {"line": LINE * 0.5},
        "band": {"low": LINE},
        "labels": {"labeled": 25.0},
    }
    for name, change in changes.items():
        other = picture(tmp_path / "b.png", [replace(PANEL, **change)])
        assert (other != full).any(), name


def test_a_class_that_was_never_measured(tmp_path: Path) -> None:
    unknown = replace(PANEL, ap=np.full(3, np.nan), line=0 * LINE)
    assert picture(tmp_path / "a.png", [unknown]).std() > 1
