"""What the policy sees of each candidate, in the same numbers for every dataset.

Image features and class counts go through fixed random projections, so that a policy that was
trained with one detector or set of classes can be used with another (it then knows nothing of their
meaning, but the other inputs keep theirs).

Shapes: n candidates, K rollouts, D image features, C classes, A acquisition features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detal.features.expected_objects import Bundles
from detal.seeding import generator

__all__ = ["NUM_INPUTS", "Seen", "changing_inputs", "fixed_inputs", "rounded"]

Floats = NDArray[np.float64]
Inputs = NDArray[np.float32]

_IMAGE = 16
_CLASSES = 8
_ACQUISITION = 3
_FIXED = _IMAGE + _CLASSES + _ACQUISITION + 3
_CHANGING = 7
NUM_INPUTS = _FIXED + _CHANGING
"""F: numbers that the policy sees of each candidate at each pass."""

_LARGEST = 5.0
_LOWEST_LOG = -8.0
_STEPS = 2.0**20


@dataclass(frozen=True, eq=False)
class Seen:
    """What is known of the candidates before anything is picked.

    Attributes:
        costs: (n,) > 0, in the unit of the budget.
        objects: Expected objects by class.
        num_classes: C.
        image_features: (n, D), or None if the detector gives none.
        acquisition: (n, 3) acquisition scores, or None.
        trust: (n,) how much a candidate is like what teaches (0..1), or None.
    """

    costs: Floats
    objects: Bundles
    num_classes: int
    image_features: Inputs | None = None
    acquisition: Floats | None = None
    trust: Floats | None = None

    def __len__(self) -> int:
        return len(self.costs)

    def take(self, index: NDArray[np.int64]) -> Seen:
        """The candidates ``index`` only, in that order."""
        return Seen(
            costs=self.costs[index],
            objects=self.objects.take(index),
            num_classes=self.num_classes,
            image_features=None if self.image_features is None else self.image_features[index],
            acquisition=None if self.acquisition is None else self.acquisition[index],
            trust=None if self.trust is None else self.trust[index],
        )


def fixed_inputs(seen: Seen) -> Inputs:
    """(n, F') inputs that stay the same while a batch grows, standardised over the candidates.

    Missing ones are 0: image features, acquisition scores, trust.
    """
    n = len(seen)
    owner = np.repeat(np.arange(n), np.diff(seen.objects.offsets))
    mixes = _projection("classes", seen.num_classes, _CLASSES)[seen.objects.labels]
    classes = np.zeros((n, _CLASSES))
    np.add.at(classes, owner, seen.objects.amounts[:, None] * mixes)
    total = np.bincount(owner, seen.objects.amounts, minlength=n)
    image, acquisition, trust = np.zeros((n, _IMAGE)), np.zeros((n, _ACQUISITION)), np.zeros(n)
    if seen.image_features is not None:
        width = seen.image_features.shape[1]
        image = _standardised(seen.image_features @ _projection("image", width, _IMAGE))
    if seen.acquisition is not None:
        acquisition = seen.acquisition
    if seen.trust is not None:
        trust = seen.trust
    rest = np.column_stack([acquisition, np.log1p(total), np.log(seen.costs), trust])
    mixed = classes / np.maximum(total, 1e-9)[:, None]
    return rounded(np.column_stack([image, mixed, _standardised(rest)])).astype(np.float32)


def changing_inputs(
    gains: Floats,
    *,
    costs: Floats,
    left: Floats,
    budget: float,
    picked: NDArray[np.bool_],
) -> Inputs:
    """(K, n, F'') inputs that follow the batches.

    Args:
        gains: (K, n) what each candidate would add now.
        costs: (n,).
        left: (K,) of the budget.
        budget: The whole of it.
        picked: (K, n) the decisions so far.
    """
    closed = picked | (costs > left[:, None])
    rate = np.where(closed, 0.0, gains / costs)
    best = rate.max(axis=1, keepdims=True, initial=0.0)
    gain = np.where(closed, 0.0, gains)
    largest = gain.max(axis=1, keepdims=True, initial=0.0)
    last = _rate_of_the_last(rate, costs, left)[:, None]
    shares = [
        _log_ratio(rate, best),
        _log_ratio(gain, largest),
        np.clip(_log_ratio(rate, best) - _log_ratio(last, best), -4, 4),
        picked,
        closed,
        np.minimum(costs / np.maximum(left, 1e-9)[:, None], 2.0),
        np.broadcast_to((left / budget)[:, None], rate.shape),
    ]
    return rounded(np.stack(shares, axis=2)).astype(np.float32)


def rounded(values: Floats) -> Floats:
    """Values in steps of 2^-20.

    Sums differ in their last bits with the chunks that a pool is read in, and training would make
    another policy of that.
    """
    return np.asarray(np.round(values * _STEPS) / _STEPS)


def _rate_of_the_last(rate: Floats, costs: Floats, left: Floats) -> Floats:
    """(K,) gain per cost of the last one that fits, taking the best first."""
    if rate.shape[1] == 0:
        return np.zeros(len(rate))
    order = np.argsort(-rate, axis=1, kind="stable")
    fits = (costs[order].cumsum(axis=1) <= left[:, None]).sum(axis=1)
    last = np.take_along_axis(order, np.maximum(fits - 1, 0)[:, None], axis=1)
    return np.asarray(np.take_along_axis(rate, last, axis=1)[:, 0])


def _log_ratio(value: Floats, of: Floats) -> Floats:
    """log(value / of), cut at -8, where ``value`` is at most ``of``."""
    share = np.divide(
        value, of, out=np.zeros(np.broadcast_shapes(value.shape, of.shape)), where=of > 0
    )
    return np.asarray(np.log(np.clip(share, np.exp(_LOWEST_LOG), 1.0)))


def _projection(of: str, width: int, to: int) -> Floats:
    """(width, to) the same for everyone; rows stay the same if there are more of them."""
    drawn = generator(0, "agent inputs", of).normal(size=(width, to))
    return np.asarray(drawn / np.sqrt(max(width if of == "image" else 1, 1)))


def _standardised(values: Floats) -> Floats:
    if len(values) == 0:
        return values
    deviation = values.std(axis=0)
    # An outlier must not win by being far from everything that was learned.
    scaled = (values - values.mean(axis=0)) / np.where(deviation > 1e-9, deviation, np.inf)
    return np.asarray(np.clip(scaled, -_LARGEST, _LARGEST))
