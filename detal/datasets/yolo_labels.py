"""YOLO label files: one line per object, ``class cx cy w h`` or ``class x1 y1 x2 y2 x3 y3 …``."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from detal.datasets.dataset import Problem
from detal.errors import DataError

__all__ = ["LabelFile", "label_path", "parse_labels"]

_TOLERANCE = 0.01  # how far outside [0, 1] ultralytics lets a coordinate be
_MAX_CLASS = 2**31


@dataclass(frozen=True, eq=False)
class LabelFile:
    """The objects of one image.

    Attributes:
        path: The label file.
        found: Whether there is one.
        classes: (m,) int64 class numbers, >= 0.
        boxes_xyxyn: (m, 4) float64 xyxy as fractions of the image's width and height.
        lines: (m,) int64 line numbers, from 1.
        problems: One for each line that is not an object.
        error: Why the whole file cannot be read, or None.
    """

    path: str
    found: bool = True
    classes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    boxes_xyxyn: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 4)))
    lines: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    problems: tuple[Problem, ...] = ()
    error: DataError | None = None


def label_path(image_path: str) -> str:
    """As ultralytics: the last folder ``images`` becomes ``labels`` and the ending ``.txt``."""
    images, labels = f"{os.sep}images{os.sep}", f"{os.sep}labels{os.sep}"
    return os.path.splitext(labels.join(image_path.rsplit(images, 1)))[0] + ".txt"  # noqa: PTH122


def parse_labels(text: str, path: str) -> LabelFile:
    """Parse a label file.

    Polygons (also the four corners of rotated boxes) become their enclosing box. A line that
    repeats an earlier one is left out.

    Args:
        text: Content of the file.
        path: The file, for messages.
    """
    rows: dict[tuple[float, ...], int] = {}  # object -> line
    problems = []
    for number, line in enumerate(text.splitlines(), start=1):
        values = line.split()
        if not values:
            continue
        try:
            row = _parse_values(values)
        except ValueError as error:
            problems.append(Problem("invalid_box", path, f"line {number}", str(error)))
            continue
        if row in rows:
            message = f"a line must not repeat line {rows[row]}"
            problems.append(Problem("duplicate_box", path, f"line {number}", message))
        else:
            rows[row] = number
    table = np.array(list(rows), dtype=np.float64).reshape(-1, 5)
    return LabelFile(
        path,
        classes=table[:, 0].astype(np.int64),
        boxes_xyxyn=table[:, 1:],
        lines=np.array(list(rows.values()), dtype=np.int64),
        problems=tuple(problems),
    )


def _parse_values(values: list[str]) -> tuple[float, ...]:
    """Class and xyxy fractions of one line.

    Raises:
        ValueError: With a message for the user, if the line is not an object.
    """
    if len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
        raise ValueError(
            "a line must be 'class cx cy w h' or 'class' and at least 3 points 'x y', "
            f"got {len(values)} values"
        )
    try:
        category, *numbers = (float(value) for value in values)
    except ValueError:
        raise ValueError(f"a line must hold numbers, got {' '.join(values)[:60]!r}") from None
    if not (category.is_integer() and 0 <= category < _MAX_CLASS):
        raise ValueError(f"class must be a whole number >= 0, got {values[0][:20]!r}")
    low, high = -_TOLERANCE, 1 + _TOLERANCE
    if not all(low <= value <= high for value in numbers):  # NaN fails too
        raise ValueError(
            f"coordinates must be fractions of the image from 0 to 1, got {' '.join(values)[:60]!r}"
        )
    if len(numbers) > 4:
        xs, ys = numbers[::2], numbers[1::2]
        return category, min(xs), min(ys), max(xs), max(ys)
    cx, cy, w, h = numbers
    return category, cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2
