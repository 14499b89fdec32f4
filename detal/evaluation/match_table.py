"""The match table: who matched what, computed once, in the order that the curves need.

A detection's match depends on its own image only. The figures of any set of images are then a
selection of rows and a running count per class (`detal.evaluation.subsets`).

Shapes: P images, C classes, N detections, K of them within the limit of their image and class,
M ground-truth boxes, A area ranges (``AREA_RANGES``), T IoU thresholds (``IOU_THRESHOLDS``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detal.errors import DataError
from detal.evaluation.matching import Matcher, class_order, falling_order, group_ranks
from detal.evaluation.metrics import IOU_THRESHOLDS
from detal.evaluation.predictions import Predictions, check_pair
from detal.structures import Annotations

__all__ = ["MatchTable", "build_match_table", "rescored"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class MatchTable:
    """Every detection's match.

    Attributes:
        num_images: P.
        num_classes: C.
        max_detections: Detections that count per image and class.
        matcher: Images, classes and overlaps; what does not depend on the scores.
        scores: (N,) in the order of the predictions.
        ranks: (N,) place by score among the detections of its image and class, from 0.
        hits: (A, N) uint16, bit t set where matched at threshold t. Detections beyond the limit
            choose too: as they come last, they take nothing from those that count.
        ignored: (A, N) uint16, bit t set where ignored at threshold t.
        rows: (K,) detections that count, by class, falling score and place in the predictions.
        truth_image: (M,) image of each ground-truth box.
        truth_label: (M,) class of each ground-truth box.
    """

    num_images: int
    num_classes: int
    max_detections: int
    matcher: Matcher
    scores: Array
    ranks: Array
    hits: NDArray[np.uint16]
    ignored: NDArray[np.uint16]
    rows: Array
    truth_image: Array
    truth_label: Array

    @cached_property
    def class_starts(self) -> NDArray[np.int64]:
        """(C + 1,) first of ``rows`` of each class."""
        label = self.matcher.label[self.rows]
        return np.searchsorted(label, np.arange(self.num_classes + 1))

    @property
    def outcome(self) -> NDArray[np.int8]:
        """(A, T, K) 1 matched, 0 ignored, -1 false positive, of each row."""
        bits = (1 << np.arange(len(IOU_THRESHOLDS)))[:, None]
        hit = (self.hits[:, None, self.rows] & bits) != 0
        ignored = (self.ignored[:, None, self.rows] & bits) != 0
        return np.where(hit, 1, np.where(ignored, 0, -1)).astype(np.int8)


def build_match_table(
    annotations: Annotations,
    predictions: Predictions,
    *,
    num_classes: int,
    max_detections: int = 100,
) -> MatchTable:
    """Match once; everything else reads the table.

    Args:
        annotations: Ground truth of P images.
        predictions: Scored boxes of the same P images, in the same order.
        num_classes: C.
        max_detections: Detections that count per image and class, best first.

    Raises:
        DataError: If images or labels of the two do not agree.
    """
    check_pair(annotations, predictions, num_classes=num_classes)
    matcher = Matcher.of(annotations, predictions, num_classes=num_classes)
    order = falling_order(predictions.scores)
    ranks = group_ranks(order, matcher.label, matcher.image)
    hits, ignored = matcher.match(ranks, np.arange(len(ranks)))
    counted = order[ranks[order] < max_detections]
    return MatchTable(
        num_images=len(annotations),
        num_classes=num_classes,
        max_detections=max_detections,
        matcher=matcher,
        scores=predictions.scores,
        ranks=ranks,
        hits=hits,
        ignored=ignored,
        rows=class_order(matcher.label, counted),
        truth_image=annotations.image_index,
        truth_label=annotations.labels,
    )


def rescored(table: MatchTable, scores: Array, *, detections: Array | None = None) -> MatchTable:
    """The table of the same boxes under other scores, exact in every respect.

    What counts within ``max_detections`` and which detection chooses first follow the new order.
    Overlaps are not computed again; an image and class is matched again only where the order of
    its detections changed, and a class is sorted again only where one of its scores was given.
    What remains for a few scores is copying arrays of N rows.

    Args:
        table: The table; it is not changed.
        scores: (N,) new scores in the order of the predictions, or (k,) with ``detections``.
        detections: (k,) distinct places in the predictions whose scores are given; all by default.

    Raises:
        DataError: If scores are not finite or do not fit the detections, or a detection is given
            twice.
    """
    new_scores, classes = _merged_scores(table, scores, detections)
    members = np.flatnonzero(classes[table.matcher.label])
    order = falling_order(new_scores[members])
    rank = group_ranks(order, table.matcher.label[members], table.matcher.image[members])
    moved = members[rank != table.ranks[members]]
    ranks = table.ranks.copy()
    ranks[members] = rank
    hits, ignored = _rematched(table, ranks, moved)
    counted = members[order[rank[order] < table.max_detections]]
    # How many rows a class has does not depend on the scores: the new rows fit the old places.
    rows = table.rows.copy()
    rows[classes[table.matcher.label[rows]]] = class_order(table.matcher.label, counted)
    return replace(table, scores=new_scores, ranks=ranks, hits=hits, ignored=ignored, rows=rows)


def _merged_scores(
    table: MatchTable, scores: Array, detections: Array | None
) -> tuple[Array, NDArray[np.bool_]]:
    """(N,) all scores, and (C,) the classes with a score that was given."""
    n = len(table.scores)
    where = np.arange(n) if detections is None else np.asarray(detections, dtype=np.int64)
    scores = np.asarray(scores)
    if scores.shape != where.shape or not np.isfinite(scores).all():
        raise DataError(
            f"new scores must be finite and ({len(where)},), one per detection, got shape "
            f"{scores.shape}"
        )
    if len(where) and not (where.min() >= 0 and where.max() < n):
        wrong = where[(where < 0) | (where >= n)][0]
        raise DataError(f"detections must lie in 0..{n - 1}, got {wrong}")
    given = np.bincount(where, minlength=n)
    if given.max(initial=0) > 1:
        raise DataError(f"detections are given more than once: {np.argmax(given)}")
    merged = table.scores.astype(np.result_type(table.scores, scores))
    merged[where] = scores
    classes = np.zeros(table.num_classes, dtype=bool)
    classes[table.matcher.label[where]] = True
    return merged, classes


def _rematched(table: MatchTable, ranks: Array, moved: Array) -> tuple[Array, Array]:
    """Matches after the detections ``moved`` changed their place in their image and class."""
    matcher = table.matcher
    # Without an overlap a detection neither takes a box nor loses one.
    paired = np.zeros(len(ranks), dtype=bool)
    paired[matcher.found] = True
    groups = np.unique(matcher.group[moved[paired[moved]]])
    again = np.flatnonzero(np.isin(matcher.group, groups) & paired)
    hits, ignored = table.hits, table.ignored
    if len(again):
        hits, ignored = hits.copy(), ignored.copy()
        hits[:, again], ignored[:, again] = matcher.match(ranks, again)
    return hits, ignored
