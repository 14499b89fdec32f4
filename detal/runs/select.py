"""The main job: from a pool to a manifest."""

from __future__ import annotations

import importlib.metadata
import logging
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

import detal
from detal.config import SelectConfig
from detal.datasets import Dataset, problems_table
from detal.detectors import Detector
from detal.errors import ConfigError, DataError
from detal.features import expected_boxes, expected_class_counts
from detal.manifests import write_manifest
from detal.report import write_contact_sheet
from detal.runs.building import build_budget, build_dataset, build_detector
from detal.runs.scoring import ProgressCallback, open_store, score_into_store
from detal.seeding import generator
from detal.store import Store, StoredImages
from detal.strategies import Candidates, Labeled, make_strategy
from detal.structures import Detections, Selection

__all__ = ["SelectResult", "run_select"]

log = logging.getLogger(__name__)

Excluded = dict[str, int]


@dataclass(frozen=True, eq=False)
class SelectResult:
    """What a run of `run_select` made.

    Attributes:
        output: Folder of the run, with the manifest in it.
        contact_sheet: The picture.
        selection: The batch.
        run: The contents of ``run.json``.
    """

    output: Path
    contact_sheet: Path
    selection: Selection
    run: dict[str, Any]


@dataclass(frozen=True, eq=False)
class _Scored:
    """A dataset with what the detector says about each of its images."""

    dataset: Dataset
    stored: StoredImages

    @property
    def readable(self) -> NDArray[np.bool_]:
        """(P,) True where the image could be decoded."""
        return self.stored.images["error"].is_null().to_numpy()


def run_select(
    config: SelectConfig, *, progress: Callable[[str], ProgressCallback] | None = None
) -> SelectResult:
    """Score the pool, choose a batch, write the manifest and the picture.

    Args:
        config: The run.
        progress: Given a title, returns what is called with (done, total) images.

    Raises:
        DetalError: With what must be mended; what was scored until then stays in the store.
    """
    started = time.monotonic()
    output = Path(config.output)
    strategy = make_strategy(config.strategy.name, **config.strategy.options)
    pool, labeled = _open_datasets(config)
    detector = _open_detector(config, pool, labeled)
    store = open_store(_store_root(config), detector)

    def score(dataset: Dataset, title: str) -> tuple[_Scored, int]:
        stored, newly = score_into_store(
            store,
            detector,
            dataset.images["path"].to_list(),
            shard_size=config.shard_size,
            batch_size=config.batch_size,
            threads=config.threads,
            progress=progress(title) if progress else lambda done, total: None,
        )
        return _Scored(dataset=dataset, stored=stored), newly

    scored_pool, new_pool = score(pool, "scoring the pool")
    scored_labeled, new_labeled = (
        score(labeled, "scoring the labelled set") if labeled is not None else (None, 0)
    )
    scoring_s = time.monotonic() - started

    rows, excluded = _candidate_rows(scored_pool, scored_labeled, config)
    candidates = _candidates(scored_pool, rows, scored_labeled, detector.class_names)
    selecting = time.monotonic()
    selection = strategy.query(
        candidates,
        budget=build_budget(config.budget),
        rng=generator(config.seed, "select", config.strategy.name),
        min_distance=config.dedup.distance,
        per_group=config.dedup.per_group,
    )
    selection_s = time.monotonic() - selecting

    run = _run_record(config, store, detector, selection, candidates, excluded)
    run["timings"] = {
        "scoring_s": round(scoring_s, 3),
        "selection_s": round(selection_s, 3),
        "scored_now": new_pool + new_labeled,
        "read_from_store": len(pool) + (len(labeled) if labeled else 0) - new_pool - new_labeled,
    }
    contact_sheet = _write_output(
        output, config, scored_pool, selection, candidates, detector, labeled, run
    )
    return SelectResult(output=output, contact_sheet=contact_sheet, selection=selection, run=run)


def _open_datasets(config: SelectConfig) -> tuple[Dataset, Dataset | None]:
    pool = build_dataset(config.pool)
    if len(pool) == 0:
        raise DataError(f"the pool must hold at least one image, found none in {config.pool.path}")
    labeled = None
    if config.labeled is not None:
        labeled = build_dataset(config.labeled)
        if labeled.annotations is None:
            raise DataError(f"the labelled set {config.labeled.path} has no annotations")
    for dataset in (pool, labeled):
        if dataset is not None and dataset.problems:
            log.warning(
                "%s: %d problems, for example: %s (all of them: detal check %s)",
                dataset.name,
                len(dataset.problems),
                dataset.problems[0].message,
                config.pool.path if dataset is pool else config.labeled.path,  # type: ignore[union-attr]
            )
    return pool, labeled


def _open_detector(config: SelectConfig, pool: Dataset, labeled: Dataset | None) -> Detector:
    named = next((d for d in (labeled, pool) if d is not None and d.class_names), pool)
    image_id_of = {
        path: image_id
        for dataset in (labeled, pool)
        if dataset is not None
        for image_id, path in dataset.images.select("image_id", "path").iter_rows()
    }
    return build_detector(
        config.detector,
        device=config.device,
        class_names=named.class_names,
        category_ids=named.category_ids,
        image_id_of=image_id_of,
    )


def _store_root(config: SelectConfig) -> Path:
    return Path(config.store) if config.store else Path(config.output).parent / "detal_store"


def _candidate_rows(
    pool: _Scored, labeled: _Scored | None, config: SelectConfig
) -> tuple[NDArray[np.int64], Excluded]:
    """Rows of the pool that may be picked, by ascending image id, and why others may not."""
    table = pl.DataFrame(
        {
            "row": np.arange(len(pool.dataset)),
            "image_id": pool.dataset.images["image_id"],
            "content_hash": pool.stored.images["content_hash"],
        }
    ).sort("image_id")
    excluded: Excluded = {"unreadable": int((~pool.readable).sum())}
    table = table.filter(pl.Series(pool.readable[table["row"].to_numpy()]))
    if labeled is not None and config.labeled is not None:
        ids = labeled.dataset.images["image_id"].implode()
        hashes = labeled.stored.images["content_hash"].drop_nulls().implode()
        same_content = table["content_hash"].is_in(hashes)
        same_id = table["image_id"].is_in(ids) & pl.Series([config.labeled.same_id])
        excluded["labelled_content"] = int(same_content.sum())
        excluded["labelled_id"] = int((same_id & ~same_content).sum())
        table = table.filter(~(same_content | same_id))
    unique = table.unique("content_hash", keep="first", maintain_order=True)
    excluded["duplicate_content"] = len(table) - len(unique)
    return unique["row"].to_numpy().astype(np.int64), excluded


def _candidates(
    pool: _Scored,
    rows: NDArray[np.int64],
    labeled: _Scored | None,
    class_names: tuple[str, ...],
) -> Candidates:
    stored = StoredImages(store=pool.stored.store, images=pool.stored.images[rows])
    boxes = np.zeros(len(rows))
    for index, detections in stored.chunks():
        boxes[index] = expected_boxes(detections).numpy()
    return Candidates(
        image_ids=pool.dataset.image_ids[rows],
        chunks=stored.chunks,
        class_names=class_names,
        image_features=stored.image_features(),
        expected_boxes=boxes,
        groups=pool.dataset.images["group"].to_numpy().astype(object)[rows],
        labeled=_labeled(labeled, class_names),
    )


def _labeled(labeled: _Scored | None, class_names: tuple[str, ...]) -> Labeled:
    if labeled is None or labeled.dataset.annotations is None:
        return Labeled(image_features=None, class_counts=np.zeros(len(class_names), np.int64))
    readable = np.flatnonzero(labeled.readable)
    stored = StoredImages(store=labeled.stored.store, images=labeled.stored.images[readable])
    counts = labeled.dataset.annotations.class_counts(len(labeled.dataset.class_names))
    by_name = dict(zip(labeled.dataset.class_names, counts.tolist(), strict=True))
    unknown = sorted(set(by_name) - set(class_names))
    if unknown:
        log.warning("classes of the labelled set that the detector does not know: %s", unknown)
    return Labeled(
        image_features=stored.image_features(),
        class_counts=np.array([by_name.get(name, 0) for name in class_names], dtype=np.int64),
    )
