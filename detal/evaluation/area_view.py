"""What the figures of one area range read from a match table, as compact as they need it.

Shapes: C classes (all of the table's, or some), K detections of these classes, H of them marked
(matched or ignored at some IoU threshold), M' ground-truth boxes that count in this area range.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from detal.errors import ConfigError, unknown_name
from detal.evaluation.match_table import MatchTable
from detal.evaluation.metrics import AREA_RANGES

__all__ = ["AreaView", "area_view"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class AreaView:
    """Detections, marked detections and ground truth of one area range, each by class.

    Attributes:
        image: (K,) images of the detections, by class and falling score.
        starts: (C + 1,) first detection of each class.
        rank: (H,) place by score of the marked detections in their image and class, from 0.
        marked: (H,) places of the marked detections among the K, rising.
        marked_image: (H,) their images.
        marked_starts: (C + 1,) first marked detection of each class.
        hits: (H,) uint16, bit t set where matched at threshold t.
        ignored: (H,) uint16, bit t set where ignored at threshold t.
        tie_start: (H,) first detection of the run of equal class, score and image.
        tie_length: (H,) detections in that run.
        truth_image: (M',) images of the ground-truth boxes.
        truth_starts: (C + 1,) first ground-truth box of each class.
    """

    image: Array
    starts: Array
    rank: Array
    marked: Array
    marked_image: Array
    marked_starts: Array
    hits: NDArray[np.uint16]
    ignored: NDArray[np.uint16]
    tie_start: Array
    tie_length: Array
    truth_image: Array
    truth_starts: Array

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.starts) - 1

    def best(self, max_detections: int) -> AreaView:
        """Marked detections among the best of their image and class; for recall only."""
        kept = self.rank < max_detections
        fields = ("rank", "marked", "marked_image", "hits", "ignored", "tie_start", "tie_length")
        return replace(
            self,
            marked_starts=np.concatenate([[0], np.cumsum(kept)])[self.marked_starts],
            **{name: getattr(self, name)[kept] for name in fields},
        )

    def of_classes(self, classes: Array) -> AreaView:
        """Only some classes, distinct; linear in their detections."""
        rows, starts = _ranges(self.starts, classes)
        some, marked_starts = _ranges(self.marked_starts, classes)
        truth, truth_starts = _ranges(self.truth_starts, classes)
        shift = np.repeat(starts[:-1] - self.starts[classes], np.diff(marked_starts))
        return AreaView(
            image=self.image[rows],
            starts=starts,
            rank=self.rank[some],
            marked=self.marked[some] + shift,
            marked_image=self.marked_image[some],
            marked_starts=marked_starts,
            hits=self.hits[some],
            ignored=self.ignored[some],
            tie_start=self.tie_start[some] + shift,
            tie_length=self.tie_length[some],
            truth_image=self.truth_image[truth],
            truth_starts=truth_starts,
        )


_VIEWS: WeakKeyDictionary[MatchTable, dict[str, AreaView]] = WeakKeyDictionary()


def area_view(table: MatchTable, area: str) -> AreaView:
    """The view of a table, made once; linear in its detections and ground-truth boxes.

    Raises:
        ConfigError: If ``area`` is not a name of ``AREA_RANGES``.
    """
    if area not in AREA_RANGES:
        raise ConfigError(unknown_name("area range", area, AREA_RANGES))
    views = _VIEWS.setdefault(table, {})
    if area not in views:
        views[area] = _make(table, list(AREA_RANGES).index(area))
    return views[area]


def _make(table: MatchTable, a: int) -> AreaView:
    hits, ignored = table.hits[a][table.rows], table.ignored[a][table.rows]
    marked = np.flatnonzero(hits | ignored)
    image = table.matcher.image[table.rows]
    ties = _tie_starts(table.matcher.label[table.rows], table.scores[table.rows], image)
    run = np.searchsorted(ties, marked, side="right") - 1
    counts = np.flatnonzero(~table.matcher.truth_ignored[a])
    counts = counts[np.argsort(table.truth_label[counts], kind="stable")]
    return AreaView(
        image=image,
        starts=table.class_starts,
        rank=table.ranks[table.rows[marked]],
        marked=marked,
        marked_image=image[marked],
        marked_starts=np.searchsorted(marked, table.class_starts),
        hits=hits[marked],
        ignored=ignored[marked],
        tie_start=ties[run],
        tie_length=np.diff(ties, append=len(image))[run],
        truth_image=table.truth_image[counts],
        truth_starts=np.searchsorted(table.truth_label[counts], np.arange(table.num_classes + 1)),
    )


def _ranges(starts: Array, classes: Array) -> tuple[Array, Array]:
    """(K,) the places of some classes one after another, and (C + 1,) where each starts then."""
    begin, count = starts[classes], starts[classes + 1] - starts[classes]
    new = np.concatenate([[0], np.cumsum(count)])
    return np.arange(new[-1]) + np.repeat(begin - new[:-1], count), new


def _tie_starts(label: Array, score: Array, image: Array) -> NDArray[np.int64]:
    """First row of each run of equal class, score and image."""
    new = np.ones(len(score), dtype=bool)
    new[1:] = (score[1:] != score[:-1]) | (image[1:] != image[:-1]) | (label[1:] != label[:-1])
    return np.flatnonzero(new)
