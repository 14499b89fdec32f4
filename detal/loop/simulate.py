"""A study: strategies x seeds x rounds on a labelled dataset, arms side by side, resumable."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from detal.config import SimulateConfig, StrategyConfig
from detal.errors import ConfigError
from detal.locking import locked
from detal.loop.arm import arm_folder, initial_folder, run_arm, run_initial
from detal.loop.oracle import ORACLES, check_oracle
from detal.loop.study import open_study
from detal.loop.study_tables import check_tables
from detal.loop.summary import write_summary
from detal.loop.units import claimed, recorded, run_units
from detal.runs.workers import RunTasks, process_tasks
from detal.strategies import make_strategy

__all__ = ["run_simulation"]


def run_simulation(
    config: SimulateConfig,
    *,
    runner: AbstractContextManager[RunTasks] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Run what is not done yet of a study and summarise it.

    Rounds, strategies and seeds may be added to a finished study; anything else that differs from
    what the folder was made with is refused.

    Args:
        config: The study.
        runner: Runs the arms; by default processes of this machine, ``config.workers`` of them.
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
            needs = make_strategy(strategy.name, **strategy.options).needs
            check_tables(config, needs, strategy=strategy.label)
    labels = [strategy.label for strategy in config.strategies]
    if len(set(labels)) != len(labels):
        raise ConfigError(f"every strategy needs a label of its own, got {labels}")
    output = Path(config.output)
    with claimed(config):
        open_study(config)
        with (
            recorded(
                output / "runs.json", workers=config.workers, done=lambda: _rounds_done(config)
            ) as save,
            runner or process_tasks(config.workers) as run,
        ):
            _run_units(config, run, progress or (lambda done, total: None), save)
    return write_summary(output)


def _run_units(
    config: SimulateConfig,
    runner: RunTasks,
    progress: Callable[[int, int], None],
    save: Callable[[], None],
) -> None:
    """Initial sets first, then all arms."""
    initial = [(_run_unit, config, None, seed) for seed in config.seeds]
    arms = [
        (_run_unit, config, strategy, seed)
        for seed in config.seeds
        for strategy in config.strategies
    ]
    total = len(initial) + len(arms) * config.rounds
    progress(_rounds_done(config), total)

    def advance() -> None:
        save()
        progress(_rounds_done(config), total)

    run_units((initial, arms), runner=runner, progress=advance)


def _run_unit(config: SimulateConfig, strategy: StrategyConfig | None, seed: int) -> None:
    output = Path(config.output)
    folder = (
        initial_folder(output, seed) if strategy is None else arm_folder(output, strategy, seed)
    )
    # The child of a killed run may still be ending here.
    with locked(folder / ".lock", work=folder, wait=True):
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
