"""What a run keeps beside its manifest, for its report and its review.

    report_data/data.json      labelled objects, expected objects, projection, histograms
    report_data/reserve.csv    the images that come next, as selection.csv
    report_data/reserve.json   the same with predicted boxes, as coco.json
    report_data/curves.json    the table of category curves that the strategy read, if it did

Shapes: K images of the batch, S of the reserve, C classes, T histogram bins.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detal.errors import DataError
from detal.features import expected_class_counts
from detal.files import read_json
from detal.manifests import Batch, write_coco, write_csv
from detal.report.projection import evenly_spaced, principal_plane
from detal.reward import FittedCurves
from detal.strategies import Candidates
from detal.structures import Detections, Selection

__all__ = ["FOLDER", "Histogram", "Kept", "describe", "keep_curves", "read_kept", "write_kept"]

FOLDER = "report_data"
_FILE = "data.json"
_CURVES = "curves.json"
_VERSION = 1
_MOST_POINTS = 3_000
_BINS = 25
_LEAST_COUNT = 0.01

Points = list[list[float]]


@dataclass(frozen=True)
class Histogram:
    """How a figure is spread over the pool and over the batch.

    Attributes:
        edges: T + 1 bin edges, ascending; the last bin holds what is above, too.
        pool: T counts over all candidates.
        batch: T counts over the batch.
    """

    edges: list[float]
    pool: list[int]
    batch: list[int]


@dataclass(frozen=True)
class Kept:
    """See the module.

    Attributes:
        class_counts: C labelled objects before the batch.
        expected: Of each image of the batch and then of the reserve, pairs of label and expected
            objects.
        histograms: By figure: ``best_score`` and ``expected_boxes`` of images, ``box_score``.
        explained: Shares of the variance along the two axes of the projection, in [0, 1].
        pool: Places of some candidates, evenly spaced by id.
        labeled: Places of some labelled images.
        selected: Places of the K + S images; empty without image features.
    """

    class_counts: list[int]
    expected: list[list[tuple[int, float]]]
    histograms: dict[str, Histogram]
    explained: tuple[float, float] = (0.0, 0.0)
    pool: Points = field(default_factory=list)
    labeled: Points = field(default_factory=list)
    selected: Points = field(default_factory=list)

    def expected_counts(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """(C,) objects expected in the images ``rows`` of batch and reserve."""
        counts = np.zeros(len(self.class_counts))
        for row in rows.tolist():
            for label, number in self.expected[row]:
                counts[label] += number
        return counts

    def take(self, rows: NDArray[np.int64]) -> Kept:
        """For a batch (and reserve) made of the images ``rows`` of this one."""
        return replace(
            self,
            expected=[self.expected[row] for row in rows.tolist()],
            selected=[self.selected[row] for row in rows.tolist()] if self.selected else [],
        )


def describe(
    candidates: Candidates,
    selection: Selection,
    reserve: Selection,
    *,
    detections: Detections,
) -> Kept:
    """Gather what a report needs of a pool, in one pass over the store.

    Args:
        candidates: The pool and what is labelled.
        selection: The batch.
        reserve: What comes next.
        detections: Of the K + S images.
    """
    ids = np.array([*selection.image_ids, *reserve.image_ids, None], dtype=object)[:-1]
    rows = np.searchsorted(candidates.image_ids, ids)
    kept = Kept(
        class_counts=candidates.labeled.class_counts.tolist(),
        expected=_sparse(expected_class_counts(detections).cpu().numpy()),
        histograms=_histograms(candidates, rows[: len(selection)]),
    )
    return _with_projection(kept, candidates, rows)


def _sparse(counts: NDArray[np.float64]) -> list[list[tuple[int, float]]]:
    return [
        [(int(label), round(float(row[label]), 3)) for label in np.flatnonzero(row >= _LEAST_COUNT)]
        for row in counts
    ]


def _histograms(candidates: Candidates, chosen: NDArray[np.int64]) -> dict[str, Histogram]:
    scores_edges = np.linspace(0, 1, _BINS + 1)
    best = np.zeros(len(candidates))
    in_batch = np.isin(np.arange(len(candidates)), chosen)
    boxes = {True: np.zeros(_BINS, dtype=np.int64), False: np.zeros(_BINS, dtype=np.int64)}
    for index, detections in candidates.chunks():
        counts = detections.counts.cpu().numpy()
        scores = detections.scores.double().cpu().numpy()
        starts = detections.offsets[:-1].cpu().numpy()
        full = counts > 0
        best[index[full]] = scores[starts[full]]  # descending within each image
        of_batch = np.repeat(in_batch[index], counts)
        for which in boxes:
            boxes[which] += np.histogram(scores[of_batch == which], scores_edges)[0]
    return {
        "best_score": _spread(best, scores_edges, chosen),
        "box_score": Histogram(
            edges=scores_edges.round(4).tolist(),
            pool=(boxes[True] + boxes[False]).tolist(),
            batch=boxes[True].tolist(),
        ),
        "expected_boxes": _spread(
            candidates.expected_boxes, _edges_of(candidates.expected_boxes, chosen), chosen
        ),
    }


def _edges_of(values: NDArray[np.float64], chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    """Bins that hold all but the longest of the tail, and all of the batch but its own tail."""
    tops = [np.quantile(part, 0.99) for part in (values, values[chosen]) if len(part)]
    return np.linspace(0, max([1.0, *tops]), _BINS + 1)


def _spread(
    values: NDArray[np.float64], edges: NDArray[np.float64], chosen: NDArray[np.int64]
) -> Histogram:
    inside = np.minimum(values, edges[-1])
    return Histogram(
        edges=edges.round(4).tolist(),
        pool=np.histogram(inside, edges)[0].tolist(),
        batch=np.histogram(inside[chosen], edges)[0].tolist(),
    )


def _with_projection(kept: Kept, candidates: Candidates, rows: NDArray[np.int64]) -> Kept:
    features, labeled = candidates.image_features, candidates.labeled.image_features
    if features is None or not len(rows) or not np.isfinite(features[rows]).all():
        return kept
    plane = principal_plane(features)

    def places(wanted: NDArray[np.float32]) -> Points:
        found = plane.project(wanted)
        rounded: Points = found[np.isfinite(found).all(axis=1)].round(4).tolist()
        return rounded

    known = features[:0] if labeled is None else labeled
    return replace(
        kept,
        explained=(round(plane.explained[0], 4), round(plane.explained[1], 4)),
        pool=places(features[evenly_spaced(len(features), _MOST_POINTS)]),
        labeled=places(known[evenly_spaced(len(known), _MOST_POINTS)]),
        selected=places(features[rows]),
    )


def write_kept(folder: Path, kept: Kept, reserve: Batch) -> None:
    """Write ``report_data/`` into the folder of a run that is being written."""
    target = folder / FOLDER
    target.mkdir()
    write_csv(target / "reserve.csv", reserve)
    write_coco(target / "reserve.json", reserve)
    text = json.dumps({"version": _VERSION, **asdict(kept)}, allow_nan=False, separators=(",", ":"))
    (target / _FILE).write_text(text + "\n", encoding="utf-8")


def keep_curves(folder: Path, curves: FittedCurves | None, *, table: object) -> None:
    """Keep the category curves that the strategy read.

    Args:
        folder: Of the run, with ``report_data/`` in it.
        curves: Those that were measured for it, if there are any.
        table: Else what its option ``table`` says: the folder of a table, or nothing.
    """
    source = Path(table) / _CURVES if isinstance(table, str) else None
    if curves is not None:
        curves.save(folder / FOLDER)
    elif source is not None and source.is_file():
        shutil.copyfile(source, folder / FOLDER / _CURVES)


def read_kept(run: Path) -> Kept | None:
    """What `write_kept` wrote, or None for a run that has none.

    Raises:
        DataError: If the file is damaged or of another version, naming it.
    """
    path = run / FOLDER / _FILE
    if not path.exists():
        return None
    try:
        record: dict[str, Any] = read_json(path)
        if record.pop("version") != _VERSION:
            raise ValueError(f"version {_VERSION} is needed")
        histograms = {name: Histogram(**one) for name, one in record.pop("histograms").items()}
        first, second = record.pop("explained")
        return Kept(histograms=histograms, explained=(first, second), **record)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} must be as detal select writes it: {error!r}") from None
