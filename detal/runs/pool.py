"""A scored dataset, and which of its images may be picked."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from detal.datasets import Dataset
from detal.features.quality import QUALITY_COLUMNS
from detal.store import StoredImages
from detal.strategies import Candidates, Labeled
from detal.structures import Annotations, Detections

__all__ = ["CandidatePool", "ScoredDataset", "candidate_pool", "held_out", "in_detector_order"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ScoredDataset:
    """A dataset with what the detector says about each of its images.

    Attributes:
        dataset: P images.
        stored: The same P images in the store.
        passes: The same P images in the stores of further passes, by name.
    """

    dataset: Dataset
    stored: StoredImages
    passes: Mapping[str, StoredImages] = field(default_factory=dict)

    @property
    def readable(self) -> NDArray[np.bool_]:
        """(P,) True where the image could be decoded."""
        return self.stored.images["error"].is_null().to_numpy()

    def take(self, rows: NDArray[np.int64]) -> ScoredDataset:
        """The images ``rows`` (K,), in that order."""
        return ScoredDataset(
            dataset=self.dataset.take(rows),
            stored=self.stored.take(rows),
            passes={name: stored.take(rows) for name, stored in self.passes.items()},
        )


@dataclass(frozen=True, eq=False)
class CandidatePool:
    """What may be picked, by ascending image id, and why the rest may not.

    Attributes:
        scored: The candidates' rows of the pool.
        candidates: The same images as strategies see them.
        excluded: Images left out, by reason.
    """

    scored: ScoredDataset
    candidates: Candidates
    excluded: dict[str, int]

    def detections(self, image_ids: Sequence[str]) -> tuple[ScoredDataset, Detections]:
        """The images ``image_ids`` (K,) and their detections, in that order."""
        rows = self.scored.dataset.index_of(image_ids)
        return self.scored.take(rows), self.scored.stored.detections(rows)


def candidate_pool(
    pool: ScoredDataset,
    labeled: ScoredDataset | None,
    *,
    class_names: tuple[str, ...],
    match_ids: bool = True,
    reference: ScoredDataset | None = None,
) -> CandidatePool:
    """Leave out what is unreadable, labelled already, in the reference set or there twice.

    Args:
        pool: The pool.
        labeled: The labelled images, if there are any.
        class_names: C names, in the detector's label order.
        match_ids: Leave out pool images with the id of a labelled image, too; equal content always
            counts.
        reference: Annotated images to calibrate and measure on, if there are any. Pool images of
            equal content are left out; so are, of the reference set, labelled images.
    """
    table = pl.DataFrame(
        {
            "row": np.arange(len(pool.dataset)),
            "image_id": pool.dataset.images["image_id"],
            "content_hash": pool.stored.images["content_hash"],
            "readable": pool.readable,
        }
    ).sort("image_id")
    excluded = {"unreadable": int((~table["readable"]).sum())}
    table = table.filter("readable")
    if labeled is not None:
        same_content = table["content_hash"].is_in(_contents(labeled).implode())
        images = labeled.dataset.images
        # A merged set numbers its images anew where ids of several sources clash.
        own_id = "detal_image_id" if "detal_image_id" in images.columns else "image_id"
        same_id = table["image_id"].is_in(images[own_id].cast(pl.String).implode())
        excluded["labelled_content"] = int(same_content.sum())
        if match_ids:
            excluded["labelled_id"] = int((same_id & ~same_content).sum())
            same_content |= same_id
        table = table.filter(~same_content)
    if reference is not None:
        reference = held_out(reference, labeled)
        in_reference = table["content_hash"].is_in(_contents(reference).implode())
        excluded["reference_content"] = int(in_reference.sum())
        table = table.filter(~in_reference)
    unique = table.unique("content_hash", keep="first", maintain_order=True)
    excluded["duplicate_content"] = len(table) - len(unique)
    scored = _with_decoded_sizes(pool.take(unique["row"].to_numpy().astype(np.int64)))
    candidates = replace(
        _candidates(scored, _labeled(labeled, class_names), class_names),
        reference=None if reference is None else _labeled(reference, class_names),
    )
    return CandidatePool(scored=scored, candidates=candidates, excluded=excluded)


def _contents(scored: ScoredDataset) -> pl.Series:
    return scored.stored.images["content_hash"].drop_nulls()


def held_out(reference: ScoredDataset, labeled: ScoredDataset | None) -> ScoredDataset:
    """The readable images of the reference set that are not labelled, so were not trained on."""
    kept = reference.readable
    if labeled is not None:
        hashes = reference.stored.images["content_hash"]
        trained = hashes.is_in(_contents(labeled).implode()).fill_null(value=False).to_numpy()
        if trained.any():
            log.warning(
                "%d of the %d images of the reference set are labelled, too: they are left out of "
                "the reference set",
                trained.sum(),
                len(trained),
            )
        kept = kept & ~trained
    return reference.take(np.flatnonzero(kept))


def _with_decoded_sizes(scored: ScoredDataset) -> ScoredDataset:
    sizes = scored.stored.images.select(pl.col("width", "height").cast(pl.Int32))
    dataset = replace(scored.dataset, images=scored.dataset.images.with_columns(sizes))
    return replace(scored, dataset=dataset)


def _candidates(
    scored: ScoredDataset, labeled: Labeled, class_names: tuple[str, ...]
) -> Candidates:
    return Candidates(
        image_ids=scored.dataset.image_ids,
        chunks=scored.stored.chunks,
        own=scored.stored.detections,
        class_names=class_names,
        expected_boxes=scored.stored.score_sums(),
        labeled=labeled,
        image_features=scored.stored.image_features(),
        groups=scored.dataset.images["group"].to_numpy().astype(object),
        metadata=_metadata(scored),
        passes={name: stored.detections for name, stored in scored.passes.items()},
    )


def _metadata(scored: ScoredDataset) -> pl.DataFrame:
    """The dataset's columns and what was measured; what the user says stands before the latter."""
    own, stored = scored.dataset.images, scored.stored.images
    measured = [c for c in QUALITY_COLUMNS if c in stored.columns and c not in own.columns]
    return own.with_columns(stored.select(measured))


def _labeled(labeled: ScoredDataset | None, class_names: tuple[str, ...]) -> Labeled:
    annotations = None if labeled is None else labeled.dataset.annotations
    if labeled is None or annotations is None:
        return Labeled(class_counts=np.zeros(len(class_names), dtype=np.int64))
    names = labeled.dataset.class_names
    counts = annotations.class_counts(len(names))
    by_name = dict(zip(names, counts.tolist(), strict=True))
    unknown = sorted(set(by_name) - set(class_names))
    if unknown:
        name = labeled.dataset.name
        log.warning("the detector does not know these classes of %s: %s", name, unknown)
    rows = np.flatnonzero(labeled.readable)
    readable = labeled.take(rows)
    every = np.arange(len(readable.dataset))
    return Labeled(
        class_counts=np.array([by_name.get(name, 0) for name in class_names], dtype=np.int64),
        image_features=readable.stored.image_features(),
        detections=lambda: readable.stored.detections(every),
        annotations=in_detector_order(annotations.take(rows), names, class_names),
    )


def in_detector_order(
    annotations: Annotations, names: Sequence[str], class_names: Sequence[str]
) -> Annotations:
    """The same objects with the detector's labels; those of classes it does not know are left out.

    Args:
        annotations: Labels index into ``names``.
        names: Classes of the dataset.
        class_names: Classes of the detector.
    """
    number = {name: label for label, name in enumerate(class_names)}
    return annotations.relabel(np.array([number.get(name, -1) for name in names], dtype=np.int64))
