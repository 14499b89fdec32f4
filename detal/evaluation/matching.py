"""Greedy matching of detections to ground truth, with pycocotools' exact semantics, in NumPy.

Shapes: M ground-truth boxes, N detections, A area ranges, T IoU thresholds, R candidate pairs.

Within one image and class, detections choose in order of score (ties: as given). Each takes the
free ground-truth box of highest IoU (ties: the later box) at or above the threshold; a box that
counts is preferred to an ignored one whatever the IoU. A crowd is always ignored, can be taken any
number of times, and its "IoU" is the share of the detection inside it. A detection on an ignored
box, or unmatched and outside the area range, is ignored itself.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detal.boxes import xyxy_to_xywh
from detal.evaluation.metrics import AREA_RANGES, IOU_THRESHOLDS
from detal.evaluation.predictions import Predictions
from detal.structures import Annotations

__all__ = ["TRUE_POSITIVE", "detection_order", "ignored_truth", "match"]

Array = NDArray[Any]

FALSE_POSITIVE, IGNORED, TRUE_POSITIVE = -1, 0, 1
_RANGES = np.array(list(AREA_RANGES.values()))  # (A, 2)
# pycocotools' own guard against a threshold of 1
_THRESHOLDS = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)
_PAIRS_AT_ONCE = 1_000_000


class _Candidates(NamedTuple):
    """Pairs of equal image and class whose IoU reaches the lowest threshold, each (R,).

    Sorted by detection, then by rising IoU, then by ground-truth row.
    """

    found: Array  # place among the detections that take part
    truth: Array  # ground-truth row
    iou: Array


def detection_order(predictions: Predictions, *, max_detections: int) -> tuple[Array, Array]:
    """Which detections count, sorted by image, class and falling score (ties: as given).

    Returns:
        ``(rows, rank)``: (N',) indices into the predictions, and the place (from 0) of each among
        the detections of its image and class; places from ``max_detections`` on are left out.
    """
    image = predictions.image_index
    rows = np.lexsort((-predictions.scores.astype(np.float64), predictions.labels, image))
    starts, counts = _runs(image[rows], predictions.labels[rows])
    rank = np.arange(len(rows)) - np.repeat(starts, counts)
    kept = rank < max_detections
    return rows[kept], rank[kept]


def ignored_truth(annotations: Annotations) -> NDArray[np.bool_]:
    """(A, M) True where a ground-truth box does not count: crowds, areas outside the range."""
    return annotations.is_crowd | _outside(annotations.areas)


def match(annotations: Annotations, predictions: Predictions, rows: Array) -> NDArray[np.int8]:
    """Match the detections ``rows`` (of `detection_order`) to the ground truth.

    Returns:
        (A, T, N') int8: 1 matched, 0 ignored, -1 false positive.
    """
    truth_xywh = xyxy_to_xywh(annotations.boxes)
    found_xywh = xyxy_to_xywh(predictions.boxes[rows])
    outside = _outside(found_xywh[:, 2] * found_xywh[:, 3])  # (A, N')
    outcome = np.where(outside, IGNORED, FALSE_POSITIVE).astype(np.int8)
    outcome = np.repeat(outcome[:, None], len(_THRESHOLDS), axis=1)
    candidates = _candidates(annotations, predictions, rows, truth_xywh, found_xywh)
    if len(candidates.found) == 0:
        return outcome
    ignored, crowd = ignored_truth(annotations), annotations.is_crowd
    taken = np.zeros((len(crowd), len(_RANGES), len(_THRESHOLDS)), dtype=bool)
    for pairs in _rounds(annotations, candidates):
        _match_round(pairs, candidates, ignored, crowd, taken, outcome)
    return outcome


def _match_round(
    pairs: Array,
    candidates: _Candidates,
    ignored: Array,
    crowd: Array,
    taken: Array,
    outcome: Array,
) -> None:
    """Let at most one detection of each image and class choose; updates taken and outcome."""
    here, there = candidates.found[pairs], candidates.truth[pairs]
    free = ~taken[there] | crowd[there][:, None, None]  # (R, A, T)
    free &= candidates.iou[pairs][:, None, None] >= _THRESHOLDS
    starts, counts = _runs(here)
    # Pairs of one detection lie in rising order of preference, so their place is their key; boxes
    # that count come before all ignored ones.
    place = np.arange(len(pairs)) - np.repeat(starts, counts)
    lift = len(pairs)
    key = place[:, None] + np.where(ignored[:, there].T, 0, lift)  # (R, A)
    key = np.where(free, key[..., None], -1)
    best = np.maximum.reduceat(key, starts, axis=0)  # (detections, A, T)
    d, a, t = np.nonzero(best >= 0)
    chosen = starts[d] + best[d, a, t] % lift
    taken[there[chosen], a, t] = True
    counted = best[d, a, t] >= lift
    outcome[a, t, here[starts[d]]] = np.where(counted, TRUE_POSITIVE, IGNORED)


def _candidates(
    annotations: Annotations,
    predictions: Predictions,
    rows: Array,
    truth_xywh: Array,
    found_xywh: Array,
) -> _Candidates:
    """All pairs that may match."""
    classes = 1 + max(int(x.max(initial=0)) for x in (annotations.labels, predictions.labels))
    truth_group = annotations.image_index * classes + annotations.labels
    found_group = predictions.image_index[rows] * classes + predictions.labels[rows]
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
        iou = _iou(found_xywh[found], truth_xywh[truth], annotations.is_crowd[truth])
        close = iou >= _THRESHOLDS[0]
        parts.append((found[close], truth[close], iou[close]))
    found, truth, iou = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.lexsort((truth, iou, found))
    return _Candidates(found[order], truth[order], iou[order])


def _blocks(number: Array) -> list[tuple[int, int]]:
    """Split detections so that a block has about ``_PAIRS_AT_ONCE`` pairs; at least one block."""
    block = np.cumsum(number) // _PAIRS_AT_ONCE
    edges = [0, *(np.flatnonzero(np.diff(block)) + 1).tolist(), len(number)]
    return list(itertools.pairwise(edges))


def _rounds(annotations: Annotations, candidates: _Candidates) -> list[Array]:
    """Pairs (as indices) by the turn in which their detection chooses within image and class."""
    starts, counts = _runs(candidates.found)
    # The image and class of a detection are those of any of its candidates.
    any_truth = candidates.truth[starts]
    group_starts, group_counts = _runs(
        annotations.image_index[any_truth], annotations.labels[any_truth]
    )
    turn = np.arange(len(starts)) - np.repeat(group_starts, group_counts)
    turn_of_pair = np.repeat(turn, counts)
    order = np.argsort(turn_of_pair, kind="stable")
    return np.split(order, np.cumsum(np.bincount(turn_of_pair))[:-1])


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
