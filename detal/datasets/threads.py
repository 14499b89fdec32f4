"""Call a function on many things in threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["map_in_threads"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_CHUNK = 512  # calls under way at a time: bounds memory for any number of items


def map_in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int | None = None
) -> Iterator[Result]:
    """The results in order; for work that waits for disks or releases the interpreter's lock.

    Args:
        function: Safe to call from several threads.
        items: What to call it on.
        workers: Threads; by default a few per core.
    """
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(items), _CHUNK):
            yield from pool.map(function, items[start : start + _CHUNK])
