"""What a strategy says about its batch, kept with the run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["noted"]

_STRATEGIES = logging.getLogger("detal.strategies")


class _Notes(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@contextmanager
def noted() -> Iterator[list[str]]:
    """Collects what strategies log as information or worse; it is also shown as a log is."""
    notes, level = _Notes(), _STRATEGIES.level
    _STRATEGIES.addHandler(notes)
    _STRATEGIES.setLevel(min(logging.INFO, _STRATEGIES.getEffectiveLevel()))
    try:
        yield notes.texts
    finally:
        _STRATEGIES.setLevel(level)
        _STRATEGIES.removeHandler(notes)
