"""The values that pass between the parts: detections, annotations, budgets, selections.

Notation used for shapes:
    B  images in a batch or chunk      P  images of the pool
    N  detections, packed              M  ground-truth boxes, packed
    C  classes, without background     D  features
    K  images selected

Packed (ragged) arrays: the rows of image ``b`` are ``offsets[b]:offsets[b + 1]``.
Boxes are xyxy in absolute pixels of the decoded image (EXIF rotation applied), float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detal.errors import BudgetError, DataError
from detal.notebook import notebook_table

__all__ = ["Annotations", "Budget", "BudgetUnit", "Detections", "ScoreKind", "Selection"]

ScoreKind = Literal["sigmoid", "softmax"]
BudgetUnit = Literal["images", "boxes", "seconds"]


@dataclass(frozen=True, eq=False)
class Detections:
    """What a detector says about B images, packed; everything after it reads only this.

    Attributes:
        offsets: (B + 1,) int64, from 0 to N, not decreasing.
        boxes: (N, 4) float32 xyxy in pixels of the decoded image.
        scores: (N,) float32 in [0, 1], descending within each image.
        labels: (N,) int64 in 0..C-1.
        logits: (N, C) for sigmoid scores; (N, C + 1) for softmax scores, background last.
        score_kind: ``"sigmoid"`` (independent classes) or ``"softmax"`` (with background).
        box_spread: (N, 4) standard deviation in pixels of left, top, right and bottom as the
            detector itself states it (distribution-focal bins), or None if it states none.
        cluster_spread: (N, 4) score-weighted standard deviation in pixels of the sides of the boxes
            that non-maximum suppression merged into each kept one (zero for a lone box), or None.
        object_features: (N, D) input of the last classification layer at each kept box, or None.
        image_features: (B, D) one vector per image, or None.
        mutual_information: (N,) nats that each box's classes share with the weights of the last
            classification layer under dropout, or None if the detector was not asked for it.
        tightness: (N,) IoU of each box with the proposal it was refined from, in [0, 1], or None
            for a detector without proposals.
    """

    offsets: Tensor
    boxes: Tensor
    scores: Tensor
    labels: Tensor
    logits: Tensor
    score_kind: ScoreKind
    box_spread: Tensor | None = None
    cluster_spread: Tensor | None = None
    object_features: Tensor | None = None
    image_features: Tensor | None = None
    mutual_information: Tensor | None = None
    tightness: Tensor | None = None

    def __post_init__(self) -> None:
        n = int(self.offsets[-1]) if len(self.offsets) else -1
        if n < 0 or int(self.offsets[0]) != 0 or bool((self.offsets.diff() < 0).any()):
            raise DataError("offsets must start at 0, not decrease and have B + 1 entries")
        for name in _BOX_FIELDS:
            value = getattr(self, name)
            if value is not None and len(value) != n:
                raise DataError(f"{name} must have {n} rows (offsets[-1]), got {len(value)}")
        for name in ("boxes", "box_spread", "cluster_spread"):
            value = getattr(self, name)
            if value is not None and value.shape[1:] != (4,):
                raise DataError(f"{name} must be (N, 4), got {tuple(value.shape)}")
        if self.image_features is not None and len(self.image_features) != self.num_images:
            raise DataError(
                f"image_features must have {self.num_images} rows, got {len(self.image_features)}"
            )

    def __len__(self) -> int:
        return self.num_images

    @property
    def num_images(self) -> int:
        """B."""
        return len(self.offsets) - 1

    @property
    def num_boxes(self) -> int:
        """N."""
        return len(self.boxes)

    @property
    def num_classes(self) -> int:
        """C, without background."""
        return int(self.logits.shape[1]) - (self.score_kind == "softmax")

    @property
    def counts(self) -> Tensor:
        """(B,) detections of each image."""
        return self.offsets.diff()

    @property
    def image_index(self) -> Tensor:
        """(N,) the image (0..B-1) of each detection."""
        index = torch.arange(self.num_images, device=self.offsets.device)
        return index.repeat_interleave(self.counts)

    def probs(self, rows: Tensor | None = None) -> Tensor:
        """(N, C) class probabilities: independent for sigmoid; for softmax without background.

        With ``rows`` (k,) those of the detections ``rows`` only, (k, C).
        """
        logits = (self.logits if rows is None else self.logits[rows]).float()
        if self.score_kind == "sigmoid":
            return logits.sigmoid()
        return logits.softmax(dim=1)[:, :-1]

    def take(self, index: Tensor | Sequence[int]) -> Detections:
        """The detections of the images ``index`` (K,), in that order; repeats are allowed."""
        index = torch.as_tensor(index, dtype=torch.int64, device=self.offsets.device)
        counts = self.counts[index]
        offsets = torch.zeros(len(index) + 1, dtype=torch.int64, device=self.offsets.device)
        offsets[1:] = counts.cumsum(0)
        shift = (self.offsets[:-1][index] - offsets[:-1]).repeat_interleave(counts)
        rows = torch.arange(int(offsets[-1]), device=shift.device) + shift
        boxwise: dict[str, Any] = {
            name: None if getattr(self, name) is None else getattr(self, name)[rows]
            for name in _BOX_FIELDS
        }
        features = None if self.image_features is None else self.image_features[index]
        return Detections(
            offsets=offsets, score_kind=self.score_kind, image_features=features, **boxwise
        )

    @staticmethod
    def empty(
        num_images: int,
        *,
        num_classes: int,
        score_kind: ScoreKind = "sigmoid",
        image_features: Tensor | None = None,
    ) -> Detections:
        """Images without a single detection."""
        return Detections(
            offsets=torch.zeros(num_images + 1, dtype=torch.int64),
            boxes=torch.zeros(0, 4),
            scores=torch.zeros(0),
            labels=torch.zeros(0, dtype=torch.int64),
            logits=torch.zeros(0, num_classes + (score_kind == "softmax")),
            score_kind=score_kind,
            image_features=image_features,
        )

    @staticmethod
    def concat(parts: Sequence[Detections]) -> Detections:
        """The images of all parts, in order; a field absent from one part is absent in the result.

        Raises:
            DataError: If ``parts`` is empty or mixes score kinds.
        """
        if not parts or len({part.score_kind for part in parts}) != 1:
            raise DataError("concat needs at least one part, all of one score_kind")
        counts = torch.cat([part.counts for part in parts])
        values: dict[str, Any] = {}
        for name in (*_BOX_FIELDS, "image_features"):
            column = [getattr(part, name) for part in parts]
            values[name] = None if any(v is None for v in column) else torch.cat(column)
        offsets = torch.zeros(len(counts) + 1, dtype=torch.int64, device=counts.device)
        offsets[1:] = counts.cumsum(0)
        return Detections(offsets=offsets, score_kind=parts[0].score_kind, **values)


_BOX_FIELDS = tuple(
    f.name for f in fields(Detections) if f.name not in {"offsets", "score_kind", "image_features"}
)


@dataclass(frozen=True, eq=False)
class Annotations:
    """Ground truth of P images, packed; rows follow the dataset's image order.

    Attributes:
        offsets: (P + 1,) int64.
        boxes: (M, 4) float32 xyxy in pixels.
        labels: (M,) int64 in 0..C-1 (index into the dataset's ``class_names``).
        is_crowd: (M,) bool, COCO's ``iscrowd`` (VOC's ``difficult`` is read as such).
        areas: (M,) float64 in square pixels, as the file states it or else width times height.
        ids: (M,) int64 annotation ids, as the file states them or else 1..M.
    """

    offsets: NDArray[np.int64]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    is_crowd: NDArray[np.bool_]
    areas: NDArray[np.float64]
    ids: NDArray[np.int64]

    def __post_init__(self) -> None:
        m = len(self.boxes)
        if len(self.offsets) == 0 or self.offsets[0] != 0 or self.offsets[-1] != m:
            raise DataError(f"offsets must run from 0 to {m} (rows of boxes)")
        for name in ("labels", "is_crowd", "areas", "ids"):
            if len(getattr(self, name)) != m:
                raise DataError(f"{name} must have {m} rows, got {len(getattr(self, name))}")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def image_index(self) -> NDArray[np.int64]:
        """(M,) the image (0..P-1) of each box."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def class_counts(self, num_classes: int) -> NDArray[np.int64]:
        """(C,) objects of each class, crowds left out."""
        return np.bincount(self.labels[~self.is_crowd], minlength=num_classes)[:num_classes]

    def relabel(self, labels: NDArray[np.int64]) -> Annotations:
        """The same boxes under other labels: ``labels`` (C,) by old label, -1 leaves boxes out."""
        new = np.append(labels, -1)[self.labels]
        keep = new >= 0
        kept = np.concatenate([[0], np.cumsum(keep)]).astype(np.int64)
        return Annotations(
            offsets=kept[self.offsets],
            boxes=self.boxes[keep],
            labels=new[keep],
            is_crowd=self.is_crowd[keep],
            areas=self.areas[keep],
            ids=self.ids[keep],
        )

    def take(self, index: Sequence[int] | NDArray[Any]) -> Annotations:
        """The annotations of the images ``index`` (K,), in that order."""
        index = np.asarray(index, dtype=np.int64)
        counts = np.diff(self.offsets)[index]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][index] - offsets[:-1], counts)
        return Annotations(
            offsets=offsets,
            boxes=self.boxes[rows],
            labels=self.labels[rows],
            is_crowd=self.is_crowd[rows],
            areas=self.areas[rows],
            ids=self.ids[rows],
        )

    @staticmethod
    def concat(parts: Sequence[Annotations]) -> Annotations:
        """The images of all parts, in order; ids are numbered anew, 1..M."""
        boxes = np.concatenate([np.zeros((0, 4), np.float32), *(part.boxes for part in parts)])
        counts = [np.diff(part.offsets) for part in parts]
        return Annotations(
            offsets=np.cumsum(np.concatenate([np.zeros(1, np.int64), *counts])),
            boxes=boxes,
            labels=np.concatenate([np.zeros(0, np.int64), *(part.labels for part in parts)]),
            is_crowd=np.concatenate([np.zeros(0, np.bool_), *(part.is_crowd for part in parts)]),
            areas=np.concatenate([np.zeros(0), *(part.areas for part in parts)]),
            ids=np.arange(1, len(boxes) + 1),
        )

    @staticmethod
    def from_lists(
        boxes: Sequence[NDArray[Any]],
        labels: Sequence[NDArray[Any]],
        *,
        is_crowd: Sequence[NDArray[Any]] | None = None,
        areas: Sequence[NDArray[Any]] | None = None,
        ids: Sequence[NDArray[Any]] | None = None,
    ) -> Annotations:
        """Pack one (m, 4) xyxy array and one (m,) label array per image."""
        counts = np.array([len(b) for b in boxes], dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        packed = _pack(boxes, (0, 4), np.float32)
        sizes = packed[:, 2:].astype(np.float64) - packed[:, :2]
        m = len(packed)
        return Annotations(
            offsets=offsets,
            boxes=packed,
            labels=_pack(labels, (0,), np.int64),
            is_crowd=np.zeros(m, bool) if is_crowd is None else _pack(is_crowd, (0,), np.bool_),
            areas=sizes.prod(axis=1) if areas is None else _pack(areas, (0,), np.float64),
            ids=np.arange(1, m + 1) if ids is None else _pack(ids, (0,), np.int64),
        )


def _pack(parts: Sequence[NDArray[Any]], shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    arrays = [np.asarray(part, dtype=dtype).reshape(-1, *shape[1:]) for part in parts]
    return np.concatenate([np.zeros(shape, dtype=dtype), *arrays])


@dataclass(frozen=True)
class Budget:
    """How much may be labelled.

    An image costs 1 in ``images``; its expected boxes, but at least 1, in ``boxes`` (opening an
    image is never free); ``seconds_per_image + seconds_per_box * expected boxes`` in ``seconds``.

    Attributes:
        amount: The limit, > 0, in ``unit``. It is never exceeded by the expected cost.
        unit: ``images``, ``boxes`` or ``seconds``.
        seconds_per_image: Time to open and check one image, used by ``seconds``.
        seconds_per_box: Time to draw one box, used by ``seconds``.
    """

    amount: float
    unit: BudgetUnit = "images"
    seconds_per_image: float = 5.0
    seconds_per_box: float = 7.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.amount) and self.amount > 0):
            raise BudgetError(f"budget must be a number > 0, got {self.amount}")

    def costs(self, expected_boxes: NDArray[Any]) -> NDArray[np.float64]:
        """(P,) cost of each image in the budget's unit, given its expected boxes (P,)."""
        boxes = np.asarray(expected_boxes, dtype=np.float64)
        if self.unit == "images":
            return np.ones_like(boxes)
        if self.unit == "boxes":
            return np.maximum(boxes, 1.0)
        return self.seconds_per_image + self.seconds_per_box * boxes


@dataclass(frozen=True, eq=False)
class Selection:
    """A batch: which images to label, in the order they were picked.

    Attributes:
        image_ids: K ids, best first, distinct.
        scores: (K,) acquisition scores, higher = more informative; NaN if the strategy has none.
        costs: (K,) expected cost in the budget's unit.
        reasons: K short sentences that say why.
        budget: The budget it was made for.
        passed_over: How many better-placed images each guard rejected, by guard name
            (``near_duplicate``, ``group``, ``cost``).
        remarks: What the batch does not fulfil, such as a quota; one sentence each.
    """

    image_ids: tuple[str, ...]
    scores: NDArray[np.float64]
    costs: NDArray[np.float64]
    reasons: tuple[str, ...]
    budget: Budget
    passed_over: dict[str, int]
    remarks: tuple[str, ...] = ()

    @property
    def spent(self) -> float:
        """Expected cost of the batch in the budget's unit."""
        return float(self.costs.sum())

    def __len__(self) -> int:
        return len(self.image_ids)

    def _repr_html_(self) -> str:
        """The first images, for notebooks."""
        numbers = self.scores.tolist(), self.costs.tolist()
        rows = zip(self.image_ids, *numbers, self.reasons, strict=True)
        return notebook_table(
            "Selection",
            {
                "images": len(self),
                "spent": f"{self.spent:,.1f} of {self.budget.amount:,g} {self.budget.unit}",
            },
            columns=("image", "score", "cost", "why"),
            rows=rows,
            total=len(self),
        )
