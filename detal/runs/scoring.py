"""Fill the stores: score what they lack, shard by shard."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from detal.datasets import Dataset
from detal.detectors import Detector, view_of
from detal.errors import ConfigError, DataError
from detal.runs.pool import ScoredDataset
from detal.scoring import score_passes
from detal.store import Store, StoredImages, image_keys
from detal.strategies import Needs

__all__ = [
    "ProgressCallback",
    "Scorer",
    "Shard",
    "StartProgress",
    "check_needs",
    "counter",
    "fill_stores",
    "missing_shards",
    "open_store",
    "passes_of",
    "score_into_store",
    "score_into_stores",
]

ProgressCallback = Callable[[int, int], None]
"""Called with the forward passes done and the forward passes to do."""

_NOTHING_MORE = Needs()

StartProgress = Callable[[str], ProgressCallback]
"""Given a title, returns what is called with the progress under it."""


def open_store(root: Path, detector: Detector) -> Store:
    """The part of the store that belongs to this detector with these settings."""
    return Store(
        root,
        fingerprint=detector.fingerprint,
        settings=detector.settings,
        class_names=detector.class_names,
        score_kind=detector.score_kind,
    )


def score_into_store(
    store: Store,
    detector: Detector,
    paths: Sequence[str],
    *,
    shard_size: int,
    batch_size: int,
    threads: int | None,
    progress: ProgressCallback,
) -> tuple[StoredImages, int]:
    """`score_into_stores` of one detector."""
    (result,) = score_into_stores(
        [(store, detector)],
        paths,
        shard_size=shard_size,
        batch_size=batch_size,
        threads=threads,
        progress=progress,
    )
    return result


def score_into_stores(
    passes: Sequence[tuple[Store, Detector]],
    paths: Sequence[str],
    *,
    shard_size: int,
    batch_size: int,
    threads: int | None,
    progress: ProgressCallback,
) -> list[tuple[StoredImages, int]]:
    """Score the images that some stores lack and read all of them back.

    Each image is decoded once for all the stores that lack it.

    Args:
        passes: Where the results of each detector go and come from; detectors on one device.
        paths: P image files.
        shard_size: Images per shard.
        batch_size: Images per forward pass.
        threads: Decoding threads, or None for a sensible number.
        progress: Called as images are done, from several threads, one at a time.

    Returns:
        For each pass the P images, and how many of them had to be scored now.

    Raises:
        DataError: If images went away meanwhile; what was scored before is kept.
    """
    keys = image_keys(paths)
    shards = missing_shards([store for store, _ in passes], keys, shard_size=shard_size)
    fill_stores(
        passes,
        shards,
        images=(paths, keys),
        batch_size=batch_size,
        threads=threads,
        advance=counter(passes_of(shards), progress),
    )
    return [
        (store.read(keys), sum(len(shard.rows) for shard in shards if i in shard.lacking))
        for i, (store, _) in enumerate(passes)
    ]


@dataclass(frozen=True, eq=False)
class Shard:
    """Images that are scored and written together.

    Attributes:
        rows: (b,) places of the images in their set, ascending.
        lacking: Numbers of the passes whose stores lack them, ascending.
    """

    rows: NDArray[np.int64]
    lacking: tuple[int, ...]


def missing_shards(stores: Sequence[Store], keys: Sequence[str], *, shard_size: int) -> list[Shard]:
    """What some stores lack, in shards of one lack each.

    Once shards of this list are written, the same call gives the others as they are here: every
    runner may make its own list at any time.

    Args:
        stores: One for each pass.
        keys: P images.
        shard_size: Images per shard; the last one of a lack may be smaller.
    """
    lacks = np.zeros((len(stores), len(keys)), dtype=bool)
    for row, store in zip(lacks, stores, strict=True):
        row[store.missing(keys)] = True
    shards = []
    # After an interruption the stores may lack different images.
    for pattern in np.unique(lacks[:, lacks.any(axis=0)], axis=1).T:
        rows = np.flatnonzero((lacks == pattern[:, None]).all(axis=0))
        lacking = tuple(np.flatnonzero(pattern).tolist())
        shards += [
            Shard(rows[start : start + shard_size], lacking)
            for start in range(0, len(rows), shard_size)
        ]
    return shards


def passes_of(shards: Sequence[Shard]) -> int:
    """Forward passes that the shards need: one for each image and store that lacks it."""
    return sum(len(shard.rows) * len(shard.lacking) for shard in shards)


def fill_stores(
    passes: Sequence[tuple[Store, Detector]],
    shards: Sequence[Shard],
    *,
    images: tuple[Sequence[str], Sequence[str]],
    batch_size: int,
    threads: int | None,
    advance: Callable[[int], None],
) -> None:
    """Score shards and write each as soon as it is done; what every runner does.

    Args:
        passes: Where the results of each detector go; detectors on one device.
        shards: What to do.
        images: Paths and keys of the set that the shards' rows count in.
        batch_size: Images per forward pass.
        threads: CPU threads, or None for one per core.
        advance: Called with the forward passes just done, from several threads.

    Raises:
        DataError: If images went away meanwhile; what was scored before is kept.
    """
    paths, keys = images
    for lacking, group in itertools.groupby(shards, key=lambda shard: shard.lacking):
        wanted = [passes[i] for i in lacking]
        together = list(group)
        scored = score_passes(
            [detector for _, detector in wanted],
            ([paths[i] for i in shard.rows] for shard in together),
            batch_size=batch_size,
            threads=threads,
            progress=advance,
        )
        for shard, results in zip(together, scored, strict=True):
            of_shard = [keys[i] for i in shard.rows]
            _refuse_changed(results[0].images, of_shard)
            for (store, _), result in zip(wanted, results, strict=True):
                store.write(of_shard, result.images, result.detections)


def _refuse_changed(images: pl.DataFrame, keys: Sequence[str]) -> None:
    """Refuse to quarantine what could be read before: its disk went away, or it is being copied."""
    broken = images.with_columns(pl.Series("key", keys)).drop_nulls("error")
    now = pl.Series(image_keys(broken["path"].to_list()), dtype=pl.String)
    changed = broken.filter(broken["key"] != now)["path"]
    if len(changed):
        raise DataError(
            f"images must stay as they are while they are scored, {len(changed)} went away or "
            f"changed, for example {changed[0]}: see whether their disk is still mounted; what was "
            "scored before is kept, run the same command to go on"
        )


def counter(total: int, progress: ProgressCallback) -> Callable[[int], None]:
    """What adds up counts from several threads and reports the sum."""
    done = 0
    lock = threading.Lock()

    def advance(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            progress(done, total)

    advance(0)
    return advance


def check_needs(needs: Needs, detector: Detector) -> None:
    """Refuse, before anything is scored, what this detector alone cannot give.

    Raises:
        ConfigError: Naming what to use instead.
    """
    for name in needs.views:
        view_of(detector, name)
    if needs.dropout and "dropout" not in detector.settings:
        raise ConfigError(
            "the strategy needs dropout before the last classification layer, and this detector "
            "has none: set detector.dropout_samples=20 (YOLO only), or use `committee` with "
            "further checkpoints, or `entropy`"
        )
    if needs.earlier_rounds and not needs.members:
        raise ConfigError(
            "the strategy needs further checkpoints of the same classes: name them as "
            "strategy.members=[a.pt,b.pt] (in `detal simulate` they are those of earlier rounds), "
            "or use `cald` or `entropy`, which need none"
        )


@dataclass(frozen=True, eq=False)
class Scorer:
    """Scores datasets with a detector, and with the further passes that a strategy needs.

    Attributes:
        detector: The detector.
        root: Folder of the stores.
        shard_size: Images per shard.
        batch_size: Images per forward pass.
        threads: Decoding threads, or None for a sensible number.
        start_progress: See `StartProgress`.
        load_member: Loads a checkpoint that a strategy names.
    """

    detector: Detector
    root: Path
    shard_size: int
    batch_size: int
    threads: int | None
    start_progress: StartProgress
    load_member: Callable[[str], Detector]

    def score(
        self, dataset: Dataset, *, title: str, needs: Needs = _NOTHING_MORE
    ) -> tuple[ScoredDataset, list[dict[str, Any]]]:
        """The dataset with all passes, and for each pass what ``run.json`` says about it.

        Views are scored together with the detector's own pass, which comes first, under the name
        ``own``; members after that, one at a time.

        Raises:
            ConfigError: If the detector has no such view, or a member has other classes or is the
                detector itself.
        """
        views = {name: view_of(self.detector, name) for name in needs.views}
        read, records = self._run({"own": self.detector, **views}, dataset, title)
        stored = {name: images.places() for name, images in read.items() if name != "own"}
        for i, path in enumerate(needs.members):
            member = self.load_member(path)
            self._check_member(member, path)
            name = f"member:{i}"
            more, said = self._run({name: member}, dataset, f"{title}, {name}")
            stored |= {name: images.places() for name, images in more.items()}
            records += [{**record, "weights": path} for record in said]
        return ScoredDataset(dataset=dataset, stored=read["own"], passes=stored), records

    def _run(
        self, detectors: dict[str, Detector], dataset: Dataset, title: str
    ) -> tuple[dict[str, StoredImages], list[dict[str, Any]]]:
        passes = [(open_store(self.root, detector), detector) for detector in detectors.values()]
        started = time.monotonic()
        results = score_into_stores(
            passes,
            dataset.images["path"].to_list(),
            shard_size=self.shard_size,
            batch_size=self.batch_size,
            threads=self.threads,
            progress=self.start_progress(title),
        )
        seconds = round(time.monotonic() - started, 3)
        stored = {name: images for name, (images, _) in zip(detectors, results, strict=True)}
        records = [
            {
                "name": name,
                "fingerprint": detector.fingerprint,
                "settings": detector.settings,
                "store_key": store.key,
                "scored_now": newly,
                "seconds": seconds,
                "together_with": [other for other in detectors if other != name],
            }
            for name, (store, detector), (_, newly) in zip(detectors, passes, results, strict=True)
        ]
        return stored, records

    def _check_member(self, member: Detector, path: str) -> None:
        ours, theirs = self.detector, member
        if ours.fingerprint == theirs.fingerprint:
            raise ConfigError(f"a member must be another checkpoint, {path} is the detector itself")
        if (ours.class_names, ours.score_kind) != (theirs.class_names, theirs.score_kind):
            raise ConfigError(
                f"a member must have the classes and the kind of scores of the detector, "
                f"{list(ours.class_names)} ({ours.score_kind}); {path} has "
                f"{list(theirs.class_names)} ({theirs.score_kind})"
            )
