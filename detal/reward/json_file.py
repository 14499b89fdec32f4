"""Tables read from JSON files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from detal.errors import DataError, StoreError
from detal.files import read_json

__all__ = ["floats", "read_table", "without_nan"]

Floats = NDArray[np.float64]
Table = TypeVar("Table")


def read_table(path: Path, parse: Callable[[dict[str, Any]], Table], *, kind: str) -> Table:
    """What ``parse`` makes of the record in a file.

    Raises:
        DataError: If there is no such file.
        StoreError: If it is damaged, naming it; ``kind`` says what it should be.
    """
    try:
        record = read_json(path)
    except OSError as error:
        raise DataError(
            f"a table must be a folder that `detal tables build` has finished, cannot read "
            f"{path}: {error.strerror}"
        ) from None
    except ValueError as error:
        raise StoreError(f"{path} must be JSON: {error}") from None
    try:
        return parse(record)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} must be a {kind}: {error!r}") from None


def floats(values: Any, shape: tuple[int, ...]) -> Floats:
    """An array of floats; None becomes NaN.

    Raises:
        ValueError: If it has another shape.
    """
    array = np.array(values, dtype=np.float64)
    if array.shape != shape:
        raise ValueError(f"shape {shape} is needed, found {array.shape}")
    return array


def without_nan(values: Floats) -> list[list[float | None]]:
    """Rows of numbers, None in place of NaN."""
    return [[None if np.isnan(v) else v for v in row] for row in values.tolist()]
