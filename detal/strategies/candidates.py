"""The images a strategy may pick from, and what is labelled already.

Shapes: P candidates, L labelled images, C classes, D features, K images picked.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from detal.errors import ConfigError, DataError
from detal.features import expected_boxes
from detal.reward import MeasuredTables
from detal.structures import Annotations, Detections

__all__ = ["Candidates", "Chunk", "Labeled", "Pass"]

Chunk = tuple[NDArray[np.int64], Detections]
Pass = Callable[[NDArray[np.int64]], Detections]
"""Reads what one more forward pass says about the candidates ``index`` (b,), boxes in pixels of the
original image."""
_ROWS = 65_536


@dataclass(frozen=True, eq=False)
class Labeled:
    """What is labelled already.

    Attributes:
        class_counts: (C,) labelled objects of each class, in the detector's label order.
        image_features: (L, D) float32, or None if the detector gives none or nothing is labelled.
        detections: Reads what the detector says about the L images, or None if nothing is labelled.
        annotations: Their ground truth in the detector's label order, in the same order of images;
            objects of classes that the detector does not know are left out.
    """

    class_counts: NDArray[np.int64]
    image_features: NDArray[np.float32] | None = None
    detections: Callable[[], Detections] | None = None
    annotations: Annotations | None = None

    @property
    def num_images(self) -> int:
        """L."""
        return max(
            len(known) for known in (self.image_features, self.annotations, ()) if known is not None
        )


@dataclass(frozen=True, eq=False)
class Candidates:
    """The unlabelled images of a pool, in an order that does not depend on how the pool was read.

    Attributes:
        image_ids: (P,) str objects, ascending and distinct.
        chunks: Starts a pass over the pool: yields (index (b,), detections of those b images); over
            one pass each of 0..P-1 occurs exactly once. Called once per pass.
        class_names: C names, in label order.
        expected_boxes: (P,) expected objects per image, finite and >= 0.
        labeled: What is labelled already.
        image_features: (P, D) float32, or None if the detector gives none.
        groups: (P,) str objects or None per image (sequence, video, camera), or None.
        passes: The further forward passes that the strategy asked for (`Needs`), by name.
        metadata: P rows: what the user says about each image, and what was measured on it
            (`detal.features.quality`), or None.
        reference: Labelled images that nothing is trained on, so that the detector is as right
            there as on the pool; None if there are none. Nothing that is reported is measured on
            them.
        tables: The measured tables that the strategy asked for (`Needs`).
        own: Reads what the detector says about some of the images; by default from a pass over
            ``chunks``.
    """

    image_ids: NDArray[Any]
    chunks: Callable[[], Iterator[Chunk]]
    class_names: tuple[str, ...]
    expected_boxes: NDArray[np.float64]
    labeled: Labeled
    image_features: NDArray[np.float32] | None = None
    groups: NDArray[Any] | None = None
    passes: Mapping[str, Pass] = field(default_factory=dict)
    metadata: pl.DataFrame | None = None
    reference: Labeled | None = None
    tables: MeasuredTables = field(default_factory=MeasuredTables)
    own: Pass | None = None

    def __post_init__(self) -> None:
        ids = self.image_ids
        if not all(a < b for a, b in itertools.pairwise(ids)):
            raise DataError("candidates must be distinct and in ascending order of their image id")
        for name in ("expected_boxes", "image_features", "groups", "metadata"):
            value = getattr(self, name)
            if value is not None and len(value) != len(ids):
                raise DataError(f"{name} must have {len(ids)} rows, got {len(value)}")
        if len(self.labeled.class_counts) != len(self.class_names):
            raise DataError(
                f"class_counts must have one entry for each of the {len(self.class_names)} "
                f"classes, got {len(self.labeled.class_counts)}"
            )
        features, known = self.image_features, self.labeled.image_features
        if features is not None and known is not None and features.shape[1] != known.shape[1]:
            raise DataError(
                f"image features of candidates and labelled images must be of one length, got "
                f"{features.shape[1]} and {known.shape[1]}"
            )
        boxes = self.expected_boxes
        self.refuse(~(np.isfinite(boxes) & (boxes >= 0)), "expected_boxes must be finite and >= 0")

    def __len__(self) -> int:
        return len(self.image_ids)

    @staticmethod
    def from_detections(
        image_ids: Sequence[str],
        detections: Detections,
        *,
        class_names: tuple[str, ...],
        labeled: Labeled | None = None,
        groups: Sequence[str | None] | None = None,
    ) -> Candidates:
        """Candidates from detections in memory; ``image_ids`` (P,) may come in any order."""
        ids = np.array([*image_ids, None], dtype=object)[:-1]
        order = np.array(sorted(range(len(ids)), key=ids.__getitem__), dtype=np.int64)
        detections = detections.take(torch.from_numpy(order))
        features = detections.image_features
        nothing = Labeled(class_counts=np.zeros(len(class_names), dtype=np.int64))
        return Candidates(
            image_ids=ids[order],
            chunks=lambda: iter([(np.arange(len(order)), detections)]),
            class_names=class_names,
            expected_boxes=expected_boxes(detections).cpu().numpy(),
            labeled=labeled or nothing,
            image_features=None if features is None else features.float().cpu().numpy(),
            groups=None if groups is None else np.array([*groups, None], dtype=object)[order],
        )

    def subset(self, index: Sequence[int] | NDArray[np.int64]) -> Candidates:
        """The images ``index`` (m,), ascending and distinct, beside the same labelled ones."""
        rows = np.asarray(index, dtype=np.int64)
        if len(rows) == len(self):
            return self
        place = np.full(len(self), -1, dtype=np.int64)
        place[rows] = np.arange(len(rows))

        def chunks() -> Iterator[Chunk]:
            for seen, detections in self.chunks():
                kept = np.flatnonzero(place[seen] >= 0)
                if len(kept):
                    yield place[seen[kept]], detections.take(torch.from_numpy(kept))

        def narrowed(read: Pass) -> Pass:
            return lambda wanted: read(rows[wanted])

        return Candidates(
            image_ids=self.image_ids[rows],
            chunks=chunks,
            class_names=self.class_names,
            expected_boxes=self.expected_boxes[rows],
            labeled=self.labeled,
            image_features=None if self.image_features is None else self.image_features[rows],
            groups=None if self.groups is None else self.groups[rows],
            passes={name: narrowed(read) for name, read in self.passes.items()},
            metadata=None if self.metadata is None else self.metadata[rows],
            reference=self.reference,
            tables=self.tables,
            own=None if self.own is None else narrowed(self.own),
        )

    def map(self, measure: Callable[[Detections], Tensor]) -> NDArray[np.float64]:
        """(P,) float64 ``measure`` of every image, chunk by chunk.

        Args:
            measure: From the detections of b images to (b,) numbers. Infinity is accepted for
                images without detections only: it marks ``empty: first`` and ``empty: last``.

        Raises:
            DataError: If a value is not a number, naming the image, or if the chunks do not cover
                each candidate once.
        """
        values = np.empty(len(self), dtype=np.float64)
        visits = np.zeros(len(self), dtype=np.int64)
        bad = np.zeros(len(self), dtype=bool)
        for index, detections in self.chunks():
            measured = measure(detections).double().cpu().numpy()
            values[index] = measured
            bad[index] = np.isnan(measured) | (
                np.isinf(measured) & (detections.counts.cpu().numpy() > 0)
            )
            np.add.at(visits, index, 1)
        self.refuse(visits != 1, "each candidate must occur once in the chunks")
        self.refuse(bad, "an acquisition score must be a number; NaN or infinity was found")
        return values

    def take(self, index: Sequence[int] | NDArray[np.int64]) -> Detections:
        """Detections of the images ``index`` (K,), distinct, in that order; reads at most one pass.

        Raises:
            DataError: If the chunks lack one of the images.
        """
        wanted = np.asarray(index, dtype=np.int64)
        if len(wanted) == 0:
            return Detections.empty(0, num_classes=len(self.class_names))
        if self.own is not None:
            return self.own(wanted)
        place = np.full(len(self), -1, dtype=np.int64)
        place[wanted] = np.arange(len(wanted))
        parts, places, missing = [], [], len(wanted)
        for rows, detections in self.chunks():
            found = np.flatnonzero(place[rows] >= 0)
            if len(found):
                parts.append(detections.take(torch.from_numpy(found)))
                places.append(place[rows[found]])
                missing -= len(found)
            if missing == 0:
                break
        if missing:
            raise DataError(f"the chunks must hold the {len(wanted)} images asked for")
        return Detections.concat(parts).take(torch.from_numpy(np.concatenate(places).argsort()))

    def require_features(self, purpose: str) -> NDArray[np.float32]:
        """(P, D) finite image features.

        Args:
            purpose: What needs them, for the message.

        Raises:
            ConfigError: If the detector gives no image features.
            DataError: If one is not finite, naming the image.
        """
        features = self.image_features
        if features is None:
            raise ConfigError(
                f"{purpose} needs image features, and this detector gives none: use a detector "
                "with weights, or a strategy that looks at boxes only (random, entropy, margin, "
                "least_confidence, box_count)"
            )
        starts = range(0, len(features), _ROWS)
        finite = [np.isfinite(features[start : start + _ROWS]).all(axis=1) for start in starts]
        self.refuse(~np.concatenate([*finite, np.ones(0, bool)]), "image features must be finite")
        labeled = self.labeled.image_features
        if labeled is not None and not np.isfinite(labeled).all():
            raise DataError("image features of the labelled images must be finite")
        return features

    def refuse(self, bad: NDArray[np.bool_], rule: str) -> None:
        """Raise a DataError that states ``rule`` and names an image if one is ``bad`` (P,)."""
        if bad.any():
            first = self.image_ids[int(bad.argmax())]
            raise DataError(f"{rule} (image {first!r}; {int(bad.sum())} of {len(self)} images)")
