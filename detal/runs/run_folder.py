"""Read the folder of a run back: the batch with its boxes, and what was kept beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detal.errors import DataError
from detal.manifests import Batch, batch_from_files, read_batch, read_record
from detal.runs.kept import FOLDER, Kept, read_kept
from detal.structures import Budget, Detections

__all__ = ["RunFolder", "join_batches", "read_run", "take_batch"]


@dataclass(frozen=True, eq=False)
class RunFolder:
    """A run of `detal select`.

    Attributes:
        path: Its folder.
        run: Contents of ``run.json``.
        batch: The K images chosen, with the boxes that were offered.
        reserve: The S images that come next; none in a run that keeps none.
        kept: What else was kept; None in a run of an older version.
    """

    path: Path
    run: Mapping[str, Any]
    batch: Batch
    reserve: Batch
    kept: Kept | None


def read_run(folder: Path) -> RunFolder:
    """Read the folder of a run.

    Raises:
        DataError: If it is none, or a file in it is damaged, naming the file.
    """
    folder = folder.absolute()
    run = read_record(folder)
    kept = read_kept(folder)
    try:
        budget = Budget(**run["config"]["budget"])
        passed_over = {str(k): int(v) for k, v in run["passed_over"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{folder / 'run.json'} must be written by detal select: {error!r}"
        ) from None
    batch = _within(read_batch(folder), budget, passed_over)
    if kept is None:
        reserve = take_batch(batch, np.zeros(0, dtype=np.int64))
    else:
        files = (folder / FOLDER / name for name in ("reserve.csv", "reserve.json"))
        reserve = _within(batch_from_files(*files), budget, {})
        found, wanted = len(kept.expected), len(batch) + len(reserve)
        if found != wanted:
            raise DataError(
                f"{folder / FOLDER} must describe {wanted} images, it describes {found}"
            )
    return RunFolder(path=folder, run=run, batch=batch, reserve=reserve, kept=kept)


def _within(batch: Batch, budget: Budget, passed_over: dict[str, int]) -> Batch:
    selection = replace(batch.selection, budget=budget, passed_over=passed_over)
    return replace(batch, selection=selection)


def take_batch(batch: Batch, rows: NDArray[np.int64]) -> Batch:
    """The images ``rows`` (K,), in that order."""
    selection = batch.selection
    return replace(
        batch,
        selection=replace(
            selection,
            image_ids=tuple(selection.image_ids[row] for row in rows.tolist()),
            scores=selection.scores[rows],
            costs=selection.costs[rows],
            reasons=tuple(selection.reasons[row] for row in rows.tolist()),
        ),
        images=tuple(batch.images[row] for row in rows.tolist()),
        detections=batch.detections.take(rows.tolist()),
        expected_boxes=batch.expected_boxes[rows],
    )


def join_batches(first: Batch, second: Batch) -> Batch:
    """The images of both, in order, under the first one's budget and classes."""
    one, two = first.selection, second.selection
    return replace(
        first,
        selection=replace(
            one,
            image_ids=(*one.image_ids, *two.image_ids),
            scores=np.concatenate([one.scores, two.scores]),
            costs=np.concatenate([one.costs, two.costs]),
            reasons=(*one.reasons, *two.reasons),
        ),
        images=(*first.images, *second.images),
        detections=Detections.concat([first.detections, second.detections]),
        expected_boxes=np.concatenate([first.expected_boxes, second.expected_boxes]),
    )
