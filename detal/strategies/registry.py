"""Query strategies by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from detal.errors import ConfigError, unknown_name
from detal.strategies.coverage import core_set, kmeans
from detal.strategies.scored import box_count, entropy, least_confidence, margin, random
from detal.strategies.strategy import QueryStrategy

__all__ = ["STRATEGIES", "make_strategy", "strategy_options"]

STRATEGIES: dict[str, Callable[..., QueryStrategy]] = {
    "random": random,
    "entropy": entropy,
    "margin": margin,
    "least_confidence": least_confidence,
    "box_count": box_count,
    "core_set": core_set,
    "kmeans": kmeans,
}
"""Name -> factory; its keyword arguments are the strategy's options, its docstring tells what it
prefers, what it costs and how it fails."""


def make_strategy(name: str, **options: Any) -> QueryStrategy:
    """The strategy ``name`` with its options.

    Raises:
        ConfigError: If the name, an option or an option's value is unknown.
    """
    complete = strategy_options(name, **options)
    return STRATEGIES[name](**complete)


def strategy_options(name: str, **options: Any) -> dict[str, Any]:
    """All options of the strategy ``name``: those given, and the defaults of the others.

    Raises:
        ConfigError: If the name or an option is unknown.
    """
    if name not in STRATEGIES:
        raise ConfigError(unknown_name("strategy", name, STRATEGIES))
    known = inspect.signature(STRATEGIES[name]).parameters
    for option in options:
        if not known:
            raise ConfigError(f"strategy {name} has no options, got {option!r}")
        if option not in known:
            raise ConfigError(unknown_name(f"option of {name}", option, known))
    return {option: parameter.default for option, parameter in known.items()} | options
