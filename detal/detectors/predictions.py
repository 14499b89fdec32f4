"""Predictions that the user brings, from a COCO results file, as a detector that looks them up."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from detal.boxes import xywh_to_xyxy
from detal.detectors.detector import Detector, Prepared
from detal.errors import DetectorError
from detal.structures import Detections, ScoreKind

__all__ = ["load_predictions"]

Array = NDArray[Any]
_LARGEST_LOGIT = 16.0
_LARGEST_NUMBER = float(np.finfo(np.float32).max)


def load_predictions(
    file: str | Path,
    *,
    image_id_of: Mapping[str, str],
    class_names: Sequence[str],
    category_ids: Sequence[int],
    score_threshold: float = 0.05,
    max_detections: int = 300,
    floor_score: float = 1e-3,
) -> Detector:
    """Read a COCO results file: a list of ``image_id``, ``category_id``, ``bbox``, ``score``.

    A row may carry ``logits`` (C sigmoid logits in the order of ``class_names``) or ``scores`` (C
    independent probabilities). From a lone score the logits are made: ``log(s / (1 - s))`` in the
    column of its category and that of ``floor_score`` in all others, so entropy is that of the
    named class and a margin is against nothing. Boxes are taken as they are, without suppression.

    Args:
        file: JSON file.
        image_id_of: Image id (as text) of each image path that will be asked for.
        class_names: C names.
        category_ids: Their C category ids.
        score_threshold: Rows are kept if their score is greater.
        max_detections: Rows kept per image, best first.
        floor_score: What a lone score says about the other classes, in (0, 1).

    Raises:
        DetectorError: If the file cannot be read; all bad rows are counted and the first is named.
    """
    path = Path(file)
    content, rows = _read(path)
    columns = {category: i for i, category in enumerate(category_ids)}
    image_ids, boxes, labels, scores, logits = _columns(
        rows, columns, floor_score=floor_score, where=str(path)
    )
    keep = scores > score_threshold
    order = np.lexsort((-scores[keep], image_ids[keep]))
    image_ids = image_ids[keep][order]
    known, start = np.unique(image_ids, return_index=True)
    stop = np.append(start[1:], len(image_ids))
    limits = np.minimum(stop, start + max_detections)
    return _PredictionsDetector(
        class_names=tuple(class_names),
        fingerprint=hashlib.blake2b(content, digest_size=16).hexdigest(),
        settings={
            "detector": "predictions",
            "score_threshold": score_threshold,
            "max_detections": max_detections,
            "floor_score": floor_score,
            "category_ids": list(category_ids),
        },
        ranges={
            str(name): (int(a), int(b)) for name, a, b in zip(known, start, limits, strict=True)
        },
        packed=tuple(
            torch.from_numpy(np.ascontiguousarray(values[keep][order]))
            for values in (boxes, scores, labels, logits)
        ),
        image_id_of=image_id_of,
    )


class _PredictionsDetector:
    """See `detal.detectors.Detector`."""

    score_kind: ScoreKind = "sigmoid"

    def __init__(
        self,
        *,
        class_names: tuple[str, ...],
        fingerprint: str,
        settings: dict[str, Any],
        ranges: dict[str, tuple[int, int]],
        packed: tuple[torch.Tensor, ...],
        image_id_of: Mapping[str, str],
    ) -> None:
        self.class_names = class_names
        self.fingerprint = fingerprint
        self.settings = settings
        self.device = torch.device("cpu")
        self._ranges = ranges
        self._packed = packed
        self._image_id_of = image_id_of

    def prepare(self, pixels: NDArray[np.uint8], path: str) -> Prepared:
        """Keep the size of an image; its pixels are not needed."""
        size_hw = (pixels.shape[0], pixels.shape[1])
        return Prepared(path=path, tensor=np.zeros((3, 0, 0), dtype=np.uint8), size_hw=size_hw)

    def predict(self, batch: Sequence[Prepared]) -> Detections:
        """The rows of each image; an image without any in the file has no detections.

        Raises:
            DetectorError: If an image has no id.
        """
        missing = [item.path for item in batch if item.path not in self._image_id_of]
        if missing:
            raise DetectorError(
                f"predictions are found by image id, none is known for {missing[0]} "
                f"({len(missing)} images of this batch)"
            )
        ranges = [self._ranges.get(str(self._image_id_of[i.path]), (0, 0)) for i in batch]
        rows = torch.from_numpy(
            np.concatenate([np.zeros(0, dtype=np.int64), *(np.arange(a, b) for a, b in ranges)])
        )
        offsets = torch.tensor([0, *np.cumsum([b - a for a, b in ranges])], dtype=torch.int64)
        boxes, scores, labels, logits = (values[rows] for values in self._packed)
        sizes = torch.tensor(
            [[item.size_hw[1], item.size_hw[0]] * 2 for item in batch], dtype=torch.float32
        ).reshape(-1, 4)
        image = torch.arange(len(batch)).repeat_interleave(offsets.diff())
        return Detections(
            offsets=offsets,
            boxes=torch.minimum(boxes.clamp_min(0), sizes[image]),
            scores=scores,
            labels=labels,
            logits=logits,
            score_kind=self.score_kind,
        )


def _read(path: Path) -> tuple[bytes, list[Any]]:
    try:
        content = path.read_bytes()
        rows = json.loads(content)
    except OSError as error:
        raise DetectorError(f"predictions file {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DetectorError(f"predictions file {path} is not valid JSON: {error}") from error
    if isinstance(rows, dict):
        rows = rows.get("annotations")
    if not isinstance(rows, list):
        raise DetectorError(
            f"predictions file {path} must hold a list of COCO results (image_id, category_id, "
            "bbox, score)"
        )
    return content, rows


def _columns(
    rows: list[Any], columns: Mapping[int, int], *, floor_score: float, where: str
) -> tuple[Array, Array, Array, Array, Array]:
    """Image ids, boxes, labels, scores and logits of all rows."""
    problems = [
        (i, problem)
        for i, row in enumerate(rows)
        if (problem := _problem(row, columns)) is not None
    ]
    if problems:
        row, text = problems[0]
        raise DetectorError(
            f"predictions file {where}: {text} in row {row} ({len(problems)} of {len(rows)} rows "
            "are wrong)"
        )
    image_ids = np.array([str(row["image_id"]) for row in rows], dtype=object)
    boxes = xywh_to_xyxy(np.array([row["bbox"] for row in rows], dtype=np.float64))
    labels = np.array([columns[row["category_id"]] for row in rows], dtype=np.int64)
    scores = np.array([row["score"] for row in rows], dtype=np.float64)
    logits = np.full((len(rows), len(columns)), _logit(np.array(floor_score)), dtype=np.float32)
    logits[np.arange(len(rows)), labels] = _logit(scores)
    for i, row in enumerate(rows):
        if "logits" in row:
            logits[i] = row["logits"]
        elif "scores" in row:
            logits[i] = _logit(np.array(row["scores"], dtype=np.float64))
    return image_ids, boxes.astype(np.float32), labels, scores.astype(np.float32), logits


def _problem(row: Any, columns: Mapping[int, int]) -> str | None:
    """What is wrong with one row, or None."""
    keys = ("image_id", "category_id", "bbox", "score")
    if not isinstance(row, dict) or any(key not in row for key in keys):
        return "each row needs image_id, category_id, bbox and score"
    if not isinstance(row["category_id"], int) or row["category_id"] not in columns:
        return f"category_id {row['category_id']!r} is none of {sorted(columns)[:10]}"
    if not _finite(row["bbox"], 4) or min(row["bbox"][2:]) < 0:
        return f"bbox must be left, top, width, height, all finite, got {row['bbox']}"
    if not _finite([row["score"]], 1) or not 0 <= row["score"] <= 1:
        return f"score must be in [0, 1], got {row['score']}"
    for key in ("scores", "logits"):
        if key in row and not _finite(row[key], len(columns)):
            return f"{key} must be {len(columns)} finite numbers, one per class"
    if "scores" in row and not 0 <= min(row["scores"]) <= max(row["scores"]) <= 1:
        return "scores must be in [0, 1]"
    return None


def _finite(values: Any, count: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == count
        and all(isinstance(v, (int, float)) and abs(v) <= _LARGEST_NUMBER for v in values)
    )


def _logit(probability: Array) -> Array:
    """log(p / (1 - p)), within what float32 tells apart from 0 and 1."""
    with np.errstate(divide="ignore"):
        logits = np.log(probability) - np.log1p(-probability)
    return np.asarray(np.clip(logits, -_LARGEST_LOGIT, _LARGEST_LOGIT))
