"""A study: strategies x seeds x rounds on a labelled dataset, arms side by side, resumable."""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import ValidationError

import detal
from detal.config import SimulateConfig, StrategyConfig
from detal.errors import ConfigError
from detal.loop.arm import arm_folder, initial_folder, run_arm, run_initial
from detal.loop.oracle import ORACLES, check_oracle
from detal.loop.study import open_study
from detal.loop.summary import write_summary
from detal.runs.provenance import commit, machine, versions
from detal.strategies import make_strategy

__all__ = ["run_simulation"]

log = logging.getLogger(__name__)

# What may change between a run and the one that goes on with it.
_FREE_KEYS = {"workers", "output", "rounds", "strategies", "seeds"}


def run_simulation(
    config: SimulateConfig, *, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Run what is not done yet of a study and summarise it.

    Rounds, strategies and seeds may be added to a finished study; anything else that differs from
    what the folder was made with is refused.

    Args:
        config: The study.
        progress: Called with the rounds done and the rounds of the study.

    Returns:
        The summary (see `detal.loop.summary.summarise`).

    Raises:
        ConfigError: If the folder belongs to another study, or another run works in it.
        DataError: If a dataset cannot be used.
    """
    for strategy in config.strategies:
        if strategy.name in ORACLES:
            check_oracle(strategy, has_reference=config.reference is not None)
        else:
            make_strategy(strategy.name, **strategy.options)
    labels = [strategy.label for strategy in config.strategies]
    if len(set(labels)) != len(labels):
        raise ConfigError(f"every strategy needs a label of its own, got {labels}")
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(output / ".lock", timeout=0):
            _claim(output, config)
            open_study(config)
            with _recorded(output, config):
                _run_units(config, progress or (lambda done, total: None))
    except Timeout:
        raise ConfigError(f"another run works in {output}: wait for it or stop it") from None
    return write_summary(output)


def _claim(output: Path, config: SimulateConfig) -> None:
    """Write the study's config, or check it against the one that is there."""
    mine = config.model_dump(mode="json")
    path = output / "study.json"
    if path.exists():
        theirs = json.loads(path.read_text(encoding="utf-8"))
        # Keys that this version added had their defaults then.
        with contextlib.suppress(ValidationError):
            theirs = SimulateConfig.model_validate(theirs).model_dump(mode="json")
        changed = [k for k in mine if k not in _FREE_KEYS and mine[k] != theirs.get(k)]
        if changed:
            raise ConfigError(
                f"{output} holds a study with another {', '.join(changed)}: choose another output"
            )
    _write_json(path, mine)


@contextmanager
def _recorded(output: Path, config: SimulateConfig) -> Iterator[None]:
    """Add to ``runs.json`` where the rounds that this run finished come from."""
    path = output / "runs.json"
    runs = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    before, started = _rounds_done(config), time.time()
    origin = {
        "started": datetime.fromtimestamp(started, tz=timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(Path(detal.__file__).parent),
        "machine": machine(),
        "versions": versions(),
        "workers": config.workers,
    }
    try:
        yield
    finally:
        trained = _rounds_done(config) - before
        if trained:
            done = {"seconds": round(time.time() - started, 1), "trainings": trained}
            _write_json(path, [*runs, {**origin, **done}])


def _write_json(path: Path, value: Any) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False), encoding="utf-8")
    temporary.replace(path)


def _run_units(config: SimulateConfig, progress: Callable[[int, int], None]) -> None:
    """Initial sets first, then all arms, side by side in processes of one thread."""
    initial = [(config, None, seed) for seed in config.seeds]
    arms = [(config, strategy, seed) for seed in config.seeds for strategy in config.strategies]
    total = len(initial) + len(arms) * config.rounds
    progress(_rounds_done(config), total)
    # Children inherit the environment: one thread each, or they would fight for the cores.
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(
        config.workers, mp_context=multiprocessing.get_context("spawn")
    ) as pool:
        for units in (initial, arms):
            futures = [pool.submit(_run_unit, *unit) for unit in units]
            try:
                for future in as_completed(futures):
                    future.result()
                    progress(_rounds_done(config), total)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _run_unit(config: SimulateConfig, strategy: StrategyConfig | None, seed: int) -> None:
    output = Path(config.output)
    folder = (
        initial_folder(output, seed) if strategy is None else arm_folder(output, strategy, seed)
    )
    folder.mkdir(parents=True, exist_ok=True)
    # The child of a killed run may still be at work here: wait, then go on from what it finished.
    with FileLock(folder / ".lock"):
        study = open_study(config)
        if strategy is None:
            run_initial(study, seed)
        else:
            run_arm(study, strategy, seed)


def _rounds_done(config: SimulateConfig) -> int:
    output = Path(config.output)
    folders: Iterable[Path] = [
        *(initial_folder(output, seed) for seed in config.seeds),
        *(
            arm_folder(output, strategy, seed) / f"round-{round_idx}"
            for strategy in config.strategies
            for seed in config.seeds
            for round_idx in range(1, config.rounds + 1)
        ),
    ]
    return sum((folder / "result.json").exists() for folder in folders)
