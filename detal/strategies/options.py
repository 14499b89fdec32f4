"""Checks of options that are numbers; unknown words are refused where they are read."""

from __future__ import annotations

import math

from detal.errors import ConfigError

__all__ = ["check_integer", "check_number"]


def check_integer(option: str, value: object, *, at_least: int = 1) -> None:
    """Raise a ConfigError unless ``value`` is an integer of at least ``at_least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise ConfigError(f"{option} must be an integer >= {at_least}, got {value!r}")


def check_number(
    option: str, value: object, *, at_least: float = 0.0, at_most: float = math.inf
) -> None:
    """Raise a ConfigError unless ``value`` is a finite number within the bounds."""
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not (math.isfinite(number) and at_least <= number <= at_most):
        bounds = f">= {at_least:g}" if at_most == math.inf else f"in [{at_least:g}, {at_most:g}]"
        raise ConfigError(f"{option} must be a number {bounds}, got {value!r}")
