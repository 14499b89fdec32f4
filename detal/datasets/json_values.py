"""JSON files, and numbers and ids out of JSON values that may be anything."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detal.datasets.listing import read_text, storable
from detal.errors import DataError

__all__ = [
    "NO_INTEGER",
    "id_text",
    "integer",
    "integers",
    "number",
    "numbers",
    "parse_json",
    "short",
]

NO_INTEGER = -(2**63)
"""Stands for a value that is no whole number."""

_MAX_INTEGER = 2**62  # fits int64 with room above


def parse_json(file: Path) -> Any:
    """The value in a JSON file.

    Raises:
        DataError: If it cannot be read or is no JSON.
    """
    try:
        return json.loads(read_text(file), object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{file} must be JSON: {error.msg} in line {error.lineno}, column {error.colno}"
        ) from None
    except (RecursionError, ValueError) as error:  # nested or numbers beyond all measure
        raise DataError(f"{file} must be JSON: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"an object must have each key once, got {short(twice)} again")
    return made


def id_text(value: Any) -> str | None:
    """An id as text (17, 17.0 and "17" are one id), or None if it is no id."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    usable = (isinstance(value, int) and not isinstance(value, bool)) or (
        isinstance(value, str) and value != "" and storable(value)
    )
    return str(value) if usable else None


def number(value: Any) -> float:
    """A number, NaN if it is none."""
    try:
        return float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return math.nan


def numbers(values: Sequence[Any]) -> NDArray[np.float64]:
    """(n,) numbers, NaN where there is none."""
    try:
        return np.array(values, dtype=np.float64).reshape(len(values))
    except (TypeError, ValueError, OverflowError):
        return np.array([number(value) for value in values], dtype=np.float64)


def integer(value: Any) -> int | None:
    """A whole number, None if it is none or too large for a table."""
    if type(value) is int:
        return value if abs(value) <= _MAX_INTEGER else None
    usable = isinstance(value, float) and value.is_integer() and abs(value) <= _MAX_INTEGER
    return int(value) if usable else None


def integers(values: Sequence[Any]) -> NDArray[np.int64]:
    """(n,) whole numbers, ``NO_INTEGER`` where there is none."""
    whole = (integer(value) for value in values)
    return np.array([NO_INTEGER if v is None else v for v in whole], dtype=np.int64)


def short(value: Any) -> str:
    """A value for a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
