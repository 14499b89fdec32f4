"""What every training has in common: its result, its record on disk and its learning rate."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from detal.errors import ConfigError, StoreError
from detal.files import read_json, write_atomic

__all__ = [
    "EARLY_FOLDER",
    "StopReason",
    "TrainRecord",
    "TrainResult",
    "check_amounts",
    "check_steps",
    "digest",
    "early_weights",
    "file_digest",
    "learning_rate_factor",
]

How = Literal["trained", "resumed", "restarted", "finished"]
StopReason = Literal["steps", "time"]

RECORD_NAME = "train.json"
EARLY_FOLDER = "early"


@dataclass(frozen=True)
class TrainResult:
    """A finished training.

    Attributes:
        weights: The weights file.
        steps: Optimisation steps done in all.
        seconds: Wall time of these steps, earlier sessions included.
        how: ``trained`` in one go, ``resumed`` from the last checkpoint of an interrupted run,
            ``restarted`` because an interrupted run had left none, ``finished`` if the same
            training had been done before and nothing was done now.
        stopped_by: ``steps`` or ``time`` (the budget ran out first).
        losses: Mean of each part of the loss over the last stretch of steps.
    """

    weights: Path
    steps: int
    seconds: float
    how: How
    stopped_by: StopReason
    losses: dict[str, float]


@dataclass(frozen=True)
class TrainRecord:
    """The file that says whether a folder's training is done, and of what.

    Attributes:
        key: Digest of everything that determines the weights.
        done: False while the training runs (or after it was killed).
        steps: As in `TrainResult`.
        seconds: As in `TrainResult`.
        stopped_by: As in `TrainResult`.
        losses: As in `TrainResult`.
        settings: What was asked for, for people.
    """

    key: str
    done: bool
    steps: int = 0
    seconds: float = 0.0
    stopped_by: StopReason = "steps"
    losses: dict[str, float] | None = None
    settings: dict[str, Any] | None = None

    @staticmethod
    def read(folder: Path) -> TrainRecord | None:
        """The record in a folder, or None if there is none.

        Raises:
            StoreError: If there is one that cannot be read.
        """
        path = folder / RECORD_NAME
        if not path.is_file():
            return None
        try:
            return TrainRecord(**read_json(path))
        except (ValueError, TypeError) as error:
            raise StoreError(
                f"{path} must be a training record of detal ({error}): train into another folder"
            ) from error

    def write(self, folder: Path) -> None:
        """Write it, whole or not at all."""
        text = json.dumps(asdict(self), indent=1, default=str, ensure_ascii=False)
        write_atomic(folder / RECORD_NAME, text.encode())

    def result(self, weights: Path, how: How) -> TrainResult:
        """The result that this record tells of."""
        return TrainResult(
            weights=weights,
            steps=self.steps,
            seconds=self.seconds,
            how=how,
            stopped_by=self.stopped_by,
            losses=dict(self.losses or {}),
        )


def learning_rate_factor(
    step: int, *, steps: int, warmup_steps: int, final: float = 0.01, cosine: bool = True
) -> float:
    """Factor on the base learning rate: linear rise, then a fall over the rest of the run.

    Args:
        step: The step about to be done, 0..steps-1.
        steps: Steps of the whole run.
        warmup_steps: Steps of the rise; the first has ``1 / warmup_steps``.
        final: Factor that the fall ends at, in [0, 1].
        cosine: Fall along a half cosine; a straight line otherwise.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    share = (step - warmup_steps) / max(1, steps - warmup_steps)
    fall = (1 + math.cos(math.pi * share)) / 2 if cosine else 1 - share
    return final + (1 - final) * fall


def check_amounts(*, time_budget_s: float | None, **counts: int) -> None:
    """Check that the counts are at least 1 and the time budget, if any, is positive.

    Raises:
        ConfigError: If not.
    """
    for name, value in counts.items():
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}")
    if time_budget_s is not None and not time_budget_s > 0:
        raise ConfigError(f"time_budget_s must be greater than 0, got {time_budget_s}")


def check_steps(keep_steps: Sequence[int], *, steps: int) -> None:
    """Check that the steps after which a checkpoint is kept rise and are steps of the run.

    Raises:
        ConfigError: If not.
    """
    edges = [0, *keep_steps, steps + 1]
    if any(a >= b for a, b in itertools.pairwise(edges)):
        raise ConfigError(
            f"steps to keep a checkpoint of must rise and be in 1..{steps}, got {list(keep_steps)}"
        )


def early_weights(folder: Path, step: int) -> Path:
    """Where a training in ``folder`` keeps the checkpoint of an early ``step``."""
    return folder / EARLY_FOLDER / f"{step}.pt"


def digest(parts: Iterable[Any]) -> str:
    """Hash of a sequence of values, by their ``repr``."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        state.update(f"{part!r}\x1f".encode())
    return state.hexdigest()


def file_digest(path: Path) -> str:
    """Hash of a file's bytes."""
    state = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()
