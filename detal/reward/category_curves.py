"""Average precision of each category as a function of the objects labelled.

    AP_c(n) = top_c - drop_c * (1 + n / onset) ** -exponent,    drop_c >= 0

rises with every object and flattens, as learning curves of detectors do: almost linearly up to
about ``onset`` objects, like a power law beyond. Shapes: C categories, V variants of the detector.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detal.errors import DataError

__all__ = ["CategoryCurves", "fit_category_curves"]

Floats = NDArray[np.float64]

_EXPONENT, _ONSET = 0.5, 10.0
_EXPONENTS = np.geomspace(0.125, 2.0, 9)
_ONSETS = np.geomspace(1.0, 100.0, 9)
# How far, in natural logarithms, the shape of measured curves is expected to be from the prior's.
_SHAPE_DEVIATION = np.log(3.0)
_LEAST_VARIANCE = 1e-4
_ROUNDS = 50


@dataclass(frozen=True, eq=False)
class CategoryCurves:
    """One rising, saturating curve per category.

    Attributes:
        top: (C,) AP that endless labels would reach.
        drop: (C,) what is missing without any label, >= 0.
        exponent: How fast the curves rise, > 0, shared by all categories.
        onset: Objects from which on they flatten, > 0, shared by all categories.
        covariance: (C, 2, 2) uncertainty of top and drop; zero for a prior.
    """

    top: Floats
    drop: Floats
    exponent: float
    onset: float
    covariance: Floats

    @staticmethod
    def prior(
        num_classes: int, *, exponent: float = _EXPONENT, onset: float = _ONSET
    ) -> CategoryCurves:
        """Curves for when nothing was measured: the same for all, from 0 to 1."""
        ones = np.ones(num_classes)
        return CategoryCurves(ones, ones.copy(), exponent, onset, np.zeros((num_classes, 2, 2)))

    def ap(self, counts: Floats) -> Floats:
        """(..., C) AP at ``counts`` (..., C) labelled objects, >= 0."""
        return self.top - self.drop * self._left(counts)

    def gain(self, labels: NDArray[np.int64], counts: Floats, added: Floats) -> Floats:
        """(..., n) what ``added`` objects of class ``labels`` (n,) bring on top of ``counts``."""
        return self.drop[labels] * (self._left(counts) - self._left(counts + added))

    def slope(self, counts: Floats) -> Floats:
        """(..., C) AP that one more object adds at ``counts`` (..., C), to first order."""
        falling = (1 + counts / self.onset) ** -(self.exponent + 1)
        return np.asarray(self.drop * self.exponent / self.onset * falling)

    def deviation(self, counts: Floats) -> Floats:
        """(..., C) standard deviation of `ap` at ``counts`` (..., C)."""
        basis = self._left(counts)
        c = self.covariance
        variance = c[:, 0, 0] - 2 * basis * c[:, 0, 1] + basis**2 * c[:, 1, 1]
        return np.asarray(np.sqrt(np.maximum(variance, 0)))

    def _left(self, counts: Floats) -> Floats:
        """Share of the drop that is left, in (0, 1]."""
        return np.asarray((1 + counts / self.onset) ** -self.exponent)


def fit_category_curves(counts: Floats, ap: Floats) -> CategoryCurves:
    """Fit the curves to detectors that were trained on more and less.

    Categories are pooled: top and drop of each are normal around a common mean with a common
    covariance, which the data choose (empirical Bayes by expectation maximisation); a category with
    few or wild measurements follows the others. Without a label nothing is found: each curve is
    also measured at 0 objects, with an AP of 0. Exponent and onset are the most probable ones of a
    grid, each log-normal around the prior's: few variants say little about the shape.

    Args:
        counts: (V, C) objects that each variant was trained on.
        ap: (V, C) what it then reached on the reference set, NaN where there is no ground truth.

    Raises:
        DataError: If shapes differ or no category has two different counts.
    """
    counts, ap = np.asarray(counts, dtype=np.float64), np.asarray(ap, dtype=np.float64)
    if counts.shape != ap.shape or counts.ndim != 2:
        raise DataError(f"counts and ap must be (V, C) alike, got {counts.shape} and {ap.shape}")
    known = np.isfinite(ap)
    spread = [len(np.unique(n[k])) for n, k in zip(counts.T, known.T, strict=True)]
    if max(spread, default=0) < 2:
        raise DataError(
            "curves need at least one category that was measured at two different counts of "
            "labelled objects"
        )
    origin = np.zeros((1, counts.shape[1]))
    counts, ap = np.concatenate([origin, counts]), np.concatenate([origin, ap])
    known = np.isfinite(ap)
    fits = [
        _pooled_fit(counts, ap, known, exponent=exponent, onset=onset)
        for exponent in _EXPONENTS.tolist()
        for onset in _ONSETS.tolist()
    ]
    return max(fits, key=lambda fit: fit[0])[1]


def _pooled_fit(
    counts: Floats, ap: Floats, known: NDArray[np.bool_], *, exponent: float, onset: float
) -> tuple[float, CategoryCurves]:
    """Log probability (up to a constant) and curves for one shape."""
    design = np.stack([np.ones_like(counts), -((1 + counts / onset) ** -exponent)], axis=2)
    design, values = design * known[:, :, None], np.where(known, ap, 0.0)  # (V, C, 2), (V, C)
    squares = np.einsum("vci,vcj->cij", design, design)
    products = np.einsum("vci,vc->ci", design, values)
    mean = np.asarray(np.linalg.lstsq(design[known], values[known], rcond=None)[0], np.float64)
    noise = max(float(np.mean((values[known] - design[known] @ mean) ** 2)), _LEAST_VARIANCE)
    spread = np.eye(2) * max(noise, 0.01)
    for _ in range(_ROUNDS):
        inverse = np.linalg.inv(spread)
        covariance = np.linalg.inv(squares / noise + inverse)  # (C, 2, 2)
        fitted = np.einsum("cij,cj->ci", covariance, products / noise + inverse @ mean)
        mean = fitted.mean(axis=0)
        apart = fitted - mean
        spread = (covariance + apart[:, :, None] * apart[:, None, :]).mean(axis=0)
        spread += np.eye(2) * _LEAST_VARIANCE
        residual = known * (values - np.einsum("vci,ci->vc", design, fitted))
        unsure = np.einsum("cij,cij->", squares, covariance)
        noise = max(float((residual**2).sum() + unsure) / known.sum(), _LEAST_VARIANCE)
    curves = CategoryCurves(
        top=fitted[:, 0],
        drop=np.maximum(fitted[:, 1], 0.0),
        exponent=exponent,
        onset=onset,
        covariance=covariance,
    )
    shape = np.log([exponent / _EXPONENT, onset / _ONSET]) / _SHAPE_DEVIATION
    likelihood = _log_likelihood(design, values, known, mean=mean, spread=spread, noise=noise)
    return likelihood - float(shape @ shape) / 2, curves


def _log_likelihood(
    design: Floats,
    values: Floats,
    known: NDArray[np.bool_],
    *,
    mean: Floats,
    spread: Floats,
    noise: float,
) -> float:
    """Of the values of all categories; what is not known counts as known to be nought, for all."""
    num_variants = len(values)
    covariance = np.einsum("vci,ij,wcj->cvw", design, spread, design) + noise * np.eye(num_variants)
    residual = (known * (values - design @ mean)).T  # (C, V)
    log_det = np.linalg.slogdet(covariance)[1] - (~known).sum(axis=0) * np.log(noise)
    distance = np.einsum(
        "cv,cv->c", residual, np.linalg.solve(covariance, residual[:, :, None])[:, :, 0]
    )
    return float(-0.5 * (log_det + distance).sum())
