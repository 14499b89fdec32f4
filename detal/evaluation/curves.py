"""Average precision of many groups of detections at once, in NumPy.

A group is what one precision-recall curve is drawn for: the detections of one class in one set of
images. Only detections that are matched or ignored at some IoU threshold are looked at one by one;
the false positives between them are a difference of ranks.

Shapes: G groups, T IoU thresholds (``IOU_THRESHOLDS``), m marked detections of all groups.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detal.evaluation.metrics import IOU_THRESHOLDS, RECALL_THRESHOLDS

__all__ = ["Marked", "average_precision", "hit_counts", "reached"]

Array = NDArray[Any]

_NUM_THRESHOLDS = len(IOU_THRESHOLDS)
_BITS = (1 << np.arange(_NUM_THRESHOLDS)).astype(np.uint16)[:, None]
_RECALL = np.append(RECALL_THRESHOLDS, np.inf)


class Marked(NamedTuple):
    """Detections that are matched or ignored at some threshold, by group and falling score.

    Attributes:
        rank: (m,) float64 place among all detections of the group, from 1.
        hits: (m,) uint16, bit t set where matched at threshold t.
        ignored: (m,) uint16, bit t set where ignored at threshold t.
        starts: (G + 1,) first marked detection of each group.
    """

    rank: Array
    hits: Array
    ignored: Array
    starts: Array


def average_precision(marked: Marked, positives: Array) -> NDArray[np.float64]:
    """(G, T) COCO's 101-point AP; NaN in groups without ground truth.

    Time and memory are O(T m); nothing is padded to the largest group.

    Args:
        marked: The detections.
        positives: (G,) ground-truth boxes that count.
    """
    groups = len(positives)
    curves = _NUM_THRESHOLDS * groups
    curve, true, counted = _candidates(marked)
    precision = true / counted
    # Interpolation takes the best precision at or after a recall: a running maximum from the right,
    # kept within curves by a step per curve. Positive floats order as their bits do, and NumPy's
    # maximum of integers is faster.
    lifted = (precision + (curves - curve)).view(np.int64)
    best = np.maximum.accumulate(lifted[::-1])[::-1]
    # The maximum falls where a true positive is better than all after it. Each such place stands
    # for the recall thresholds between the one before it and itself.
    ends = np.flatnonzero(_last_of_runs(best))
    curve = curve.take(ends)
    thresholds = reached(true.take(ends), np.tile(positives, _NUM_THRESHOLDS).take(curve))
    share = thresholds.copy()
    share[1:] -= np.where(curve[1:] == curve[:-1], thresholds[:-1], 0)
    total = np.bincount(curve, weights=precision.take(ends) * share, minlength=curves)
    ap = total.reshape(_NUM_THRESHOLDS, groups).T / len(RECALL_THRESHOLDS)
    ap[positives == 0] = np.nan
    return np.asarray(ap)


def hit_counts(marked: Marked) -> NDArray[np.int64]:
    """(G, T) matched detections of each group at each threshold."""
    return np.asarray(np.diff(_running(marked.hits)[:, marked.starts], axis=1).T, dtype=np.int64)


def reached(true: Array, positives: Array) -> NDArray[np.int64]:
    """(K,) how many of the 101 recall thresholds a recall of ``true / positives`` (K,) reaches."""
    # The test that counts is recall >= threshold in floating point, as pycocotools makes it; the
    # product with 100 may be off by one threshold.
    recall = true / positives
    k = (recall * (len(RECALL_THRESHOLDS) - 1)).astype(np.int64)
    count = k + 1
    return np.asarray(count + (_RECALL.take(count) <= recall) - (_RECALL.take(k) > recall))


def _last_of_runs(values: Array) -> NDArray[np.bool_]:
    """(K,) True where the next of ``values`` (K,) differs, and at the last."""
    last = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=last[:-1])
    return last


def _candidates(marked: Marked) -> tuple[Array, Array, Array]:
    """Matches where the precision may be the best from there on, by threshold and group.

    After a match the precision can only rise if the next detection is matched too, so of an
    unbroken row of matches the last one is enough.

    Returns:
        ``(curve, true, counted)``, each (E,): threshold times G plus group; float64 number of true
        positives, and of detections that are not ignored, from the start of the group.
    """
    m, starts = len(marked.rank), marked.starts
    groups = len(starts) - 1
    follow = np.zeros_like(marked.hits)
    follow[:-1] = np.where(marked.rank[1:] == marked.rank[:-1] + 1, marked.hits[1:], 0)
    follow[starts[1:][starts[1:] > 0] - 1] = 0  # the next one belongs to another group
    at = np.flatnonzero((marked.hits & ~follow & _BITS) != 0)  # in (T, m)
    per_threshold = np.diff(np.searchsorted(at, np.arange(_NUM_THRESHOLDS + 1) * m))
    t = np.repeat(np.arange(_NUM_THRESHOLDS), per_threshold)
    column = at - t * m
    group = np.repeat(np.arange(groups), np.diff(starts)).take(column)
    true = _between(_running(marked.hits), t, starts.take(group), column + 1)
    counted = marked.rank.take(column)
    ignored = np.flatnonzero(marked.ignored)
    if len(ignored):
        before = np.zeros(m + 1, dtype=np.int64)
        np.cumsum(marked.ignored != 0, out=before[1:])
        running = _running(marked.ignored[ignored])
        counted = counted - _between(running, t, before[starts].take(group), before.take(column))
    return t * groups + group, true.astype(np.float64), counted


def _running(bits: NDArray[np.uint16]) -> NDArray[np.int32]:
    """(T, m + 1) how many of the first 0, 1, ..., m words have bit t set."""
    total = np.zeros((_NUM_THRESHOLDS, len(bits) + 1), dtype=np.int32)
    np.cumsum((bits & _BITS) != 0, axis=1, dtype=np.int32, out=total[:, 1:])
    return total


def _between(running: Array, t: Array, begin: Array, end: Array) -> Array:
    """(E,) count at threshold ``t`` of the words ``begin`` to ``end``, each (E,)."""
    row = t * running.shape[1]
    flat = running.ravel()
    return np.asarray(flat.take(row + end) - flat.take(row + begin))
