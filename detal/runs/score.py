"""Fill the stores of a run and select nothing: ``detal score``.

Every runner makes the same shards with the same function (`detal.runs.scoring.fill_stores`), and a
shard is done when its files are there. So runs may be killed, repeated, and continued by another
runner; what two runners do at the same time is done twice, but never wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from detal.config import DetectorConfig, SelectConfig
from detal.detectors import Detector, view_of
from detal.runs.scoring import (
    ProgressCallback,
    Shard,
    StartProgress,
    counter,
    fill_stores,
    missing_shards,
    open_store,
    passes_of,
)
from detal.runs.select import Inputs, open_inputs, store_root
from detal.runs.slices import WHOLE, Slice
from detal.store import Store, image_keys
from detal.strategies import Needs, make_strategy

__all__ = ["Outcome", "Passes", "Runner", "ScoreJob", "in_this_process", "run_score"]


@dataclass(frozen=True, eq=False)
class Passes:
    """The passes of one checkpoint over images, as any process can make them; picklable.

    Attributes:
        load: Loads a detector by its config, on ``device=``.
        detector: Which checkpoint.
        views: Views that are scored with it, each into a store of its own.
        root: Folder of the stores.
        batch_size: Images per forward pass.
    """

    load: Callable[..., Detector]
    detector: DetectorConfig
    views: tuple[str, ...]
    root: Path
    batch_size: int

    def open(self, device: str) -> list[tuple[Store, Detector]]:
        """The detector's own pass and its views, each with its store."""
        own = self.load(self.detector, device=device)
        detectors = [own, *(view_of(own, name) for name in self.views)]
        return [(open_store(self.root, detector), detector) for detector in detectors]


@dataclass(frozen=True, eq=False)
class ScoreJob:
    """One set of images and the passes it needs.

    Attributes:
        title: For the progress.
        passes: What to do with each image.
        paths: P image files.
        shard_size: Images per shard.
        device: Where the detectors run.
        threads: CPU threads of a process, or None for one per core.
    """

    title: str
    passes: Passes
    paths: list[str]
    shard_size: int
    device: str
    threads: int | None


@dataclass(frozen=True)
class Outcome:
    """What a job came to.

    Attributes:
        title: Of the job.
        images: P.
        scored_now: Forward passes of this run.
        left: Forward passes that are still to be done, by other slices.
        unreadable: Images that could not be read; None while some are left.
        stores: The stores' folders.
        seconds: Spent on it.
    """

    title: str
    images: int
    scored_now: int
    left: int
    unreadable: int | None
    stores: tuple[str, ...]
    seconds: float

    @staticmethod
    def of(job: ScoreJob, stores: Sequence[Store], keys: Sequence[str], scored: int) -> Outcome:
        """Look at the stores; ``seconds`` are for the caller to fill in."""
        left = passes_of(missing_shards(stores, keys, shard_size=job.shard_size))
        errors = None if left else stores[0].read(keys).images["error"]
        return Outcome(
            title=job.title,
            images=len(keys),
            scored_now=scored,
            left=left,
            unreadable=None if errors is None else len(errors) - errors.null_count(),
            stores=tuple(str(store.folder) for store in stores),
            seconds=0.0,
        )


Runner = Callable[[ScoreJob, ProgressCallback], Outcome]
"""Does one job."""


def in_this_process(job: ScoreJob, progress: ProgressCallback, *, part: Slice = WHOLE) -> Outcome:
    """Score in this process what belongs to its slice.

    Args:
        job: What is to be done.
        progress: Called with the forward passes done and to do.
        part: Which of the shards are this process's.
    """
    passes = job.passes.open(part.device(job.device))
    stores = [store for store, _ in passes]
    keys = image_keys(job.paths)
    shards = [
        shard
        for shard in missing_shards(stores, keys, shard_size=job.shard_size)
        if part.has(_number(shard, job.shard_size))
    ]
    fill_stores(
        passes,
        shards,
        images=(job.paths, keys),
        batch_size=job.passes.batch_size,
        threads=part.threads(job.threads),
        advance=counter(passes_of(shards), progress),
    )
    return Outcome.of(job, stores, keys, passes_of(shards))


def _number(shard: Shard, shard_size: int) -> int:
    """A shard's number, whatever other processes have done by now: the place of its first image.

    The list of what is missing shrinks while others work; its shards keep their first images.
    """
    return int(shard.rows[0]) // shard_size


def run_score(
    config: SelectConfig, *, runner: Runner = in_this_process, progress: StartProgress | None = None
) -> list[dict[str, Any]]:
    """Score all sets of a run with all passes that its strategy needs.

    Args:
        config: Of the run that is to select from these stores.
        runner: Does one job after the other.
        progress: Given a title, returns what is called with (done, total) passes.

    Returns:
        For each job what it came to (`Outcome`).

    Raises:
        DetalError: With what must be mended; what was scored until then stays in the store.
    """
    start_progress = progress or (lambda title: lambda done, total: None)
    needs = make_strategy(config.strategy.name, **config.strategy.options).needs
    outcomes = []
    for job in _jobs(config, open_inputs(config), needs):
        started = time.monotonic()
        outcome = runner(job, start_progress(f"scoring {job.title}"))
        seconds = round(time.monotonic() - started, 3)
        outcomes.append(asdict(replace(outcome, seconds=seconds)))
    return outcomes


def _jobs(config: SelectConfig, inputs: Inputs, needs: Needs) -> Iterator[ScoreJob]:
    """What `run_select` scores, in its order."""
    passes = partial(
        Passes, load=inputs.load, root=store_root(config), batch_size=config.batch_size
    )
    job = partial(
        ScoreJob, shard_size=config.shard_size, device=config.device, threads=config.threads
    )
    pool = inputs.pool.images["path"].to_list()
    yield job("the pool", passes(detector=config.detector, views=needs.views), pool)
    for i, weights in enumerate(needs.members):
        member = config.detector.model_copy(update={"weights": weights})
        yield job(f"the pool, member:{i}", passes(detector=member, views=()), pool)
    for name, dataset in (("labelled", inputs.labeled), ("reference", inputs.reference)):
        if dataset is not None:
            own = passes(detector=config.detector, views=())
            yield job(f"the {name} set", own, dataset.images["path"].to_list())
