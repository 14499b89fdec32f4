"""AP and recall of a block of at most 8 sets of images, in NumPy.

Where no image counts twice, a byte per image holds a bit per set: what a set holds is then found
for 8 sets at once, and places are counted a byte of rows at a time.

Shapes: B sets, P images, C classes, T IoU thresholds; K detections, H of them marked, as in
`AreaView`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from detal.evaluation.area_view import AreaView
from detal.evaluation.curves import Marked, average_precision, hit_counts

__all__ = ["BLOCK", "ap_of_view", "recall_of_view"]

Array = NDArray[Any]

BLOCK = 8
_ONES = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.int32)
_HIGH = np.array([256 - (256 >> k) for k in range(8)], dtype=np.uint8)  # the first k bits of a byte


def ap_of_view(view: AreaView, weights: Array) -> NDArray[np.float64]:
    """(B * C, T) AP for the ``weights`` (B, P) of at most 8 sets."""
    chosen = _Chosen(weights)
    return average_precision(chosen.marked(view), chosen.positives(view))


def recall_of_view(view: AreaView, weights: Array) -> NDArray[np.float64]:
    """(B * C, T) recall for the ``weights`` (B, P) of at most 8 sets."""
    chosen = _Chosen(weights)
    positives = chosen.positives(view).astype(np.float64)
    positives[positives == 0] = np.nan
    return np.asarray(hit_counts(chosen.marked(view)) / positives[:, None])


class _Chosen:
    """A block of at most 8 sets: which rows they hold, and how many rows stand before one."""

    def __init__(self, weights: Array) -> None:
        self.sets = len(weights)
        self.weights = weights
        self.once = weights.max(initial=0) <= 1
        if self.once:  # a byte per image, a bit per set
            self.bits = (1 << np.arange(self.sets, dtype=np.uint8))[:, None]
            self.codes = np.packbits(weights != 0, axis=0, bitorder="little")[0]

    def counts_before(self, image: Array) -> _Counts:
        """Of rows with these images, how many of each set stand before a place."""
        if self.once:
            return _BitCounts(self.codes.take(image) & self.bits)
        return _SumCounts(self.weights.take(image, axis=1))

    def positives(self, view: AreaView) -> NDArray[np.int64]:
        """(B * C,) ground-truth boxes that count."""
        counts = self.counts_before(view.truth_image)
        return np.diff(counts.at(view.truth_starts), axis=1).ravel()

    def marked(self, view: AreaView) -> Marked:
        """The marked detections of all B * C curves; ``flat`` are places in (B, H)."""
        width = len(view.marked)
        copies = None
        if self.once:
            flat = np.flatnonzero((self.codes.take(view.marked_image) & self.bits) != 0)
        else:
            copies = self.weights.take(view.marked_image, axis=1).ravel()
            flat = np.repeat(np.arange(len(copies)), copies)
        edges = np.arange(self.sets)[:, None] * width + view.marked_starts[:-1]
        starts = np.append(np.searchsorted(flat, edges.ravel()), len(flat))
        owner = np.repeat(
            np.arange(self.sets), np.diff(np.searchsorted(flat, np.arange(self.sets + 1) * width))
        )
        column = flat - owner * width
        counts = self.counts_before(view.image)
        base = counts.at(view.starts[:-1]).ravel()
        if copies is None:
            place = counts.of(owner, view.marked[column])
        else:
            # Copies of an image stand one after another: equal scores of one copy come before
            # those of the next, so the copies of a run of ties are interleaved.
            copy = np.arange(len(flat)) - (np.cumsum(copies) - copies)[flat]
            tie_start = view.tie_start[column]
            place = counts.of(owner, tie_start) + copy * view.tie_length[column]
            place += view.marked[column] - tie_start
        rank = place - np.repeat(base, np.diff(starts)) + 1.0
        if copies is not None and (view.tie_length > 1).any():
            order = np.lexsort((rank, np.repeat(np.arange(len(base)), np.diff(starts))))
            rank, column = rank[order], column[order]
        return Marked(rank, view.hits[column], view.ignored[column], starts)


class _BitCounts:
    """Counts from a bit per row: a running sum over bytes, and the bits within one byte."""

    def __init__(self, kept: NDArray[np.uint8]) -> None:
        """(B, N), not 0 where kept."""
        n = kept.shape[1]
        self.bytes = np.zeros((len(kept), n // 8 + 1), dtype=np.uint8)
        self.bytes[:, : -(-n // 8)] = np.packbits(kept, axis=1)
        ones = _ONES.take(self.bytes)
        self.before = np.cumsum(ones, axis=1, dtype=np.int32)
        self.before -= ones

    def of(self, owner: Array, place: Array) -> Array:
        """(K,) kept rows of set ``owner`` before ``place``, each (K,)."""
        byte = owner * self.bytes.shape[1] + (place >> 3)
        inside = self.bytes.ravel().take(byte) & _HIGH.take(place & 7)
        return np.asarray(self.before.ravel().take(byte) + _ONES.take(inside))

    def at(self, places: Array) -> Array:
        """(B, K) kept rows of each set before ``places`` (K,)."""
        inside = self.bytes[:, places >> 3] & _HIGH[places & 7]
        return np.asarray(self.before[:, places >> 3] + _ONES.take(inside))


class _SumCounts:
    """Counts from a running sum of weights."""

    def __init__(self, weights: Array) -> None:
        """(B, N) how often each row counts."""
        self.before = np.zeros((len(weights), weights.shape[1] + 1), dtype=np.int64)
        np.cumsum(weights, axis=1, out=self.before[:, 1:])

    def of(self, owner: Array, place: Array) -> Array:
        """(K,) as in `_BitCounts`."""
        return np.asarray(self.before.ravel()[owner * self.before.shape[1] + place])

    def at(self, places: Array) -> Array:
        """(B, K) as in `_BitCounts`."""
        return self.before[:, places]


_Counts = _BitCounts | _SumCounts
