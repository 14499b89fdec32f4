"""Query strategies by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from detal.errors import ConfigError, unknown_name
from detal.strategies.agent import mgral
from detal.strategies.badge import badge
from detal.strategies.balance import class_balanced, class_quota, rare_first
from detal.strategies.change_table import change_greedy
from detal.strategies.combined import cold_start, combine, staged
from detal.strategies.committee import bald, committee
from detal.strategies.consistency import cald, flip_inconsistency
from detal.strategies.contextual import cdal
from detal.strategies.coverage import core_set, kmeans
from detal.strategies.density import density, typiclust
from detal.strategies.expected_change import (
    emoc,
    expected_error_reduction,
    expected_gradient_length,
)
from detal.strategies.facility import facility_location, prob_cover
from detal.strategies.learning_loss import learning_loss
from detal.strategies.localisation import box_spread, cluster_spread, localisation_tightness
from detal.strategies.metadata import filter_images, weighted
from detal.strategies.ppal import ppal
from detal.strategies.prototypes import div_proto
from detal.strategies.scored import box_count, entropy, least_confidence, margin, random
from detal.strategies.strategy import QueryStrategy
from detal.strategies.table_greedy import curve_greedy
from detal.strategies.trusted import trustset
from detal.strategies.variant_table import variant_greedy

__all__ = ["STRATEGIES", "make_strategy", "strategy_options"]

STRATEGIES: dict[str, Callable[..., QueryStrategy]] = {
    "random": random,
    "entropy": entropy,
    "margin": margin,
    "least_confidence": least_confidence,
    "box_count": box_count,
    "box_spread": box_spread,
    "cluster_spread": cluster_spread,
    "localisation_tightness": localisation_tightness,
    "expected_gradient_length": expected_gradient_length,
    "emoc": emoc,
    "expected_error_reduction": expected_error_reduction,
    "learning_loss": learning_loss,
    "cald": cald,
    "flip_inconsistency": flip_inconsistency,
    "committee": committee,
    "bald": bald,
    "core_set": core_set,
    "curve_greedy": curve_greedy,
    "change_greedy": change_greedy,
    "variant_greedy": variant_greedy,
    "trustset": trustset,
    "mgral": mgral,
    "kmeans": kmeans,
    "density": density,
    "typiclust": typiclust,
    "prob_cover": prob_cover,
    "facility_location": facility_location,
    "badge": badge,
    "cdal": cdal,
    "ppal": ppal,
    "div_proto": div_proto,
    "class_balanced": class_balanced,
    "class_quota": class_quota,
    "rare_first": rare_first,
    "filter": filter_images,
    "weighted": weighted,
    "combine": combine,
    "staged": staged,
    "cold_start": cold_start,
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
