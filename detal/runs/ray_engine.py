"""Work on a Ray cluster: shards by actors that hold the detector, other tasks one by one.

Ray's address is its own affair: RAY_ADDRESS names a cluster (``auto`` for the one of this machine);
without it a cluster of this machine alone is started and stopped again.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from detal.errors import ConfigError, DetalError, DetectorError
from detal.runs.score import Outcome, Passes, Runner, ScoreJob
from detal.runs.scoring import (
    ProgressCallback,
    Shard,
    counter,
    fill_stores,
    missing_shards,
    passes_of,
)
from detal.runs.workers import RunTasks, Task
from detal.store import Store, image_keys

__all__ = ["ActorPool", "RayOptions", "fit_actors", "ray_scoring", "ray_tasks"]

log = logging.getLogger(__name__)

_MOST_CPUS = 8


@dataclass(frozen=True)
class RayOptions:
    """How scoring spreads over a cluster.

    Attributes:
        actors: Processes that hold a detector, at most; None: as many as fit.
        cpus: CPU threads of each; None: up to eight, by the cluster's nodes.
        gpus: GPUs of each, may be a fraction; None: one where the cluster has any and the device is
            not the CPU.
    """

    actors: int | None = None
    cpus: int | None = None
    gpus: float | None = None


@dataclass(frozen=True)
class ActorPool:
    """What fits: ``actors`` of ``cpus`` and ``gpus`` each."""

    actors: int
    cpus: int
    gpus: float


@contextmanager
def ray_scoring(options: RayOptions) -> Iterator[Runner]:
    """A runner of `run_score` on a Ray cluster, whose nodes all see the images and the store.

    A shard is a row of Ray Data, an actor loads the detector once. The shards of a killed actor or
    node are scored by others. The detector is never loaded in this process.

    Raises:
        ConfigError: If Ray is not installed or not there, or no actor fits into the cluster.
    """
    with _session() as ray:
        yield partial(_run_job, ray, options)


def _run_job(ray: Any, options: RayOptions, job: ScoreJob, progress: ProgressCallback) -> Outcome:
    pool = fit_actors(ray.nodes(), options, device=job.device)
    device = _device(job.device, pool.gpus)
    describe = ray.remote(num_cpus=pool.cpus, num_gpus=pool.gpus, max_retries=-1)(_describe)
    stores = _get(ray, describe.remote(job.passes, device))
    keys = image_keys(job.paths)
    shards = missing_shards(stores, keys, shard_size=job.shard_size)
    advance = counter(passes_of(shards), progress)
    if shards:
        worker = _Worker(job.passes, device, job.threads or pool.cpus, [s.key for s in stores])
        for done in _score(ray, shards, (job.paths, keys), worker, pool):
            advance(done)
    return Outcome.of(job, stores, keys, passes_of(shards))


@contextmanager
def ray_tasks(*, device: str) -> Iterator[RunTasks]:
    """Run tasks on a Ray cluster, a CPU each, and a GPU where ``device`` and the cluster say so.

    A task whose process or node dies is run again.
    """
    with _session() as ray:
        gpus = _gpus(_nodes(ray.nodes()), RayOptions(), device)
        remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=-1)(_call)

        def run(tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
            number = {remote.remote(*task): i for i, task in enumerate(tasks)}
            waiting = list(number)
            try:
                while waiting:
                    (done, *_), waiting = ray.wait(waiting)
                    yield number[done], _get(ray, done)
            finally:
                for task in waiting:
                    ray.cancel(task, force=True)

        yield run


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


def fit_actors(
    nodes: Sequence[Mapping[str, Any]], options: RayOptions, *, device: str
) -> ActorPool:
    """How many actors a cluster holds.

    One CPU is always left over: where actors hold them all, Ray's own tasks wait for ever.

    Args:
        nodes: As ``ray.nodes()`` gives them.
        options: What the user wants.
        device: Of the config.

    Raises:
        ConfigError: If not a single one fits.
    """
    alive = _nodes(nodes)
    gpus = _gpus(alive, options, device)
    usable = [node for node in alive if node["GPU"] >= gpus]
    cpus = options.cpus or _default_cpus(usable, gpus)
    fitting = [_fitting(node, cpus, gpus) for node in usable]
    spare = max((n["CPU"] for n in alive if n not in usable), default=0.0)
    left = [node["CPU"] - cpus * count for node, count in zip(usable, fitting, strict=True)]
    actors = sum(fitting) - (0 if max([spare, *left]) >= 1 else 1)
    if actors < 1:
        have = ", ".join(f"{n['CPU']:g} CPUs and {n['GPU']:g} GPUs" for n in alive) or "none"
        raise ConfigError(
            f"the Ray cluster must have a node for an actor of {cpus} CPUs and {gpus:g} GPUs, and "
            f"one more CPU; its nodes: {have}. Ask for less with --actor-cpus and --actor-gpus"
        )
    if options.actors is not None and options.actors > actors:
        log.warning(
            "%d actors of %d CPUs and %g GPUs fit into the Ray cluster beside one free CPU, not %d",
            actors,
            cpus,
            gpus,
            options.actors,
        )
    return ActorPool(min(actors, options.actors or actors), cpus, gpus)


def _nodes(nodes: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    return [
        {kind: float(node["Resources"].get(kind, 0)) for kind in ("CPU", "GPU")}
        for node in nodes
        if node["Alive"]
    ]


def _gpus(nodes: Sequence[Mapping[str, float]], options: RayOptions, device: str) -> float:
    if options.gpus is not None:
        return options.gpus
    has_gpu = any(node["GPU"] >= 1 for node in nodes)
    return 1.0 if device.startswith("cuda") or (device == "auto" and has_gpu) else 0.0


def _device(wanted: str, gpus: float) -> str:
    """Ray shows an actor its own GPUs only, numbered from 0."""
    if gpus:
        return "cuda"
    return wanted if wanted == "mps" else "cpu"


def _default_cpus(nodes: Sequence[Mapping[str, float]], gpus: float) -> int:
    """An even share of the smallest node, one CPU left over."""
    shares = [(node["CPU"] - 1) / (math.floor(node["GPU"] / gpus) if gpus else 1) for node in nodes]
    return int(min(max(min(shares, default=1), 1), _MOST_CPUS))


def _fitting(node: Mapping[str, float], cpus: int, gpus: float) -> int:
    by_cpu = math.floor(node["CPU"] / cpus)
    return min(by_cpu, math.floor(node["GPU"] / gpus)) if gpus else by_cpu


def _describe(passes: Passes, device: str) -> list[Store]:
    """The stores of the passes, as a worker opens them."""
    return [store for store, _ in passes.open(device)]


@dataclass(frozen=True, eq=False)
class _Worker:
    """What an actor is told."""

    passes: Passes
    device: str
    threads: int
    store_keys: list[str]


class _Scorer:
    """An actor: holds the detectors and fills the stores, a shard a call."""

    def __init__(self, worker: _Worker) -> None:
        self._worker = worker
        self._passes = worker.passes.open(worker.device)
        found = [store.key for store, _ in self._passes]
        if found != worker.store_keys:
            raise DetectorError(
                f"the detector must be the same on all nodes, got the stores {found} here and "
                f"{worker.store_keys} on another: look for other weights or versions"
            )

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        paths, keys = ([str(value) for value in rows[name][0]] for name in ("paths", "keys"))
        lacking = tuple(int(number) for number in rows["lacking"][0])
        shard = Shard(np.arange(len(keys)), lacking)
        fill_stores(
            self._passes,
            [shard],
            images=(paths, keys),
            batch_size=self._worker.passes.batch_size,
            threads=self._worker.threads,
            advance=lambda count: None,
        )
        return {"passes": np.array([passes_of([shard])])}


def _score(
    ray: Any,
    shards: Sequence[Shard],
    images: tuple[Sequence[str], Sequence[str]],
    worker: _Worker,
    pool: ActorPool,
) -> Iterator[int]:
    """The forward passes of each shard, as shards are done."""
    paths, keys = images
    rows = [
        {
            "paths": [paths[i] for i in shard.rows],
            "keys": [keys[i] for i in shard.rows],
            "lacking": list(shard.lacking),
        }
        for shard in shards
    ]
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    # A pool of fixed size would hang where its node dies and no room is left.
    most = min(pool.actors, len(rows))
    actors = ray.data.ActorPoolStrategy(min_size=1, max_size=most, initial_size=most)
    done = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        _Scorer,
        fn_constructor_args=(worker,),
        batch_size=1,
        compute=actors,
        num_cpus=pool.cpus,
        num_gpus=pool.gpus,
    )
    try:
        for row in done.iter_rows():
            yield int(row["passes"])
    except ray.exceptions.RayError as error:
        raise _own(error) from None


def _get(ray: Any, reference: Any) -> Any:
    """The result of a task; what detal raised there is raised here as it was."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        raise _own(error) from None


def _own(error: BaseException) -> BaseException:
    """The error that detal raised on another node, without Ray's wrapping."""
    seen: BaseException | None = error
    while seen is not None:
        cause = getattr(seen, "cause", None) or seen.__cause__
        if isinstance(cause, DetalError) or not isinstance(cause, BaseException):
            return cause if isinstance(cause, DetalError) else error
        seen = cause
    return error


@contextmanager
def _session() -> Iterator[Any]:
    """The module ``ray``, connected; what this function started is stopped again."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigError(f"the engine ray needs Ray: pip install 'detal[ray]' ({error})") from None
    if ray.is_initialized():
        yield ray
        return
    quiet = partial(ray.init, log_to_driver=False, logging_level=logging.WARNING)
    try:
        if os.environ.get("RAY_ADDRESS"):
            quiet()
        else:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            # One CPU more than there are: actors may not hold them all, and Ray's own tasks idle.
            quiet("local", num_cpus=max(3, (os.cpu_count() or 1) + 1), include_dashboard=False)
    except ConnectionError as error:
        raise ConfigError(
            f"RAY_ADDRESS must be the address of a running Ray cluster: {error}"
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()
