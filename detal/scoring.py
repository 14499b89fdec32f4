"""Run detectors over images: decoding ahead of the network, results shard by shard.

Images are decoded and prepared by worker threads that run ahead, across shard borders too, and the
whole works in its own thread, so that the network goes on while the caller writes a shard. Which
images share a batch depends on the shard alone, never on timing.

On the CPU several batches run side by side, one thread each: no time is lost where a single
forward pass cannot use all cores; batches are kept small there. On a GPU one thread feeds the
device.

Several detectors (views of one, say) share the decoding: each image is read once and prepared for
all of them.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
import torch

from detal.datasets.images import read_image
from detal.detectors import Detector, Prepared
from detal.errors import DataError, DetectorError, is_out_of_memory
from detal.features.quality import QUALITY_COLUMNS, Quality, image_quality
from detal.structures import Detections

__all__ = ["IMAGE_SCHEMA", "ShardScores", "score_passes", "score_shards"]

_LOG = logging.getLogger(__name__)

# Larger batches cost up to a quarter more CPU time: their activations fall out of the caches.
_CPU_BATCH = 4

IMAGE_SCHEMA = {
    "path": pl.String,
    "width": pl.Int32,
    "height": pl.Int32,
    "content_hash": pl.String,
    "error": pl.String,
    **dict.fromkeys(QUALITY_COLUMNS, pl.Float32),
}


@dataclass(frozen=True, eq=False)
class ShardScores:
    """What a detector says about the images of one shard.

    Attributes:
        detections: One image per path, in the given order; a broken image has no detections and
            zero features.
        images: One row per path: ``path``, ``width`` and ``height`` in pixels (null if broken),
            ``content_hash`` (null if broken), ``error`` (null if fine), and what
            `detal.features.quality` measures (null if broken).
    """

    detections: Detections
    images: pl.DataFrame


def score_shards(
    detector: Detector,
    shards: Iterable[Sequence[str]],
    *,
    batch_size: int,
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[ShardScores]:
    """`score_passes` of one detector: one result per shard, in order."""
    passes = score_passes(
        [detector],
        shards,
        batch_size=batch_size,
        threads=threads,
        progress=progress,
    )
    with closing(passes):
        for (scores,) in passes:
            yield scores


def score_passes(
    detectors: Sequence[Detector],
    shards: Iterable[Sequence[str]],
    *,
    batch_size: int,
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Generator[tuple[ShardScores, ...], None, None]:
    """Score shards of image files with several detectors, each image decoded once.

    A batch that does not fit into memory is halved, and no later one is made larger than that.

    Args:
        detectors: At least one, all on one device.
        shards: Paths, shard by shard; taken as they are needed.
        batch_size: Images per forward pass at most, >= 1; on the CPU never more than 4.
        threads: CPU threads to use, >= 1; None: one per core.
        progress: Called from worker threads with the number of forward passes just done, one per
            image and detector.

    Yields:
        The scores of each shard, in order, by each detector.

    Raises:
        DetectorError: If the network gives unusable output or one image does not fit into memory.
    """
    if batch_size < 1 or (threads is not None and threads < 1):
        raise DetectorError(f"batch_size and threads must be >= 1, got {batch_size}, {threads}")
    if detectors[0].device.type == "cpu":
        batch_size = min(batch_size, _CPU_BATCH)
    nothing = [detector.predict([]) for detector in detectors]
    stop = threading.Event()
    pending = _submit(
        detectors,
        iter(shards),
        batch_size=batch_size,
        threads=threads or _cores(),
        stop=stop,
        progress=progress or (lambda count: None),
    )
    with closing(_in_thread(pending, stop=stop)) as submitted:
        for shard in submitted:
            yield tuple(_finish(shard, i, empty) for i, empty in enumerate(nothing))


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class _Image:
    """One image after decoding: ready for each network, or broken."""

    path: str
    prepared: tuple[Prepared, ...] = ()
    content_hash: str | None = None
    error: str | None = None
    quality: Quality | None = None

    @property
    def row(self) -> tuple[Any, ...]:
        height, width = self.prepared[0].size_hw if self.prepared else (None, None)
        quality = self.quality or [None] * len(QUALITY_COLUMNS)
        return self.path, width, height, self.content_hash, self.error, *quality


@dataclass
class _Shard:
    """A shard on its way: images in order, batches of each detector with their images' places."""

    batches: list[list[tuple[list[int], Future[Detections]]]]
    rows: list[tuple[Any, ...]] = field(default_factory=list)


def _submit(
    detectors: Sequence[Detector],
    shards: Iterator[Sequence[str]],
    *,
    batch_size: int,
    threads: int,
    stop: threading.Event,
    progress: Callable[[int], None],
) -> Generator[_Shard, None, None]:
    """Shards whose batches are all handed to the network, though not all done."""
    on_cpu = detectors[0].device.type == "cpu"
    runners = threads if on_cpu else 1
    with ExitStack() as stack:
        stack.enter_context(_torch_threads(1 if on_cpu else None))
        decoders = stack.enter_context(_pool("decode", threads, stop))
        predictors = stack.enter_context(_pool("predict", runners, stop))
        networks = _Network.of(detectors, predictors, runners, progress)
        window = 2 * threads + 2 * batch_size // len(detectors)
        for images in _read_ahead(detectors, shards, decoders, window=window, stop=stop):
            yield _run_batches(images, networks, batch_size)


@contextmanager
def _pool(name: str, threads: int, stop: threading.Event) -> Iterator[ThreadPoolExecutor]:
    """A thread pool that finishes what it was given, unless it is to stop."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix=f"detal-{name}")
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=stop.is_set())


@contextmanager
def _torch_threads(count: int | None) -> Iterator[None]:
    """Torch threads per operation; threads that begin inside take the number over."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _decode(detectors: Sequence[Detector], path: str) -> _Image:
    try:
        decoded = read_image(path)
    except DataError as error:
        return _Image(path, error=str(error))
    prepared = tuple(detector.prepare(decoded.pixels, path) for detector in detectors)
    return _Image(
        path,
        prepared=prepared,
        content_hash=decoded.content_hash,
        quality=image_quality(decoded.pixels),
    )


def _read_ahead(
    detectors: Sequence[Detector],
    shards: Iterator[Sequence[str]],
    decoders: ThreadPoolExecutor,
    *,
    window: int,
    stop: threading.Event,
) -> Iterator[Iterator[_Image]]:
    """The decoded images of each shard in order; up to ``window`` images of any shard are ahead."""
    sizes: deque[int] = deque()
    ahead: deque[Future[_Image]] = deque()

    def paths() -> Iterator[str]:
        for shard in shards:
            sizes.append(len(shard))
            yield from shard

    source = paths()

    def fill() -> None:
        while len(ahead) < window:
            path = next(source, None)
            if path is None:
                return
            ahead.append(decoders.submit(_decode, detectors, path))

    def images(count: int) -> Iterator[_Image]:
        for _ in range(count):
            if stop.is_set():
                return
            fill()
            yield ahead.popleft().result()

    fill()
    while sizes and not stop.is_set():
        yield images(sizes.popleft())
        fill()


class _Network:
    """Runs batches, a few at a time, and remembers what fits into memory."""

    def __init__(
        self,
        detector: Detector,
        pool: ThreadPoolExecutor,
        slots: threading.Semaphore,
        progress: Callable[[int], None],
    ) -> None:
        self._detector = detector
        self._pool = pool
        self.progress = progress
        self._slots = slots
        self._fits: int | None = None

    @staticmethod
    def of(
        detectors: Sequence[Detector],
        pool: ThreadPoolExecutor,
        runners: int,
        progress: Callable[[int], None],
    ) -> list[_Network]:
        """One for each detector; they share the queue."""
        slots = threading.Semaphore(2 * runners)
        return [_Network(detector, pool, slots, progress) for detector in detectors]

    def submit(self, batch: list[Prepared]) -> Future[Detections]:
        """Queue a batch; waits while too many are queued already."""
        self._slots.acquire()
        future = self._pool.submit(self._predict, batch)
        future.add_done_callback(lambda _: self._slots.release())
        future.add_done_callback(lambda _: self.progress(len(batch)))
        return future

    def _predict(self, batch: list[Prepared]) -> Detections:
        limit = self._fits or len(batch)
        if len(batch) > limit:
            parts = [batch[i : i + limit] for i in range(0, len(batch), limit)]
            return Detections.concat([self._predict(part) for part in parts])
        failed = False
        try:
            return _checked(self._detector.predict(batch), batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            failed = len(batch) > 1
            if not failed:
                raise DetectorError(
                    f"one image does not fit into memory on {self._detector.device}: "
                    f"{batch[0].path}; use a smaller image size"
                ) from error
        # Outside of the handler, whose traceback would keep the tensors of the failed pass.
        self._fits = min(self._fits or len(batch), len(batch) // 2)
        _LOG.warning("out of memory at batch size %d, going on with %d", len(batch), self._fits)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return self._predict(batch)


def _checked(detections: Detections, batch: Sequence[Prepared]) -> Detections:
    """What a detector gave, if it can be used."""
    if len(detections) != len(batch):
        raise DetectorError(
            f"a detector must answer for each image, it did for {len(detections)} of {len(batch)} "
            f"({batch[0].path} and others)"
        )
    for name in ("boxes", "scores", "logits"):
        finite = torch.isfinite(getattr(detections, name))
        bad = (~(finite if finite.ndim == 1 else finite.all(dim=1))).nonzero()
        if len(bad):
            image = int(detections.image_index[bad[0, 0]])
            raise DetectorError(
                f"{name} that a detector gives must be finite, they are not for "
                f"{batch[image].path}: the weights are damaged, or half precision overflows "
                "(detector.half=false)"
            )
    return detections


def _run_batches(images: Iterator[_Image], networks: Sequence[_Network], batch_size: int) -> _Shard:
    """Group the images of a shard into batches of equal key, in order of arrival, and run them."""
    shard = _Shard(batches=[[] for _ in networks])
    waiting: dict[tuple[int, Hashable], list[tuple[int, Prepared]]] = {}

    def flush(key: tuple[int, Hashable]) -> None:
        places, batch = zip(*waiting.pop(key), strict=True)
        future = networks[key[0]].submit(list(batch))
        shard.batches[key[0]].append((list(places), future))

    for place, image in enumerate(images):
        shard.rows.append(image.row)
        if not image.prepared:
            networks[0].progress(len(networks))
        for i, prepared in enumerate(image.prepared):
            key = i, prepared.batch_key
            waiting.setdefault(key, []).append((place, prepared))
            if len(waiting[key]) == batch_size:
                flush(key)
    for key in list(waiting):
        flush(key)
    return shard


def _finish(shard: _Shard, detector: int, nothing: Detections) -> ShardScores:
    """Wait for the batches of one detector and put their images back in order."""
    batches = shard.batches[detector]
    parts = [future.result() for _, future in batches]
    places = [place for group, _ in batches for place in group]
    broken = sorted(set(range(len(shard.rows))) - set(places))
    packed = Detections.concat([nothing, *parts, _blank(nothing, len(broken))])
    order = np.empty(len(shard.rows), dtype=np.int64)
    order[[*places, *broken]] = np.arange(len(shard.rows))
    return ShardScores(
        detections=packed.take(torch.from_numpy(order)),
        images=pl.DataFrame(shard.rows, schema=IMAGE_SCHEMA, orient="row"),
    )


def _blank(nothing: Detections, count: int) -> Detections:
    """``count`` images without detections and with zero features."""
    features = nothing.image_features
    return replace(
        nothing,
        offsets=torch.zeros(count + 1, dtype=torch.int64),
        image_features=None if features is None else features.new_zeros(count, features.shape[1]),
    )


def _in_thread(
    shards: Generator[_Shard, None, None], *, stop: threading.Event
) -> Generator[_Shard, None, None]:
    """Run an iterator in a thread of its own, one item ahead of the caller."""
    done: queue.Queue[_Shard | BaseException | None] = queue.Queue(maxsize=1)

    def put(item: _Shard | BaseException | None) -> None:
        while not stop.is_set():
            try:
                return done.put(item, timeout=0.1)
            except queue.Full:
                continue
        return None

    def work() -> None:
        try:
            for shard in shards:
                put(shard)
                if stop.is_set():
                    break
            put(None)
        except BaseException as error:  # noqa: BLE001 - raised again where the results are read
            put(error)
        finally:
            shards.close()

    worker = threading.Thread(target=work, name="detal-score", daemon=True)
    worker.start()
    try:
        while (item := done.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        worker.join()
