"""Which part of the work belongs to this process, as torchrun and SLURM say it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from detal.errors import ConfigError

__all__ = ["WHOLE", "Slice", "slice_of"]


@dataclass(frozen=True)
class Slice:
    """Every ``count``-th piece of work, from number ``index`` on.

    Attributes:
        index: 0 to ``count`` - 1.
        count: Processes that share the work.
        local_index: Number of this process on its machine.
        local_count: Processes on its machine, 1 where something else keeps them to their cores.
    """

    index: int = 0
    count: int = 1
    local_index: int = 0
    local_count: int = 1

    def has(self, number: int) -> bool:
        """Whether the piece ``number`` is this process's."""
        return number % self.count == self.index

    def device(self, wanted: str) -> str:
        """The device of this process: of several GPUs that it sees, one each."""
        if self.count == 1 or wanted not in {"auto", "cuda"}:
            return wanted
        import torch

        gpus = torch.cuda.device_count()
        return f"cuda:{self.local_index % gpus}" if gpus else wanted

    def threads(self, wanted: int | None) -> int | None:
        """CPU threads of this process: its share of the machine's cores unless told otherwise."""
        if wanted is not None or self.local_count == 1:
            return wanted
        return max(1, _cores() // self.local_count)


WHOLE = Slice()


def slice_of(environment: Mapping[str, str]) -> Slice:
    """The slice that the environment of a process names.

    ``torchrun`` sets RANK and WORLD_SIZE. SLURM sets SLURM_PROCID and SLURM_NTASKS in each task of
    a job, and in a job array SLURM_ARRAY_TASK_ID, _MIN and _COUNT, too: then each task of each job
    of the array is one process.

    Raises:
        ConfigError: If it names none, or one that cannot be.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        return _checked(
            Slice(
                index=_number(environment, "RANK"),
                count=_number(environment, "WORLD_SIZE"),
                local_index=_number(environment, "LOCAL_RANK", 0),
                local_count=_number(environment, "LOCAL_WORLD_SIZE", 1),
            )
        )
    in_array = "SLURM_ARRAY_TASK_ID" in environment
    if not in_array and "SLURM_PROCID" not in environment:
        raise ConfigError(
            "the engine slice needs RANK and WORLD_SIZE (set by torchrun) or SLURM_PROCID and "
            "SLURM_NTASKS (set by srun) in the environment, found neither; on one machine: "
            "torchrun --standalone --nproc-per-node=2 -m detal score … --engine slice"
        )
    tasks = _number(environment, "SLURM_NTASKS", 1)
    job, jobs = 0, 1
    if in_array:
        job = _number(environment, "SLURM_ARRAY_TASK_ID")
        job -= _number(environment, "SLURM_ARRAY_TASK_MIN", 0)
        jobs = _number(environment, "SLURM_ARRAY_TASK_COUNT")
    return _checked(
        Slice(
            index=job * tasks + _number(environment, "SLURM_PROCID", 0),
            count=jobs * tasks,
            local_index=_number(environment, "SLURM_LOCALID", 0),
        )
    )


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name, "" if default is None else str(default))
    if not text.isdecimal():
        raise ConfigError(f"{name} must be a number >= 0 in the environment, got {text!r}")
    return int(text)


def _checked(part: Slice) -> Slice:
    if not 0 <= part.index < part.count:
        raise ConfigError(
            f"the number of a process must be below that of all of them, got {part.index} of "
            f"{part.count}; job arrays must be numbered in steps of one (--array=0-7)"
        )
    return part


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
