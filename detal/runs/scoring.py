"""Fill the store: score what it lacks, shard by shard."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from detal.detectors import Detector
from detal.scoring import score_shards
from detal.store import Store, StoredImages, image_keys

__all__ = ["ProgressCallback", "open_store", "score_into_store"]

ProgressCallback = Callable[[int, int], None]
"""Called with the images done and the images to do."""


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
    """Score the images that the store lacks and read all of them back.

    Args:
        store: Where the results go and come from.
        detector: The detector the store was opened for.
        paths: P image files.
        shard_size: Images per shard.
        batch_size: Images per forward pass.
        threads: Decoding threads, or None for a sensible number.
        progress: Called as images are done, from several threads, one at a time.

    Returns:
        The P images, and how many of them had to be scored now.
    """
    keys = image_keys(paths)
    todo = store.missing(keys)
    shards = [todo[start : start + shard_size] for start in range(0, len(todo), shard_size)]
    done = 0
    lock = threading.Lock()

    def advance(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            progress(done, len(todo))

    advance(0)
    scored = score_shards(
        detector,
        ([paths[i] for i in shard] for shard in shards),
        batch_size=batch_size,
        threads=threads,
        progress=advance,
    )
    for shard, result in zip(shards, scored, strict=True):
        store.write([keys[i] for i in shard], result.images, result.detections)
    return store.read(keys), len(todo)
