"""The output change table: what would be said about the reference set if images were learned.

Every detection r of the reference set is known to be right (its target t_r = 1) or wrong (t_r = 0),
so its score s_r has a residual t_r - s_r. Learning a box b of a candidate image changes the logit
of r, to first order, by the last-layer kernel <h_b, h_r> times the residual of b for the class of r
(`detal.features.change`). Its expected size is ``q (1 - p) + (1 - q) p``, p the score of that class
at b and q the calibrated one; its sign is taken to be that of r's own residual: what looks alike
gets the same answer. The kernel is the cosine of features centred on the reference set, and 0 where
that is negative. Summed over the boxes of an image it is the influence ``a_ur >= 0``.

Influences are evidence, and evidence has diminishing returns. With n_r the labelled objects like r
(one, plus the kernel to each labelled object of r's class that was found), a batch S resolves

    f_r(S) = 1 - (1 + sum_{u in S} a_ur / n_r) ** -1/2        in [0, 1)

of the residual: the score becomes ``s_r + f_r (t_r - s_r)``. For little evidence that is the first
order, ``sum a / 2 n_r``; for much it nears the truth, slowly, and never passes it. It is the curve
of `CategoryCurves.prior` at each reference detection. Sums of kernels that move logits without end
say the same of any large batch, and so does an exponential, which is 1 after a few images.

``gain`` re-scores the reference set through the match table: the exact mAP of the changed scores.
``marginal_gain`` is a surrogate of its steps: ``sum_r v_r (f_r(S + u) - f_r(S))``, with v_r the
share of r in the sum of |t - s| over its class, times the mAP that resolving the whole class would
gain. For each class the two agree where nothing is resolved and where everything is; in between the
surrogate is linear in the resolved residuals. As f_r is concave in a sum over the batch, it is
monotone and submodular, which ``gain`` need not be.

Objects that the detector does not find have no detection to re-score: nothing here tells what would
find them.

Shapes: P candidates, R reference detections, C classes, n candidates asked about, N boxes.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from detal.errors import DataError
from detal.evaluation import (
    MatchTable,
    Predictions,
    batch_class_ap,
    build_match_table,
    rescored,
)
from detal.features import Calibration, Matches, match_detections
from detal.features.change import expected_residual, object_features
from detal.structures import Annotations, Detections

__all__ = ["ChangeState", "OutputChangeTable", "ReferenceOutputs"]

Floats = NDArray[np.float64]

_PURPOSE = "`change_greedy`"
_ALMOST = 1 - 1e-6  # of the residual; all of it would tie the scores of all right detections
_CELLS_AT_ONCE = 4_000_000
_CLASSES_NAMED = 2
# Influences are kept in steps of 2^-16: what differs below is rounding, and depends on the chunks.
_STEPS = 65_536.0


class ReferenceOutputs:
    """What the detector says about the reference set, and which of it is right.

    Args:
        detections: Of the images of the reference set.
        annotations: Of the same images, labels as the detector counts them.
        labeled: Detections of the labelled images and their ground truth, if there are any.

    Raises:
        ConfigError: If the detector gives no object features.
        DataError: If no object is annotated.
    """

    def __init__(
        self,
        detections: Detections,
        annotations: Annotations,
        *,
        labeled: tuple[Detections, Annotations] | None = None,
    ) -> None:
        if annotations.is_crowd.all():
            raise DataError("a reference set must have at least one object, found none")
        features = object_features(detections, _PURPOSE)
        self._mean = features.mean(dim=0) if len(features) else features.sum(dim=0)
        self._unit = normalize(features - self._mean, dim=1)
        matches = match_detections(detections, annotations)
        self.labels = detections.labels
        self.scores = detections.scores.double().cpu().numpy()
        self.residual = _residual(self.scores, matches)
        self._table = build_match_table(
            annotations,
            Predictions.from_detections(detections),
            num_classes=detections.num_classes,
        )
        self._ap = _class_ap(self._table)
        self.value = self._value()
        self.evidence = np.ones(len(self.scores))
        if labeled is not None:
            self.evidence += self._labelled_alike(*labeled)

    def __len__(self) -> int:
        return len(self.scores)

    def influence(self, detections: Detections, calibration: Calibration) -> NDArray[np.float32]:
        """(B, R) summed influence of the boxes of each of B images on each reference detection.

        O(N R D); memory for about four million box-reference pairs at a time.
        """
        total = torch.zeros(len(detections), len(self))
        if len(self) == 0:
            return total.numpy()
        unit = self._centred(detections)
        image = detections.image_index
        step = max(_CELLS_AT_ONCE // max(len(self), detections.num_classes), 1)
        for start in range(0, detections.num_boxes, step):
            rows = torch.arange(start, min(start + step, detections.num_boxes))
            residual = expected_residual(detections, calibration, rows)[:, self.labels]
            kernel = (unit[rows] @ self._unit.T).clamp_min(0)
            total.index_add_(0, image[rows], residual * kernel)
        return (np.round(total.cpu().numpy() * _STEPS) / _STEPS).astype(np.float32)

    def resolved(self, influence: Floats) -> Floats:
        """(..., R) share of each residual that the summed ``influence`` (..., R) resolves."""
        return np.asarray(1 - np.sqrt(self.evidence / (self.evidence + influence)))

    def class_gain(self, share: Floats) -> Floats:
        """(C,) AP that re-scoring gains, 0 without ground truth, for resolved shares (R,)."""
        after = rescored(self._table, self.scores + share * self.residual)
        return np.nan_to_num(_class_ap(after) - self._ap)

    def mean_gain(self, share: Floats) -> float:
        """MAP that re-scoring gains: the mean over the classes with ground truth."""
        return float(self.class_gain(share).sum() / np.isfinite(self._ap).sum())

    def _value(self) -> Floats:
        """(R,) the mAP that each reference detection stands for."""
        labels = self.labels.cpu().numpy()
        size = np.abs(self.residual)
        of_class = np.bincount(labels, weights=size, minlength=len(self._ap))
        headroom = np.maximum(self.class_gain(np.full(len(self), _ALMOST)), 0)
        present = np.isfinite(self._ap).sum()
        share = np.divide(size, of_class[labels], out=np.zeros(len(size)), where=size > 0)
        return np.asarray(share * headroom[labels] / present)

    def _labelled_alike(self, detections: Detections, annotations: Annotations) -> Floats:
        """(R,) kernel to the labelled objects that were found, of the class of each reference."""
        found = match_detections(detections, annotations).found.nonzero()[:, 0]
        unit, labels = self._centred(detections), detections.labels
        total = torch.zeros(len(self))
        step = max(_CELLS_AT_ONCE // max(len(self), 1), 1)
        for start in range(0, len(found) if len(self) else 0, step):
            rows = found[start : start + step]
            alike = labels[rows, None] == self.labels
            total += ((unit[rows] @ self._unit.T).clamp_min(0) * alike).sum(dim=0).cpu()
        return np.round(total.double().numpy() * _STEPS) / _STEPS

    def _centred(self, detections: Detections) -> Tensor:
        features = object_features(detections, _PURPOSE)
        if len(features) == 0:
            return features.new_zeros(0, self._unit.shape[1])
        return normalize(features - self._mean, dim=1)


@dataclass(frozen=True, eq=False)
class ChangeState:
    """What is picked.

    Attributes:
        influence: (R,) summed over it.
    """

    influence: Floats


class OutputChangeTable:
    """Gain of a batch by what it would change in the reference set; see the module.

    Attributes:
        reference: The reference set.
        influence: (P, R) of each candidate on each reference detection; 4 P R bytes.

    Args:
        reference: The reference set.
        chunks: Index (B,) and detections of B candidates at a time, each candidate once.
        num_images: P.
        calibration: What the labels of the candidates are expected to be.
        class_names: C names, for explanations.

    Raises:
        ConfigError: If the detector gives no object features.
    """

    def __init__(
        self,
        reference: ReferenceOutputs,
        chunks: Iterable[tuple[NDArray[np.int64], Detections]],
        *,
        num_images: int,
        calibration: Calibration,
        class_names: tuple[str, ...],
    ) -> None:
        self.reference = reference
        self._names = class_names
        self.influence = np.zeros((num_images, len(reference)), dtype=np.float32)
        for index, detections in chunks:
            self.influence[index] = reference.influence(detections, calibration)

    def __len__(self) -> int:
        return len(self.influence)

    def start(self) -> ChangeState:
        """See `RewardTable`."""
        return ChangeState(np.zeros(len(self.reference)))

    def marginal_gain(self, state: ChangeState, index: NDArray[np.int64]) -> Floats:
        """See `RewardTable`; the surrogate of the module."""
        gains = np.zeros(len(index))
        step = max(_CELLS_AT_ONCE // max(len(self.reference), 1), 1)
        for start in range(0, len(index), step):
            # Summed row by row, not as a product with a vector: equal rows give equal sums.
            part = slice(start, start + step)
            gains[part] = self._worth(state, index[part]).sum(axis=1)
        return gains

    def add(self, state: ChangeState, candidate: int) -> ChangeState:
        """See `RewardTable`."""
        return ChangeState(state.influence + self.influence[candidate])

    def gain(self, batch: NDArray[np.int64]) -> float:
        """MAP that labelling the candidates ``batch`` (K,) brings, by re-scoring; in any order."""
        return self.reference.mean_gain(self._resolved(batch))

    def take(self, index: NDArray[np.int64]) -> OutputChangeTable:
        """See `BatchedTable`."""
        part = copy(self)
        part.influence = self.influence[index]
        return part

    def starts(self, count: int) -> Floats:
        """See `BatchedTable`; (K, R) influence summed over each batch."""
        return np.zeros((count, len(self.reference)))

    def marginal_gains(self, states: Floats) -> Floats:
        """See `BatchedTable`; the surrogate of the module."""
        everything = np.arange(len(self))
        rows = [self.marginal_gain(ChangeState(state), everything) for state in states]
        return np.array(rows).reshape(len(states), len(self))

    def adds(self, states: Floats, picks: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """See `BatchedTable`; memory for about four million pairs of a pick and a detection."""
        after, gains = states.copy(), np.zeros(picks.shape)
        step = max(_CELLS_AT_ONCE // max(len(self.reference), 1), 1)
        for k, row in enumerate(picks):
            for start in range(0, int((row >= 0).sum()), step):
                part = row[start : start + step]
                part = part[part >= 0]
                steps = np.concatenate([after[k : k + 1], self.influence[part]])
                total = steps.cumsum(axis=0, dtype=np.float64)
                worth = np.diff(self.reference.resolved(total), axis=0) * self.reference.value
                gains[k, start : start + len(part)] = worth.sum(axis=1)
                after[k] = total[-1]
        return after, gains

    def gains(self, batches: NDArray[np.int64]) -> Floats:
        """See `BatchedTable`."""
        return np.array([self.gain(row[row >= 0]) for row in batches], dtype=np.float64)

    def class_gain(self, batch: NDArray[np.int64]) -> Floats:
        """(C,) AP (0..1) of each class that the candidates ``batch`` (K,) bring, by re-scoring."""
        return self.reference.class_gain(self._resolved(batch))

    def explain(self, state: ChangeState, candidate: int) -> str:
        """See `RewardTable`."""
        worth = self._worth(state, np.array([candidate]))[0]
        labels = self.reference.labels.cpu().numpy()
        by_class = np.bincount(labels, weights=worth, minlength=len(self._names))
        named = [
            f"{self._names[label]} ({100 * by_class[label]:.2g})"
            for label in np.argsort(-by_class, kind="stable")[:_CLASSES_NAMED]
            if by_class[label] > 0
        ]
        return "most for " + ", ".join(named) if named else "nothing is expected to change"

    def _resolved(self, batch: NDArray[np.int64]) -> Floats:
        return self.reference.resolved(self.influence[batch].sum(axis=0, dtype=np.float64))

    def _worth(self, state: ChangeState, index: NDArray[np.int64]) -> Floats:
        """(n, R) what each candidate adds at each reference detection, in mAP."""
        after = self.reference.resolved(state.influence + self.influence[index])
        gains = after - self.reference.resolved(state.influence)
        return np.asarray(gains * self.reference.value)


def _residual(scores: Floats, matches: Matches) -> Floats:
    """(R,) what is missing to the truth; 0 on crowds, which are neither right nor wrong."""
    target = matches.found.double().cpu().numpy()
    return np.where(matches.ignored.cpu().numpy(), 0.0, target - scores)


def _class_ap(table: MatchTable) -> Floats:
    """(C,) AP, NaN without ground truth."""
    everything = np.ones((1, table.num_images), dtype=np.int64)
    return np.asarray(batch_class_ap(table, everything)[0].mean(axis=1))
