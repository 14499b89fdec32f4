"""Read the folder of a run back: the batch with its boxes, and what was kept beside it."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from detal.errors import DataError
from detal.manifests import Batch, read_csv
from detal.runs.kept import FOLDER, Kept, read_kept
from detal.structures import Budget, Detections, Selection

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
    if not (folder / "selection.csv").is_file():
        raise DataError(f"a run must be a folder written by detal select, got {folder}")
    run = _read_json(folder / "run.json")
    kept = read_kept(folder)
    try:
        budget = Budget(**run["config"]["budget"])
        passed_over = {str(k): int(v) for k, v in run["passed_over"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{folder / 'run.json'} must be written by detal select: {error!r}"
        ) from None
    batch = _read_batch(folder / "selection.csv", folder / "coco.json", budget)
    batch = replace(batch, selection=replace(batch.selection, passed_over=passed_over))
    if kept is None:
        reserve = take_batch(batch, np.zeros(0, dtype=np.int64))
    else:
        reserve = _read_batch(
            folder / FOLDER / "reserve.csv", folder / FOLDER / "reserve.json", budget
        )
        found, wanted = len(kept.expected), len(batch) + len(reserve)
        if found != wanted:
            raise DataError(
                f"{folder / FOLDER} must describe {wanted} images, it describes {found}"
            )
    return RunFolder(path=folder, run=run, batch=batch, reserve=reserve, kept=kept)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"{path} must be JSON: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} must hold an object, got {type(content).__name__}")
    return content


def _read_batch(table: Path, coco: Path, budget: Budget) -> Batch:
    """A batch from what `write_csv` and `write_coco` wrote.

    Class scores are not kept there, so the logits of the detections are zero.
    """
    images = read_csv(table)
    content = _read_json(coco)
    try:
        rows = {str(image["detal_image_id"]): image for image in content["images"]}
        described = [rows[image.image_id] for image in images]
        numbers = _read_numbers(table)
        scores = [image["detal_score"] for image in described]
        selection = Selection(
            image_ids=tuple(image.image_id for image in images),
            scores=np.array([np.nan if s is None else s for s in scores], dtype=np.float64),
            costs=numbers[:, 1],
            reasons=tuple(str(image["detal_reason"]) for image in described),
            budget=budget,
            passed_over={},
        )
        categories = content["categories"]
        ids = [int(category["id"]) for category in categories]
        return Batch(
            selection=selection,
            images=images,
            detections=_detections([image["id"] for image in described], content, ids),
            expected_boxes=numbers[:, 0],
            class_names=tuple(str(category["name"]) for category in categories),
            category_ids=tuple(ids),
            integer_ids=all(
                str(image["id"]) == i.image_id for image, i in zip(described, images, strict=True)
            ),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(
            f"{coco} must hold the images of {table} as detal writes them: {error!r}"
        ) from None


def _read_numbers(table: Path) -> NDArray[np.float64]:
    """(K, 2) expected boxes and cost by rank."""
    with table.open(encoding="utf-8-sig", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["rank"]))
    return np.array(
        [[float(row["expected_boxes"]), float(row["cost"])] for row in rows], dtype=np.float64
    ).reshape(len(rows), 2)


def _detections(
    image_ids: Sequence[Any], content: Mapping[str, Any], category_ids: Sequence[int]
) -> Detections:
    row_of = {image_id: row for row, image_id in enumerate(image_ids)}
    label_of = {category_id: label for label, category_id in enumerate(category_ids)}
    found = [a for a in content["annotations"] if a["image_id"] in row_of]
    rows = np.array([row_of[a["image_id"]] for a in found], dtype=np.int64)
    labels = np.array([label_of[a["category_id"]] for a in found], dtype=np.int64)
    scores = np.array([a.get("score", 1.0) for a in found], dtype=np.float32)
    boxes = np.array([a["bbox"] for a in found], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    order = np.lexsort((-scores, rows))
    counts = np.bincount(rows, minlength=len(image_ids))
    return Detections(
        offsets=torch.from_numpy(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)),
        boxes=torch.from_numpy(boxes[order].astype(np.float32)),
        scores=torch.from_numpy(scores[order]),
        labels=torch.from_numpy(labels[order]),
        logits=torch.zeros(len(found), len(category_ids)),
        score_kind="sigmoid",
    )


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
