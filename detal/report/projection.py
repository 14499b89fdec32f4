"""Image features in two dimensions, the same for the same features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Plane", "evenly_spaced", "principal_plane"]

_MOST_ROWS = 20_000


@dataclass(frozen=True, eq=False)
class Plane:
    """The two directions in which features differ most.

    Attributes:
        mean: (D,) of the unit vectors it was fitted to.
        axes: (D, 2) orthonormal; zero where features do not differ.
        explained: Share of the variance along each axis, in [0, 1].
    """

    mean: NDArray[np.float64]
    axes: NDArray[np.float64]
    explained: tuple[float, float]

    def project(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n, 2) places of ``features`` (n, D); NaN where a feature is not finite."""
        return np.asarray((_unit(features) - self.mean) @ self.axes)


def principal_plane(features: NDArray[np.float32]) -> Plane:
    """First two principal components of the unit vectors, as the near-duplicate guard sees them.

    Fitted to 20,000 evenly spaced rows at most. Each axis points to where its largest entry is
    positive, so the picture does not flip from run to run.

    Args:
        features: (P, D); rows that are not finite are left out.
    """
    unit = _unit(features[evenly_spaced(len(features), _MOST_ROWS)])
    unit = unit[np.isfinite(unit).all(axis=1)]
    dimensions = features.shape[1]
    if len(unit) < 2:
        return Plane(np.zeros(dimensions), np.zeros((dimensions, 2)), (0.0, 0.0))
    mean = unit.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(unit - mean, rowvar=False).reshape(dimensions, -1))
    axes, variances = np.zeros((dimensions, 2)), np.zeros(2)
    for place in range(min(2, dimensions)):
        variances[place] = max(float(values[-1 - place]), 0.0)
        axis = vectors[:, -1 - place]
        if variances[place] > 1e-12:
            axes[:, place] = axis * np.sign(axis[np.abs(axis).argmax()])
    total = float(values.clip(min=0).sum()) or 1.0
    first, second = (variances / total).tolist()
    return Plane(mean=mean, axes=axes, explained=(first, second))


def evenly_spaced(number: int, most: int) -> NDArray[np.int64]:
    """At most ``most`` of 0..number-1, the first and the last among them."""
    return np.unique(np.linspace(0, number - 1, min(number, most)).round().astype(np.int64))


def _unit(features: NDArray[np.float32]) -> NDArray[np.float64]:
    values = features.astype(np.float64)
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.where(norms > 0, norms, 1.0))
