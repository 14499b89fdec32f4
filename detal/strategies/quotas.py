"""Quotas of objects per class: what was asked for, in objects, and what cannot be met.

Shapes: C classes.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from detal.errors import ConfigError, unknown_name
from detal.reward import CategoryCurves

__all__ = [
    "check_quotas",
    "curve_quotas",
    "level_quotas",
    "quotas_in_objects",
    "tell_result",
    "tell_shortage",
    "unfilled",
]

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]
_CLASSES_LISTED = 10
_HALVINGS = 100


def check_quotas(quotas: object) -> dict[str, tuple[float, bool]]:
    """Class name -> number and whether it is a share of the batch.

    Args:
        quotas: A mapping of class names to objects (a number >= 0) or shares (``"20%"``).

    Raises:
        ConfigError: If it is not, or names no class, or the shares add up to more than 100%.
    """
    if not isinstance(quotas, Mapping) or not quotas:
        raise ConfigError(
            f"quotas must map at least one class to objects or a share ('20%'), got {quotas!r}"
        )
    result = {str(name): _quota(str(name), value) for name, value in quotas.items()}
    shares = sum(value for value, is_share in result.values() if is_share)
    if shares > 1 + 1e-9:
        raise ConfigError(f"quotas given as shares must add up to at most 100%, got {shares:.0%}")
    return result


def _quota(name: str, value: object) -> tuple[float, bool]:
    is_share = isinstance(value, str) and value.strip().endswith("%")
    try:
        number = float(str(value).strip().rstrip("%")) / (100 if is_share else 1)
    except ValueError:
        number = math.nan
    if isinstance(value, bool) or not (math.isfinite(number) and number >= 0):
        raise ConfigError(
            f"the quota of class {name!r} must be a number of objects >= 0 or a share as in "
            f"'20%', got {value!r}"
        )
    return number, is_share


def quotas_in_objects(
    quotas: Mapping[str, tuple[float, bool]], names: tuple[str, ...], bought: float
) -> Floats:
    """(C,) objects wanted of each class.

    Args:
        quotas: See `check_quotas`.
        names: C names.
        bought: Objects that the budget is expected to buy.

    Raises:
        ConfigError: If a class is unknown.
    """
    place = {name: label for label, name in enumerate(names)}
    result = np.zeros(len(names))
    for name, (number, is_share) in quotas.items():
        if name not in place:
            raise ConfigError(unknown_name("class in quotas", name, names))
        result[place[name]] = number * (bought if is_share else 1)
    return result


def level_quotas(counts: NDArray[np.int64], amount: float) -> Floats:
    """(C,) what each class lacks of the level up to which ``amount`` objects more can fill all.

    Args:
        counts: (C,) labelled objects, C >= 1.
        amount: Objects to share out, >= 0; the quotas add up to it.
    """
    ordered = np.sort(counts).astype(np.float64)
    levels = (amount + ordered.cumsum()) / np.arange(1, len(ordered) + 1)
    # The level if the n lowest are filled up; the right n is the last that reaches its own n-th.
    level = levels[np.flatnonzero(levels >= ordered)[-1]]
    return np.asarray(np.maximum(level - counts, 0.0))


def curve_quotas(
    curves: CategoryCurves,
    counts: NDArray[np.int64],
    amount: float,
    *,
    weights: Floats | None = None,
    supply: Floats | None = None,
) -> Floats:
    """(C,) objects of each class that raise the weighted mean AP most, were they to be had singly.

    At the optimum one more object is worth the same in every class that gets any. With equal curves
    and weights that levels the counts (`level_quotas`).

    Args:
        curves: AP of each class over its labelled objects.
        counts: (C,) labelled objects.
        amount: Objects to share out, >= 0; the quotas add up to it, as far as the supply reaches.
        weights: (C,) how much each class counts, >= 0; all alike by default.
        supply: (C,) most objects of each class that can be had; no limit by default.
    """
    worth = curves.drop * (1 if weights is None else weights)
    limit = np.full(len(worth), amount) if supply is None else np.minimum(supply, amount)
    limit = np.where(worth > 0, limit, 0.0)
    if amount >= limit.sum():
        return limit
    power = 1 / (curves.exponent + 1)

    def at(price: float) -> Floats:
        wanted = curves.onset * (worth**power * price - 1) - counts
        return np.asarray(np.clip(wanted, 0, limit))

    # At the lower price no class gets an object, at the higher each gets all that it can.
    most = (1 + (counts + limit) / curves.onset)[worth > 0].max()
    low, high = 0.0, float(most / worth[worth > 0].min() ** power)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle).sum() < amount else (low, middle)
    return at(high)


def tell_shortage(
    quota: Floats, supply: Floats, bought: float, names: tuple[str, ...], *, asked: bool
) -> tuple[str, ...]:
    """Log what cannot be met before anything is picked, as a warning if a user asked for it.

    Returns:
        The same sentences.
    """
    told = []
    if quota.sum() > bought * (1 + 1e-9):
        told.append(
            f"quotas add up to {quota.sum():.4g} objects, but the budget buys about {bought:.4g}"
        )
    scarce = np.flatnonzero(supply < quota - 1e-9)
    if len(scarce):
        what = [f"{names[c]} (about {supply[c]:.3g} of {quota[c]:.3g})" for c in scarce]
        told.append(f"the pool does not hold the quota of {_listed(what)}")
    for sentence in told:
        log.log(logging.WARNING if asked else logging.INFO, "%s", sentence)
    return tuple(told)


def tell_result(quota: Floats, have: Floats, names: tuple[str, ...]) -> None:
    """Log how far the quotas are filled by what the batch is expected to hold."""
    for sentence in unfilled(quota, have, names):
        log.info("%s", sentence)


def unfilled(quota: Floats, have: Floats, names: tuple[str, ...]) -> tuple[str, ...]:
    """The sentence that says how far the quotas are filled; none if they are."""
    unmet = np.flatnonzero(have < quota - 1e-9)
    if not len(unmet):
        return ()
    unmet = unmet[np.argsort(have[unmet] / quota[unmet], kind="stable")]
    what = [f"{names[c]} {have[c]:.3g} of {quota[c]:.3g}" for c in unmet]
    return (f"quotas not filled, in expected objects: {_listed(what)}",)


def _listed(items: list[str]) -> str:
    more = len(items) - _CLASSES_LISTED
    return ", ".join(items[:_CLASSES_LISTED]) + (f" and {more} more" if more > 0 else "")
