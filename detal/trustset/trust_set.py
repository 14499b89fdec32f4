"""The TrustSet: per category the labelled objects that teach most, balanced, without copies.

In the spirit of BRAL-T (Cui et al., 2026), which selects a class-balanced, pruned and informative
part of the labelled data for image classification; for detection, and in every formula here, it is
ours. Shapes: M objects, C categories, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from detal.errors import ConfigError, DataError, unknown_name
from detal.structures import Annotations
from detal.trustset.informativeness import ObjectScores

__all__ = ["Balance", "TrustSet", "TrustSetOptions", "build_trust_set", "category_sizes"]

Balance = Literal["uniform", "sqrt", "slope"]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Integers = NDArray[np.int64]

_SAMPLE = 2048
# Cosine distances of equal float32 features differ by less, either way.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class TrustSetOptions:
    """What a TrustSet should be.

    Attributes:
        share: Of the objects that may be trusted, in (0, 1].
        balance: ``uniform`` (as many of each category), ``sqrt`` (by the square root of its
            objects) or ``slope`` (by what one more object of it is expected to bring).
        nearness: How near an object must be to a member to be redundant, in units of the median
            cosine distance to the nearest object of the category, >= 0; 0 keeps copies.

    Raises:
        ConfigError: If an option is unknown or out of range.
    """

    share: float = 0.5
    balance: Balance = "uniform"
    nearness: float = 0.5

    def __post_init__(self) -> None:
        if self.balance not in get_args(Balance):
            known = get_args(Balance)
            raise ConfigError(unknown_name("balance of the TrustSet", str(self.balance), known))
        if not 0 < self.share <= 1:
            raise ConfigError(f"share of the TrustSet must be in (0, 1], got {self.share}")
        if not 0 <= self.nearness < np.inf:
            raise ConfigError(f"nearness must be a number >= 0, got {self.nearness}")


@dataclass(frozen=True, eq=False)
class TrustSet:
    """Which objects are trusted.

    Attributes:
        member: (M,) True for the objects in the set.
        redundant: (M,) True for objects passed over because a member looks the same.
        sizes: (C,) objects that the balance gives each category; members may be fewer, where the
            rest is redundant.
        informativeness: (M,) what they were chosen by, higher = more informative.
    """

    member: Flags
    redundant: Flags
    sizes: Integers
    informativeness: Floats


def category_sizes(available: Integers, total: int, weights: Floats) -> Integers:
    """(C,) how many of ``total`` objects each category gets: by weight, at most what there is.

    What a category cannot take goes to the others by their weights; of the fractions, categories
    that would come away empty get the first.

    Args:
        available: (C,) objects to choose from.
        total: Objects to share out, >= 0.
        weights: (C,) >= 0.
    """
    share = np.zeros(len(available))
    open_ = (available > 0) & (weights > 0)
    goal = min(total, int(available[open_].sum()))
    while open_.any():
        part = np.where(open_, weights, 0.0)
        rest = goal - share[~open_].sum()
        share[open_] = (rest * part / part.sum())[open_]
        full = open_ & (share >= available)
        share[full] = available[full]
        open_ &= ~full
        if not full.any():
            break
    whole = np.floor(share + 1e-9).astype(np.int64)
    fraction = share - whole
    order = np.lexsort((np.arange(len(share)), -fraction, whole > 0))
    takers = order[fraction[order] > 1e-9][: goal - int(whole.sum())]
    whole[takers] += 1
    return np.asarray(whole)


def build_trust_set(
    scores: ObjectScores,
    annotations: Annotations,
    *,
    num_classes: int,
    options: TrustSetOptions,
    slopes: Floats | None = None,
    features: NDArray[np.float32] | None = None,
    distrusted: Flags | None = None,
) -> TrustSet:
    """Choose the objects.

    Objects that no judge found are left out: nothing tells them from a label on an empty place, and
    nothing on the pool looks like them. Per category the rest is walked from the most informative
    down; one that looks like a member of its category is redundant. Cost: one matrix-vector product
    over the category's features per member.

    Args:
        scores: Of the M objects.
        annotations: The objects; crowds are nobody's.
        num_classes: C.
        options: How large, how balanced, how redundant.
        slopes: (C,) >= 0, for ``slope``: the learning curves' slopes at what is labelled.
        features: (M, D) object features, a row of NaN for objects without; None: nothing is
            redundant.
        distrusted: (M,) True for objects that must stay out, such as suspicious labels.

    Raises:
        ConfigError: If the balance needs slopes and there are none.
        DataError: If arrays are not of the same objects.
    """
    if options.balance == "slope" and slopes is None:
        raise ConfigError("balance slope needs the slopes of the categories' curves")
    if len(scores.class_part) != len(annotations.labels):
        raise DataError(
            f"scores must be of the {len(annotations.labels)} annotated objects, got "
            f"{len(scores.class_part)}"
        )
    eligible = ~annotations.is_crowd & (scores.found > 0)
    if distrusted is not None:
        eligible = eligible & ~distrusted
    labels = annotations.labels
    available = np.bincount(labels[eligible], minlength=num_classes)[:num_classes]
    weights = {
        "uniform": np.ones(num_classes),
        "sqrt": np.sqrt(available),
        "slope": np.ones(num_classes) if slopes is None else slopes,
    }[options.balance]
    total = int(np.ceil(options.share * available.sum()))
    sizes = category_sizes(available.astype(np.int64), total, weights)
    member, redundant = (np.zeros(len(labels), dtype=bool) for _ in range(2))
    informativeness = scores.total
    for label in np.flatnonzero(sizes).tolist():
        rows = np.flatnonzero(eligible & (labels == label))
        rows = rows[np.argsort(-informativeness[rows], kind="stable")]
        unit = None if features is None or options.nearness == 0 else _unit(features[rows])
        chosen, copies = _without_copies(rows, unit, int(sizes[label]), options.nearness)
        member[chosen], redundant[copies] = True, True
    return TrustSet(member, redundant, sizes, informativeness)


def _unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1; zeros, which are far from everything, where there is no feature."""
    known = np.where(np.isfinite(features).all(axis=1, keepdims=True), features, 0)
    norms = np.linalg.norm(known, axis=1, keepdims=True)
    return np.asarray(known / np.where(norms > 0, norms, 1), dtype=np.float32)


def _without_copies(
    rows: Integers, unit: NDArray[np.float32] | None, size: int, nearness: float
) -> tuple[Integers, Integers]:
    """The first ``size`` of ``rows`` that no earlier one resembles, and those that one does."""
    if unit is None:
        return rows[:size], rows[:0]
    radius = nearness * _usual_distance(unit)
    open_ = np.ones(len(rows), dtype=bool)
    chosen: list[int] = []
    copies = np.zeros(len(rows), dtype=bool)
    for place in range(len(rows)):
        if len(chosen) == size:
            break
        if not open_[place]:
            copies[place] = True
            continue
        chosen.append(place)
        open_ &= np.maximum(1 - unit @ unit[place], 0) >= radius
    return rows[chosen], rows[copies]


def _usual_distance(unit: NDArray[np.float32]) -> float:
    """Median cosine distance to the nearest neighbour among (a sample of) objects with features.

    0 where it is nothing but rounding.
    """
    known = unit[unit.any(axis=1)]
    known = known[:: max(1, len(known) // _SAMPLE)]
    if len(known) < 2:
        return 0.0
    similarity = known @ known.T
    np.fill_diagonal(similarity, -1.0)
    distance = float(np.median(1 - similarity.max(axis=1)))
    return distance if distance > _ROUNDING else 0.0
