"""Walk images in order of preference and take them until the budget is used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detal.errors import ConfigError
from detal.features.nearest import GrowingRows
from detal.strategies.candidates import Candidates
from detal.structures import Budget

__all__ = ["Choice", "Order", "Picks", "fill"]

_FIT_TOLERANCE = 1e-9


class Choice(NamedTuple):
    """One image that a selector proposes.

    Attributes:
        candidate: Which one, 0..P-1.
        score: Acquisition score, or NaN if the selector has none.
        why: Why now, in words.
    """

    candidate: int
    score: float
    why: str


Order = Generator[Choice, bool, None]
"""What a selector returns: choices in order of preference, each candidate at most once, made only
when asked for. It is told whether its last choice was taken, so that one which depends on what is
picked already (core-set) does not count an image that was passed over."""


@dataclass(frozen=True)
class Picks:
    """What `fill` took, best first.

    Attributes:
        choices: The K choices taken.
        passed_over: How many choices each guard turned down: ``near_duplicate`` and ``group``, and
            ``cost`` for images that did not fit while a later one did.
    """

    choices: tuple[Choice, ...]
    passed_over: dict[str, int]

    @property
    def index(self) -> NDArray[np.int64]:
        """(K,) the candidates taken."""
        return np.array([choice.candidate for choice in self.choices], dtype=np.int64)


def fill(
    order: Order,
    candidates: Candidates,
    *,
    budget: Budget,
    min_distance: float = 0.0,
    per_group: int | None = None,
) -> Picks:
    """Take images in the given order as long as they fit and no guard objects.

    An image that costs more than what is left is skipped; the walk ends when what is left is under
    the cheapest image of the pool, or the order does. A budget larger than the pool takes
    everything the guards let through.

    Args:
        order: Choices, most preferred first.
        candidates: What the choices index.
        budget: Never exceeded by the sum of expected costs.
        min_distance: Images whose image feature is closer than this to that of a labelled or a
            taken image are passed over; cosine distance in [0, 2]; 0 switches the guard off. An
            all-zero feature is far from everything.
        per_group: Most images taken per group; images without a group are not limited.

    Raises:
        ConfigError: If a guard is out of range or needs features that are not there.
    """
    costs = budget.costs(candidates.expected_boxes)
    left = budget.amount * (1 + _FIT_TOLERANCE)
    cheapest = costs.min(initial=np.inf)
    guards = _Guards.of(candidates, min_distance=min_distance, per_group=per_group)
    taken: list[Choice] = []
    too_expensive = 0
    choice = _advance(order)
    while choice is not None and cheapest <= left:
        cost = costs[choice.candidate]
        fits = bool(cost <= left)
        accepted = fits and guards.admit(choice.candidate)
        if accepted:
            left -= cost
            taken.append(choice)
            guards.passed_over["cost"] += too_expensive
        too_expensive = 0 if accepted else too_expensive + (not fits)
        choice = _advance(order, accepted=accepted)
    order.close()
    return Picks(choices=tuple(taken), passed_over=dict(guards.passed_over))


def _advance(order: Order, *, accepted: bool | None = None) -> Choice | None:
    try:
        return next(order) if accepted is None else order.send(accepted)
    except StopIteration:
        return None


@dataclass
class _Guards:
    groups: NDArray[Any] | None
    per_group: int | None
    near: _NearDuplicates | None
    in_group: Counter[str] = field(default_factory=Counter)
    passed_over: Counter[str] = field(
        default_factory=lambda: Counter(near_duplicate=0, group=0, cost=0)
    )

    @staticmethod
    def of(candidates: Candidates, *, min_distance: float, per_group: int | None) -> _Guards:
        if not 0 <= min_distance <= 2:
            raise ConfigError(f"dedup distance must be in [0, 2], got {min_distance}")
        if per_group is not None and per_group < 1:
            raise ConfigError(f"images per group must be at least 1, got {per_group}")
        near = None
        if min_distance > 0 and len(candidates):
            features = candidates.require_features("the near-duplicate guard")
            near = _NearDuplicates(features, candidates.labeled.image_features, min_distance)
        return _Guards(groups=candidates.groups, per_group=per_group, near=near)

    def admit(self, index: int) -> bool:
        """Whether no guard objects; if none does, the image counts as taken."""
        group = None if self.groups is None or self.per_group is None else self.groups[index]
        if group is not None and self.in_group[group] >= (self.per_group or 0):
            self.passed_over["group"] += 1
            return False
        if self.near is not None and not self.near.admit(index):
            self.passed_over["near_duplicate"] += 1
            return False
        if group is not None:
            self.in_group[group] += 1
        return True


class _NearDuplicates:
    """Compares each image with all labelled and taken ones: one matrix-vector product a step."""

    def __init__(
        self,
        features: NDArray[np.float32],
        labeled: NDArray[np.float32] | None,
        min_distance: float,
    ) -> None:
        self._features = features
        self._largest_similarity = 1 - min_distance
        known = np.empty((0, features.shape[1]), dtype=np.float32) if labeled is None else labeled
        norms = np.linalg.norm(known, axis=1, keepdims=True)
        unit = known / np.where(norms > 0, norms, 1)
        self._kept = GrowingRows(np.asarray(unit, dtype=np.float32))

    def admit(self, index: int) -> bool:
        feature = self._features[index]
        norm = np.linalg.norm(feature)
        unit = feature / norm if norm > 0 else feature
        similarity = self._kept.since() @ unit
        if similarity.max(initial=-np.inf) > self._largest_similarity:
            return False
        self._kept.append(unit)
        return True
