"""Tasks side by side in processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any

__all__ = ["RunTasks", "Task", "process_tasks"]

Task = tuple[Any, ...]
"""A function of a module and its arguments, all of them picklable."""

RunTasks = Callable[[Sequence[Task]], Iterator[tuple[int, Any]]]
"""Runs tasks and yields, as each is finished, its number and its result."""


@contextmanager
def process_tasks(workers: int) -> Iterator[RunTasks]:
    """Run tasks in ``workers`` processes of one thread each."""
    # Children inherit the environment: one thread each, or they would fight for the cores.
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:

        def run(tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
            number = {pool.submit(*task): i for i, task in enumerate(tasks)}
            try:
                for future in as_completed(number):
                    yield number[future], future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

        yield run
