"""Greedy matching of detections to ground truth, with pycocotools' exact semantics, in NumPy.

Shapes: M ground-truth boxes, N detections, A area ranges, T IoU thresholds, R candidate pairs.

Within one image and class, detections choose in order of score (ties: as given). Each takes the
free ground-truth box of highest IoU (ties: the later box) at or above the threshold; a box that
counts is preferred to an ignored one whatever the IoU. A crowd is always ignored, can be taken any
number of times, and its "IoU" is the share of the detection inside it. A detection on an ignored
box, or unmatched and outside the area range, is ignored itself.

What boxes overlap does not depend on the scores, so it is found once (`Matcher`); another order of
the detections is matched again from there.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detal.boxes import xyxy_to_xywh
from detal.evaluation.metrics import AREA_RANGES, IOU_THRESHOLDS
from detal.evaluation.predictions import Predictions
from detal.structures import Annotations

__all__ = ["Matcher", "class_order", "falling_order", "group_ranks"]

Array = NDArray[Any]

FALSE_POSITIVE, IGNORED, TRUE_POSITIVE = -1, 0, 1
_RANGES = np.array(list(AREA_RANGES.values()))  # (A, 2)
# pycocotools' own guard against a threshold of 1
_THRESHOLDS = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)
_PAIRS_AT_ONCE = 1_000_000


@dataclass(frozen=True, eq=False)
class Matcher:
    """All that matching needs but the scores.

    Attributes:
        image: (N,) image of each detection, not decreasing.
        label: (N,) class of each detection.
        group: (N,) number of its image and class, the same for ground truth of both.
        outside: (A, N) True where the detection's area lies outside the range.
        found: (R,) detections that may match; pairs of equal image and class whose IoU reaches the
            lowest threshold, by detection, then rising IoU, then ground-truth row.
        truth: (R,) ground-truth row of each pair.
        iou: (R,) float64.
        truth_ignored: (A, M) True where a ground-truth box does not count: crowds, areas outside.
        crowd: (M,) bool.
    """

    image: Array
    label: Array
    group: Array
    outside: NDArray[np.bool_]
    found: Array
    truth: Array
    iou: Array
    truth_ignored: NDArray[np.bool_]
    crowd: NDArray[np.bool_]

    @staticmethod
    def of(annotations: Annotations, predictions: Predictions, *, num_classes: int) -> Matcher:
        """Overlap boxes of equal image and class."""
        truth_xywh, found_xywh = xyxy_to_xywh(annotations.boxes), xyxy_to_xywh(predictions.boxes)
        group = predictions.image_index * num_classes + predictions.labels
        truth_group = annotations.image_index * num_classes + annotations.labels
        found, truth, iou = _pairs(truth_xywh, found_xywh, annotations.is_crowd, group, truth_group)
        return Matcher(
            image=predictions.image_index,
            label=predictions.labels,
            group=group,
            outside=_outside(found_xywh[:, 2] * found_xywh[:, 3]),
            found=found,
            truth=truth,
            iou=iou,
            truth_ignored=annotations.is_crowd | _outside(annotations.areas),
            crowd=annotations.is_crowd,
        )

    def match(self, turn: Array, detections: Array) -> tuple[Array, Array]:
        """Let some detections choose; whole groups only, as those of a group compete.

        Args:
            turn: (N,) place by score in its group.
            detections: (k,) rising indices; pairs of all others are left alone.

        Returns:
            ``(hits, ignored)``, each (A, k) uint16: bit t set where matched to a box that counts,
            or ignored, at threshold t.
        """
        outcome = np.where(self.outside[:, detections], IGNORED, FALSE_POSITIVE).astype(np.int8)
        outcome = np.repeat(outcome[:, None], len(_THRESHOLDS), axis=1)  # (A, T, k)
        place = np.full(len(self.image), -1)
        place[detections] = np.arange(len(detections))
        pairs = np.flatnonzero(place[self.found] >= 0)
        if len(pairs):
            truths, truth = np.unique(self.truth[pairs], return_inverse=True)
            taken = np.zeros((len(truths), len(_RANGES), len(_THRESHOLDS)), dtype=bool)
            for here in self._rounds(turn, pairs):
                self._match_round(pairs[here], place, truth[here], taken, outcome)
        return _bits(outcome == TRUE_POSITIVE), _bits(outcome == IGNORED)

    def _rounds(self, turn: Array, pairs: Array) -> list[Array]:
        """Places in ``pairs`` by the round in which their detection chooses in its group."""
        starts, counts = _runs(self.found[pairs])
        chooser = self.found[pairs[starts]]
        order = np.lexsort((turn[chooser], self.group[chooser]))
        group_starts, group_counts = _runs(self.group[chooser[order]])
        number = np.empty(len(chooser), dtype=np.int64)
        number[order] = np.arange(len(chooser)) - np.repeat(group_starts, group_counts)
        number_of_pair = np.repeat(number, counts)
        by_round = np.argsort(number_of_pair, kind="stable")
        return np.split(by_round, np.cumsum(np.bincount(number_of_pair))[:-1])

    def _match_round(
        self, pairs: Array, place: Array, truth: Array, taken: Array, outcome: Array
    ) -> None:
        """Let at most one detection of each group choose; updates taken and outcome."""
        here, there = place[self.found[pairs]], self.truth[pairs]
        free = ~taken[truth] | self.crowd[there][:, None, None]  # (R, A, T)
        free &= self.iou[pairs][:, None, None] >= _THRESHOLDS
        starts, counts = _runs(here)
        # Pairs of one detection lie in rising order of preference, so their place is their key;
        # boxes that count come before all ignored ones.
        preference = np.arange(len(pairs)) - np.repeat(starts, counts)
        lift = len(pairs)
        key = preference[:, None] + np.where(self.truth_ignored[:, there].T, 0, lift)  # (R, A)
        key = np.where(free, key[..., None], -1)
        best = np.maximum.reduceat(key, starts, axis=0)  # (detections, A, T)
        d, a, t = np.nonzero(best >= 0)
        chosen = starts[d] + best[d, a, t] % lift
        taken[truth[chosen], a, t] = True
        counted = best[d, a, t] >= lift
        outcome[a, t, here[starts[d]]] = np.where(counted, TRUE_POSITIVE, IGNORED)


def falling_order(scores: Array) -> NDArray[np.int64]:
    """(k,) stable sorting permutation of finite scores, highest first (ties: as given).

    A radix sort, 16 bits at a time: several times faster than sorting floats.
    """
    kind = np.float32 if scores.dtype.itemsize <= 4 and scores.dtype.kind == "f" else np.float64
    rising = 0.0 - scores.astype(kind)  # not -scores: 0.0 and -0.0 are equal
    bits = rising.view(np.uint32 if kind is np.float32 else np.uint64)
    top = bits.dtype.type(1 << (8 * bits.itemsize - 1))
    return _radix_order(np.where(bits & top, ~bits, bits | top), np.arange(len(bits)))


def group_ranks(order: Array, label: Array, image: Array) -> NDArray[np.int64]:
    """(k,) place of each row among those of its image and class, in the sorting ``order`` (k,)."""
    order = _radix_order(image, _radix_order(label, order))
    starts, counts = _runs(label[order], image[order])
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order)) - np.repeat(starts, counts)
    return rank


def class_order(label: Array, rows: Array) -> NDArray[np.int64]:
    """``rows`` (k,) taken class by class, stably; ``label`` (N,) is indexed by them."""
    return rows[_radix_order(label[rows], np.arange(len(rows)))]


def _radix_order(keys: Array, order: Array) -> NDArray[np.int64]:
    """``order`` (k,) sorted by the unsigned ``keys`` (k,), stably."""
    largest = int(keys.max(initial=0))
    for shift in range(0, max(largest.bit_length(), 1), 16):
        digits = (keys >> keys.dtype.type(shift)).astype(np.uint16)
        order = order[np.argsort(digits[order], kind="stable")]
    return np.asarray(order)


def _pairs(
    truth_xywh: Array, found_xywh: Array, crowd: Array, found_group: Array, truth_group: Array
) -> tuple[Array, Array, Array]:
    """All pairs that may match."""
    truth_order = np.argsort(truth_group, kind="stable")
    ordered = truth_group[truth_order]
    first = np.searchsorted(ordered, found_group, side="left")
    number = np.searchsorted(ordered, found_group, side="right") - first
    parts = []
    for begin, end in _blocks(number):
        n = number[begin:end]
        found = np.repeat(np.arange(begin, end), n)
        inside = np.arange(len(found)) - np.repeat(np.cumsum(n) - n, n)
        truth = truth_order[np.repeat(first[begin:end], n) + inside]
        iou = _iou(found_xywh[found], truth_xywh[truth], crowd[truth])
        close = iou >= _THRESHOLDS[0]
        parts.append((found[close], truth[close], iou[close]))
    found, truth, iou = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.lexsort((truth, iou, found))
    return found[order], truth[order], iou[order]


def _bits(flags: Array) -> NDArray[np.uint16]:
    """(A, k) the (A, T, k) flags as one word each."""
    words = np.zeros((flags.shape[0], flags.shape[2]), dtype=np.uint16)
    for t in range(flags.shape[1]):
        words |= flags[:, t].astype(np.uint16) << np.uint16(t)
    return words


def _blocks(number: Array) -> list[tuple[int, int]]:
    """Split detections so that a block has about ``_PAIRS_AT_ONCE`` pairs; at least one block."""
    block = np.cumsum(number) // _PAIRS_AT_ONCE
    edges = [0, *(np.flatnonzero(np.diff(block)) + 1).tolist(), len(number)]
    return list(itertools.pairwise(edges))


def _iou(found_xywh: Array, truth_xywh: Array, crowd: Array) -> Array:
    """(R,) IoU in float64, operation by operation as pycocotools computes it."""
    low = np.maximum(found_xywh[:, :2], truth_xywh[:, :2])
    high = np.minimum(found_xywh[:, :2] + found_xywh[:, 2:], truth_xywh[:, :2] + truth_xywh[:, 2:])
    size = np.maximum(high - low, 0.0)
    common = size[:, 0] * size[:, 1]
    found_area = found_xywh[:, 2] * found_xywh[:, 3]
    truth_area = truth_xywh[:, 2] * truth_xywh[:, 3]
    union = np.where(crowd, found_area, found_area + truth_area - common)
    ratio: Array = np.divide(common, union, out=np.zeros_like(common), where=common > 0)
    return ratio


def _outside(areas: Array) -> NDArray[np.bool_]:
    return np.asarray((areas < _RANGES[:, :1]) | (areas > _RANGES[:, 1:]))


def _runs(*keys: Array) -> tuple[Array, Array]:
    """Starts and lengths of the runs of equal keys (all of one length)."""
    n = len(keys[0])
    changes = np.zeros(max(n - 1, 0), dtype=bool)
    for key in keys:
        changes |= key[1:] != key[:-1]
    starts = np.concatenate([np.zeros(min(n, 1), np.int64), np.flatnonzero(changes) + 1])
    return starts, np.diff(np.append(starts, n))
