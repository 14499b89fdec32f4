"""Units of work of a study: side by side in processes, one run to a folder, and its record."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import ValidationError

import detal
from detal.config import SimulateConfig
from detal.errors import ConfigError
from detal.files import read_own, write_json
from detal.runs.provenance import commit, machine, versions

__all__ = ["Unit", "claimed", "recorded", "run_units", "write_json"]

Unit = tuple[Any, ...]
"""A function of a module and its arguments, all of them picklable."""

# What may change between a run and the one that goes on with it.
_FREE_KEYS = {"workers", "output", "rounds", "strategies", "seeds"}


@contextmanager
def claimed(config: SimulateConfig) -> Iterator[None]:
    """Hold the folder of a study.

    Raises:
        ConfigError: If it belongs to another study, or another run works in it.
    """
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(output / ".lock").acquire(timeout=0)
    except Timeout:
        raise ConfigError(f"another run works in {output}: wait for it or stop it") from None
    with held:
        _claim(output, config)
        yield


def _claim(output: Path, config: SimulateConfig) -> None:
    """Write the study's config, or check it against the one that is there."""
    mine = config.model_dump(mode="json")
    path = output / "study.json"
    if path.exists():
        theirs = read_own(path)
        # Keys that this version added had their defaults then.
        with contextlib.suppress(ValidationError):
            theirs = SimulateConfig.model_validate(theirs).model_dump(mode="json")
        changed = [k for k in mine if k not in _FREE_KEYS and mine[k] != theirs.get(k)]
        if changed:
            raise ConfigError(
                f"{output} holds a study with another {', '.join(changed)}: choose another output"
            )
    write_json(path, mine)


@contextmanager
def recorded(path: Path, *, workers: int, done: Callable[[], int]) -> Iterator[None]:
    """Add to the file ``path`` where the trainings that this run finished come from.

    Args:
        path: A list of runs.
        workers: Processes side by side.
        done: Counts the trainings that are finished.
    """
    runs = read_own(path) if path.exists() else []
    before, started = done(), time.time()
    origin = {
        "started": datetime.fromtimestamp(started, tz=timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(Path(detal.__file__).parent),
        "machine": machine(),
        "versions": versions(),
        "workers": workers,
    }
    try:
        yield
    finally:
        trained = done() - before
        if trained:
            spent = {"seconds": round(time.time() - started, 1), "trainings": trained}
            write_json(path, [*runs, {**origin, **spent}])


def run_units(
    stages: Iterable[Sequence[Unit]], *, workers: int, progress: Callable[[], None]
) -> None:
    """Run stage after stage, the units of each side by side in processes of one thread.

    Args:
        stages: A stage is asked for when the one before it is finished.
        workers: Processes.
        progress: Called after each unit.
    """
    # Children inherit the environment: one thread each, or they would fight for the cores.
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for units in stages:
            futures = [pool.submit(*unit) for unit in units]
            try:
                for future in as_completed(futures):
                    future.result()
                    progress()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
