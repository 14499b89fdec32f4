"""Units of work of a study: side by side in processes, one run to a folder, and its record."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from pydantic import ValidationError

import detal
from detal.config import SimulateConfig
from detal.errors import ConfigError
from detal.files import read_own, write_json
from detal.locking import locked
from detal.runs.provenance import commit, machine, versions
from detal.runs.workers import RunTasks, Task

__all__ = ["claimed", "recorded", "run_units", "write_json"]

# What may change between a run and the one that goes on with it.
_FREE_KEYS = {"workers", "output", "rounds", "strategies", "seeds"}


@contextmanager
def claimed(config: SimulateConfig) -> Iterator[None]:
    """Hold the folder of a study.

    Raises:
        ConfigError: If it belongs to another study, or another run works in it.
    """
    output = Path(config.output)
    with locked(output / ".lock", work=output):
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
def recorded(path: Path, *, workers: int, done: Callable[[], int]) -> Iterator[Callable[[], None]]:
    """Add to the file ``path`` where the trainings that this run finished come from.

    Args:
        path: A list of runs.
        workers: Processes side by side.
        done: Counts the trainings that are finished.

    Yields:
        What brings the file up to date: called after each unit, so that a kill loses none.
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

    def save() -> None:
        trained = done() - before
        if trained:
            spent = {"seconds": round(time.time() - started, 1), "trainings": trained}
            write_json(path, [*runs, {**origin, **spent}])

    try:
        yield save
    finally:
        save()


def run_units(
    stages: Iterable[Sequence[Task]], *, runner: RunTasks, progress: Callable[[], None]
) -> None:
    """Run stage after stage, the units of each side by side.

    Args:
        stages: A stage is asked for when the one before it is finished.
        runner: Runs the units of a stage.
        progress: Called after each unit.

    Raises:
        WorkerError: If a process was killed, as the system does when memory runs out.
    """
    for units in stages:
        for _ in runner(units):
            progress()
