"""The category curve table: what a batch brings, read off per-category learning curves.

Shapes: P candidates, C classes, n candidates asked about, K batches of M picks.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detal.features.expected_objects import Bundles
from detal.features.nearest import Known
from detal.reward.category_curves import CategoryCurves
from detal.reward.novelty import Floats, Novelty
from detal.reward.table import total_gain

__all__ = ["CurveState", "CurveStates", "CurveTable"]

_CLASSES_NAMED = 2
_CELLS_AT_ONCE = 4_000_000


@dataclass(frozen=True, eq=False)
class CurveState:
    """What is labelled and picked.

    Attributes:
        counts: (C,) effective objects.
        known: Cosine distance to the nearest known image, or None without features.
    """

    counts: NDArray[np.float64]
    known: Known | None


@dataclass(frozen=True, eq=False)
class CurveStates:
    """`CurveState` of K batches.

    Attributes:
        counts: (K, C).
        distance: (K, P) or None.
    """

    counts: NDArray[np.float64]
    distance: Floats | None


class CurveTable:
    """Gain of a batch = weighted mean over classes of AP_c(n_c + new objects) - AP_c(n_c).

    Objects of images that resemble a labelled or picked one count less (`Novelty`), so a batch of
    near-duplicates is worth little more than one of them.

    Args:
        curves: AP of each class over its labelled objects.
        counts: (C,) labelled objects.
        objects: What each of P candidates is expected to teach.
        novelty: Of the same candidates, or None to ignore redundancy.
        class_weights: (C,) how much each class counts, mean 1; all alike by default.
        class_names: C names, for explanations.
    """

    def __init__(
        self,
        curves: CategoryCurves,
        *,
        counts: NDArray[np.int64],
        objects: Bundles,
        class_names: tuple[str, ...],
        novelty: Novelty | None = None,
        class_weights: NDArray[np.float64] | None = None,
    ) -> None:
        self.curves = curves
        self.counts = counts.astype(np.float64)
        self.objects = objects
        self._novelty = novelty
        self._names = class_names
        weights = np.ones(len(counts)) if class_weights is None else class_weights
        self._weights = weights / max(len(counts), 1)

    def __len__(self) -> int:
        return len(self.objects)

    def start(self) -> CurveState:
        """See `RewardTable`."""
        return CurveState(self.counts, None if self._novelty is None else self._novelty.known())

    def marginal_gain(self, state: CurveState, index: NDArray[np.int64]) -> NDArray[np.float64]:
        """See `RewardTable`."""
        rows, place = self.objects.rows(index)
        gains = self._gains(state, rows, index[place])
        total = np.bincount(place, weights=gains, minlength=len(index))
        return total.astype(np.float64)

    def add(self, state: CurveState, candidate: int) -> CurveState:
        """See `RewardTable`."""
        rows, _ = self.objects.rows(np.array([candidate]))
        counts = state.counts.copy()
        counts[self.objects.labels[rows]] += self._added(state, rows, candidate)
        return CurveState(counts, None if state.known is None else state.known.add(candidate))

    def gain(self, batch: NDArray[np.int64]) -> float:
        """See `RewardTable`."""
        return total_gain(self, batch)

    def take(self, index: NDArray[np.int64]) -> CurveTable:
        """See `BatchedTable`."""
        part = copy(self)
        part.objects = self.objects.take(index)
        part._novelty = None if self._novelty is None else self._novelty.take(index)
        return part

    def starts(self, count: int) -> CurveStates:
        """See `BatchedTable`."""
        novelty = self._novelty
        return CurveStates(
            np.tile(self.counts, (count, 1)),
            None if novelty is None else np.tile(novelty.start, (count, 1)),
        )

    def marginal_gains(self, states: CurveStates) -> NDArray[np.float64]:
        """See `BatchedTable`; memory for four million pairs of a batch and an object at a time."""
        count, n = len(states.counts), len(self)
        owner = np.repeat(np.arange(n), np.diff(self.objects.offsets))
        labels, result = self.objects.labels, np.zeros((count, n))
        step = max(_CELLS_AT_ONCE // max(len(labels), 1), 1)
        for start in range(0, count, step):
            part = slice(start, start + step)
            have = states.counts[part][:, labels]  # (k, R)
            added = np.broadcast_to(self.objects.amounts, have.shape)
            if self._novelty is not None and states.distance is not None:
                added = added * self._novelty.of(states.distance[part][:, owner])
            gains = self._weights[labels] * self.curves.gain(labels, have, added)
            cells = np.arange(len(have))[:, None] * n + owner
            total = np.bincount(cells.ravel(), gains.ravel(), minlength=len(have) * n)
            result[part] = total.reshape(len(have), n)
        return result

    def adds(
        self, states: CurveStates, picks: NDArray[np.int64]
    ) -> tuple[CurveStates, NDArray[np.float64]]:
        """See `BatchedTable`; memory for four million pairs of a pick and a class at a time."""
        gains = np.zeros(picks.shape)
        step = max(_CELLS_AT_ONCE // max(states.counts.size, 1), 1)
        for start in range(0, picks.shape[1], step):
            part = slice(start, start + step)
            states, gains[:, part] = self._join(states, picks[:, part])
        return states, gains

    def gains(self, batches: NDArray[np.int64]) -> NDArray[np.float64]:
        """See `BatchedTable`."""
        _, gains = self.adds(self.starts(len(batches)), batches)
        return np.asarray(gains.sum(axis=1))

    def class_gain(self, batch: NDArray[np.int64]) -> NDArray[np.float64]:
        """(C,) AP (0..1) of each class that the candidates ``batch`` (K,), in this order, bring."""
        state = self.start()
        for candidate in batch.tolist():
            state = self.add(state, candidate)
        return self.curves.ap(state.counts) - self.curves.ap(self.counts)

    def explain(self, state: CurveState, candidate: int) -> str:
        """See `RewardTable`."""
        rows, _ = self.objects.rows(np.array([candidate]))
        gains = self._gains(state, rows, np.full(len(rows), candidate))
        added = self._added(state, rows, candidate)
        named = [
            f"{self._names[label]} (+{added[i]:.2g} to {state.counts[label]:.3g})"
            for i in np.argsort(-gains, kind="stable")[:_CLASSES_NAMED]
            for label in [int(self.objects.labels[rows[i]])]
        ]
        return "most for " + ", ".join(named) if named else "nothing is expected in it"

    def _join(
        self, states: CurveStates, picks: NDArray[np.int64]
    ) -> tuple[CurveStates, NDArray[np.float64]]:
        """The states after ``picks`` (K, M) joined in order, and what each added (K, M)."""
        batch, column = np.nonzero(picks >= 0)
        rows, place = self.objects.rows(picks[batch, column])
        labels, added = self.objects.labels[rows], self.objects.amounts[rows]
        distance = states.distance
        if self._novelty is not None and distance is not None:
            distance, own = self._novelty.join(distance, picks)
            added = added * self._novelty.of(own[batch, column])[place]
        batch, column = batch[place], column[place]
        have = np.zeros((len(picks), picks.shape[1] + 1, states.counts.shape[1]))
        have[:, 0] = states.counts
        have[batch, column + 1, labels] = added
        have = have.cumsum(axis=1)
        each = self.curves.gain(labels, have[batch, column, labels], added)
        gains = np.zeros(picks.shape)
        np.add.at(gains, (batch, column), self._weights[labels] * each)
        return CurveStates(have[:, -1], distance), gains

    def _gains(
        self, state: CurveState, rows: NDArray[np.int64], image: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """What each row of the objects brings, alone, in units of mAP."""
        labels = self.objects.labels[rows]
        added = self._added(state, rows, image)
        gains = self.curves.gain(labels, state.counts[labels], added)
        return np.asarray(self._weights[labels] * gains)

    def _added(
        self, state: CurveState, rows: NDArray[np.int64], image: NDArray[np.int64] | int
    ) -> NDArray[np.float64]:
        """Effective new objects of each row."""
        mass = self.objects.amounts[rows]
        if self._novelty is None or state.known is None:
            return mass
        asked, place = np.unique(np.asarray(image), return_inverse=True)
        return np.asarray(mass * self._novelty.of(state.known.distance(asked))[place])
