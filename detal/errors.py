"""The errors that detal raises on purpose.

    DetalError
    ├── ConfigError      a config, an option or a name is wrong
    ├── DataError        an image, an annotation file or a manifest is wrong
    ├── BudgetError      a budget cannot be read or met
    ├── DetectorError    a model cannot be loaded or gave unusable output
    └── StoreError       files that detal wrote are missing, foreign or damaged

A message says what must hold, what was found, and where.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "BudgetError",
    "ConfigError",
    "DataError",
    "DetalError",
    "DetectorError",
    "StoreError",
    "unknown_name",
]


class DetalError(Exception):
    """Base of every error a user can mend; the command line prints it without a traceback."""


class ConfigError(DetalError):
    """A config, an option or a name is wrong."""


class DataError(DetalError):
    """An image, an annotation file or a manifest is wrong."""


class BudgetError(DetalError):
    """A budget cannot be read or met."""


class DetectorError(DetalError):
    """A model cannot be loaded or gave unusable output."""


class StoreError(DetalError):
    """Files that detal wrote are missing, foreign or damaged."""


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> str:
    """Message for an unknown name, with the closest valid ones first.

    Args:
        kind: What the name stands for, for example ``"strategy"``.
        name: The name that was given.
        valid: The names that exist.
    """
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return f"unknown {kind} {name!r}: {hint}valid are {', '.join(names)}"
