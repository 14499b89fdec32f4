"""Average precision of each category as a function of the objects labelled.

    AP_c(n) = top_c - drop_c * (n + 1) ** -exponent,    drop_c >= 0

rises with every object and flattens, as learning curves of detectors do. Shapes: C categories, V
variants of the detector.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detal.errors import DataError

__all__ = ["CategoryCurves", "fit_category_curves"]

Floats = NDArray[np.float64]

_EXPONENTS = np.linspace(0.1, 1.5, 29)
_LEAST_VARIANCE = 1e-4
_ROUNDS = 50


@dataclass(frozen=True, eq=False)
class CategoryCurves:
    """One rising, saturating curve per category.

    Attributes:
        top: (C,) AP that endless labels would reach.
        drop: (C,) what is missing without any label, >= 0.
        exponent: How fast the curves rise, > 0, shared by all categories.
        covariance: (C, 2, 2) uncertainty of top and drop; zero for a prior.
    """

    top: Floats
    drop: Floats
    exponent: float
    covariance: Floats

    @staticmethod
    def prior(num_classes: int, *, exponent: float = 0.5) -> CategoryCurves:
        """Curves for when nothing was measured: the same for all, ``1 - (n + 1) ** -exponent``."""
        ones = np.ones(num_classes)
        return CategoryCurves(ones, ones.copy(), exponent, np.zeros((num_classes, 2, 2)))

    def ap(self, counts: Floats) -> Floats:
        """(..., C) AP at ``counts`` (..., C) labelled objects, >= 0."""
        return self.top - self.drop * (counts + 1) ** -self.exponent

    def gain(self, labels: NDArray[np.int64], counts: Floats, added: Floats) -> Floats:
        """(n,) what ``added`` objects of class ``labels`` bring on top of ``counts``, each (n,)."""
        before = (counts + 1) ** -self.exponent
        return self.drop[labels] * (before - (counts + added + 1) ** -self.exponent)

    def deviation(self, counts: Floats) -> Floats:
        """(..., C) standard deviation of `ap` at ``counts`` (..., C)."""
        basis = (counts + 1) ** -self.exponent
        c = self.covariance
        variance = c[:, 0, 0] - 2 * basis * c[:, 0, 1] + basis**2 * c[:, 1, 1]
        return np.asarray(np.sqrt(np.maximum(variance, 0)))


def fit_category_curves(counts: Floats, ap: Floats) -> CategoryCurves:
    """Fit the curves to detectors that were trained on more and less.

    Categories are pooled: top and drop of each are normal around a common mean with a common
    covariance, which the data choose (empirical Bayes by expectation maximisation); a category with
    few or wild measurements follows the others. The exponent is the one of greatest likelihood.

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
    fits = [_pooled_fit(counts, ap, known, float(exponent)) for exponent in _EXPONENTS]
    return max(fits, key=lambda fit: fit[0])[1]


def _pooled_fit(
    counts: Floats, ap: Floats, known: NDArray[np.bool_], exponent: float
) -> tuple[float, CategoryCurves]:
    """Log likelihood (up to a constant) and curves for one exponent."""
    num_classes = counts.shape[1]
    designs = [
        np.stack([np.ones(k.sum()), -((n[k] + 1) ** -exponent)], axis=1)
        for n, k in zip(counts.T, known.T, strict=True)
    ]
    values = [y[k] for y, k in zip(ap.T, known.T, strict=True)]
    everything, targets = np.concatenate(designs), np.concatenate(values)
    mean = np.linalg.lstsq(everything, targets, rcond=None)[0]
    noise = max(float(np.mean((targets - everything @ mean) ** 2)), _LEAST_VARIANCE)
    spread = np.eye(2) * max(noise, 0.01)
    posterior_mean = np.tile(mean, (num_classes, 1))
    covariance = np.tile(spread, (num_classes, 1, 1))
    for _ in range(_ROUNDS):
        inverse = np.linalg.inv(spread)
        for c, (x, y) in enumerate(zip(designs, values, strict=True)):
            covariance[c] = np.linalg.inv(x.T @ x / noise + inverse)
            posterior_mean[c] = covariance[c] @ (x.T @ y / noise + inverse @ mean)
        mean = posterior_mean.mean(axis=0)
        apart = posterior_mean - mean
        spread = (covariance + apart[:, :, None] * apart[:, None, :]).mean(axis=0)
        spread += np.eye(2) * _LEAST_VARIANCE
        squares = sum(
            float(((y - x @ m) ** 2).sum() + np.einsum("ij,jk,ik->", x, v, x))
            for x, y, m, v in zip(designs, values, posterior_mean, covariance, strict=True)
        )
        noise = max(squares / len(targets), _LEAST_VARIANCE)
    drop = np.maximum(posterior_mean[:, 1], 0.0)
    curves = CategoryCurves(posterior_mean[:, 0], drop, exponent, covariance)
    return _log_likelihood(designs, values, mean, spread, noise), curves


def _log_likelihood(
    designs: list[Floats], values: list[Floats], mean: Floats, spread: Floats, noise: float
) -> float:
    total = 0.0
    for x, y in zip(designs, values, strict=True):
        if len(y):
            covariance = x @ spread @ x.T + noise * np.eye(len(y))
            residual = y - x @ mean
            _, log_det = np.linalg.slogdet(covariance)
            total -= 0.5 * (log_det + residual @ np.linalg.solve(covariance, residual))
    return float(total)
