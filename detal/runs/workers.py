"""Tasks side by side in processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from detal.errors import WorkerError
from detal.interrupts import follow_parent

__all__ = ["RunTasks", "Task", "process_tasks"]

Task = tuple[Any, ...]
"""A function of a module and its arguments, all of them picklable."""

RunTasks = Callable[[Sequence[Task]], Iterator[tuple[int, Any]]]
"""Runs tasks and yields, as each is finished, its number and its result."""


@contextmanager
def process_tasks(workers: int) -> Iterator[RunTasks]:
    """Run tasks in ``workers`` processes of one thread each.

    Running them raises `WorkerError` if a process was killed, as the system does when memory runs
    out.
    """
    # Children inherit the environment: one thread each, or they would fight for the cores.
    os.environ["OMP_NUM_THREADS"] = "1"
    others = {child.pid for child in multiprocessing.active_children()}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=follow_parent) as pool:

        def run(tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
            number = {pool.submit(*task): i for i, task in enumerate(tasks)}
            for future in as_completed(number):
                yield number[future], future.result()

        try:
            yield run
        except BrokenProcessPool:
            raise WorkerError(
                f"a worker process was killed, most likely because memory ran out with {workers} "
                "of them: take fewer workers or a smaller batch_size; what is finished is kept, "
                "run the same command to go on"
            ) from None
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            if not isinstance(error, Exception):  # interrupted: nobody waits for a training
                for child in multiprocessing.active_children():
                    if child.pid not in others:
                        child.terminate()
            raise
