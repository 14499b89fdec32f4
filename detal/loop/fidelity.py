"""How far what a table predicts for batches follows what labelling them truly brought.

Batches of about equal cost are each labelled and trained on r times, with the same r training seeds
for all. A table's fidelity is Spearman's rank correlation rho between its gains and the mean over
the repeats of the true gain.

The truth is noisy, so even a perfect table does not reach 1. With rho_1 the mean rank correlation
of two repeats, the reliability of the mean of r repeats is, after Spearman and Brown,

    rho_r = r * rho_1 / (1 + (r - 1) * rho_1)

and a table that knows the truth without noise is expected at the ceiling ``sqrt(rho_r)`` (the
correction for attenuation of classical test theory, an approximation for ranks). The share of the
ceiling is ``rho / sqrt(rho_r)``; by chance it may exceed 1. Where repeats agree no better than by
chance (rho_1 <= 0) there is no ceiling to compare with, and it is NaN.

Shapes: K batches, r repeats, C classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detal.errors import DataError
from detal.evaluation.metrics import nan_mean

__all__ = ["Ceiling", "Compared", "compare_tables", "noise_ceiling", "spearman"]

Floats = NDArray[np.float64]

_SAMPLES = 2000
_LEVELS = (0.025, 0.975)


def spearman(first: Floats, second: Floats) -> Floats:
    """Rank correlation in [-1, 1], ties at their mean rank.

    Args:
        first: (..., K) numbers.
        second: (..., K) numbers.

    Returns:
        (...) correlations over the last axis; NaN where one of the two does not vary there or holds
        a NaN. Compares all pairs of K.
    """
    ranks = [_centred_ranks(np.asarray(values, dtype=np.float64)) for values in (first, second)]
    norms = [np.sqrt((rank**2).sum(axis=-1)) for rank in ranks]
    size = norms[0] * norms[1]
    common = (ranks[0] * ranks[1]).sum(axis=-1)
    known = (size > 0) & ~np.isnan(first).any(axis=-1) & ~np.isnan(second).any(axis=-1)
    return np.where(known, common / np.where(size > 0, size, 1.0), np.nan)


def _centred_ranks(values: Floats) -> Floats:
    """Mean ranks less their mean, exact multiples of one half."""
    below = (values[..., None, :] < values[..., :, None]).sum(axis=-1)
    above = (values[..., None, :] > values[..., :, None]).sum(axis=-1)
    return np.asarray((below - above) / 2.0)


@dataclass(frozen=True)
class Ceiling:
    """What noise leaves of a perfect table.

    Attributes:
        reliability_of_one: Mean rank correlation of two repeats.
        reliability_of_mean: Reliability of the mean of all repeats.
    """

    reliability_of_one: float
    reliability_of_mean: float

    @staticmethod
    def of(reliability_of_one: float, repeats: int) -> Ceiling:
        """What the mean of ``repeats`` is worth; see the module."""
        one = reliability_of_one
        # Below zero, where the formula has a pole, the repeats share nothing.
        mean = repeats * one / (1 + (repeats - 1) * one) if one > 0 else min(one, 0.0)
        return Ceiling(reliability_of_one=one, reliability_of_mean=mean)

    @property
    def rho(self) -> float:
        """Correlation that a table without any error is expected to reach; NaN if there is none."""
        return (
            float(np.sqrt(self.reliability_of_mean))
            if self.reliability_of_mean > 0
            else float("nan")
        )


def noise_ceiling(true: Floats) -> Ceiling:
    """From the repeats' agreement; see the module.

    Args:
        true: (K, r) true gains.

    Raises:
        DataError: If there are fewer than two repeats.
    """
    repeats = true.shape[1]
    if repeats < 2:
        raise DataError(f"a noise ceiling needs at least two repeats, got {repeats}")
    return Ceiling.of(float(_agreement(true)), repeats)


def _agreement(true: Floats) -> Floats:
    """(...) mean rank correlation of two repeats of ``true`` (..., K, r)."""
    pairs = itertools.combinations(np.moveaxis(true, -1, 0), 2)
    return np.asarray(np.mean([spearman(a, b) for a, b in pairs], axis=0))


@dataclass(frozen=True, eq=False)
class Compared:
    """What a table predicted.

    Attributes:
        gain: (K,) of each batch, in units of the table's own.
        class_gain: (K, C) the same by class, or None if the table does not say.
    """

    gain: Floats
    class_gain: Floats | None = None


def compare_tables(
    tables: Mapping[str, Compared],
    *,
    true: Floats,
    class_true: Floats,
    class_names: tuple[str, ...],
    rng: np.random.Generator,
) -> dict[str, Any]:
    """The fidelity of every table, as JSON values (None in place of NaN).

    Args:
        tables: What each predicted.
        true: (K, r) true gain of mAP.
        class_true: (K, r, C) true gain of each class's AP, NaN without ground truth.
        class_names: C names.
        rng: Draws the bootstrap samples over batches, the same for all tables.

    Returns:
        ``ceiling`` (``reliability_of_one``, ``reliability_of_mean``, ``rho``, ``rho_interval``, and
        the same of ``classes``) and per table ``rho``, ``rho_interval``, ``share_of_ceiling``,
        ``share_interval``, ``classes`` (rho and share of each) and ``class_rho_mean``, the last two
        None if the table does not say.
        Intervals are 95 % percentile bootstrap intervals over batches; samples that do not vary or
        have no ceiling are left out of them.

    Raises:
        DataError: If there are fewer than two repeats.
    """
    draws = rng.integers(0, len(true), size=(_SAMPLES, len(true)))
    whole = noise_ceiling(true)
    agreement = _agreement(true[draws])
    ceilings = np.array([Ceiling.of(one, true.shape[1]).rho for one in agreement.tolist()])
    by_class = [noise_ceiling(class_true[:, :, c]) for c in range(len(class_names))]
    figures = {}
    for name, predicted in tables.items():
        mean = true.mean(axis=1)
        rho = float(spearman(predicted.gain, mean))
        sampled = spearman(predicted.gain[draws], mean[draws])
        figures[name] = {
            "rho": _number(rho),
            "rho_interval": _interval(sampled),
            "share_of_ceiling": _number(rho / whole.rho),
            "share_interval": _interval(sampled / ceilings),
            **_by_class(predicted.class_gain, class_true, class_names, by_class),
        }
    return {
        "ceiling": {
            **_ceiling(whole),
            "rho_interval": _interval(ceilings),
            "classes": {n: _ceiling(c) for n, c in zip(class_names, by_class, strict=True)},
        },
        "tables": figures,
    }


def _by_class(
    predicted: Floats | None,
    true: Floats,
    class_names: tuple[str, ...],
    ceilings: list[Ceiling],
) -> dict[str, Any]:
    if predicted is None:
        return {"classes": None, "class_rho_mean": None}
    mean = true.mean(axis=1)  # (K, C)
    rho = spearman(predicted.T, mean.T)
    classes = {
        name: {"rho": _number(value), "share_of_ceiling": _number(value / ceiling.rho)}
        for name, value, ceiling in zip(class_names, rho.tolist(), ceilings, strict=True)
    }
    return {"classes": classes, "class_rho_mean": _number(nan_mean(rho))}


def _ceiling(ceiling: Ceiling) -> dict[str, float | None]:
    return {
        "reliability_of_one": _number(ceiling.reliability_of_one),
        "reliability_of_mean": _number(ceiling.reliability_of_mean),
        "rho": _number(ceiling.rho),
    }


def _interval(samples: Floats) -> list[float] | None:
    kept = samples[np.isfinite(samples)]
    return [float(v) for v in np.quantile(kept, _LEVELS)] if len(kept) else None


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
