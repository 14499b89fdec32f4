"""How far candidates are from the nearest of what is known, looked up only when asked for.

A distance to the nearest known point never rises while more become known, so what was computed
earlier bounds it from above (as in Minoux's lazy greedy, 1978): whoever looks for the farthest
candidate needs few of them anew. What was put off is done for many points at once, in matrix
products, which the processor does ten times as fast as one matrix-vector product after the other.

Shapes: P candidates, n asked about, K points added.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["CosinePoints", "EuclideanPoints", "GrowingRows", "Known", "Points", "Rows"]

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
Rows = Callable[[Integers], Floats]
"""(n, D) coordinates of the candidates ``index`` (n,)."""

_Own = TypeVar("_Own", bound="_Stacked")
_CELLS = 1_048_576
_LEAST_ROWS = 16
_FIRST_CAPACITY = 64


class Points(Protocol):
    """Known points that grow in number, K of them, and the distance to them."""

    def append(self, candidate: int) -> None:
        """Candidate ``candidate`` becomes known."""
        ...

    def nearest(self, index: Integers, *, first: int) -> Floats:
        """(n,) distance of the candidates ``index`` to the nearest point from ``first`` on."""
        ...

    def copy(self, count: int) -> Points:
        """The first ``count`` points, to grow on their own."""
        ...


class Known:
    """Distances of P candidates to the nearest known point; the older state stays valid.

    Args:
        start: (P,) distances before any of these points became known, infinite if nothing was.
        points: The points, none yet.
    """

    def __init__(self, start: Floats, points: Points) -> None:
        self._bounds = _Bounds(start, points)
        self._count = 0

    def __len__(self) -> int:
        """K."""
        return self._count

    def add(self, candidate: int) -> Known:
        """What is known once ``candidate`` is, too."""
        later = Known.__new__(Known)
        later._bounds = self._current()
        later._bounds.append(candidate)
        later._count = self._count + 1
        return later

    def distance(self, index: Integers) -> Floats:
        """(n,) distances of the candidates ``index`` (n,)."""
        return self._current().distance(index)

    def _current(self) -> _Bounds:
        """The distances, shared with later states until one of the two goes its own way."""
        if len(self._bounds) != self._count:
            self._bounds = self._bounds.copy(self._count)
        return self._bounds


class _Bounds:
    """Upper bounds, and how many of the points each takes into account."""

    def __init__(self, start: Floats, points: Points) -> None:
        self._start = start
        self._points = points
        self._candidates: list[int] = []
        self._seen = np.zeros(len(start), dtype=np.int32)
        self.bound = start.copy()

    def __len__(self) -> int:
        return len(self._candidates)

    def append(self, candidate: int) -> None:
        self._points.append(candidate)
        self._candidates.append(candidate)

    def distance(self, index: Integers) -> Floats:
        count = len(self)
        stale = index[self._seen[index] < count]
        if len(stale):
            # Rows that lack about as many points share a product.
            stale = stale[np.argsort(self._seen[stale], kind="stable")]
            start = 0
            while start < len(stale):
                first = int(self._seen[stale[start]])
                rows = stale[start : start + max(_LEAST_ROWS, _CELLS // (count - first))]
                nearest = self._points.nearest(rows, first=first)
                self.bound[rows] = np.minimum(self.bound[rows], nearest)
                start += len(rows)
            self._seen[stale] = count
        return np.asarray(self.bound[index])

    def copy(self, count: int) -> _Bounds:
        earlier = _Bounds(self._start, self._points.copy(count))
        earlier._candidates = self._candidates[:count]
        usable = self._seen <= count
        earlier.bound = np.where(usable, self.bound, self._start)
        earlier._seen = np.where(usable, self._seen, 0).astype(np.int32)
        return earlier


class GrowingRows:
    """Rows (K, D) that grow in number, at the cost of each row's own copy."""

    def __init__(self, rows: Floats | None = None) -> None:
        self._rows = np.empty((0, 0), dtype=np.float32) if rows is None else rows
        self._count = len(self._rows)

    def __len__(self) -> int:
        return self._count

    def append(self, row: Floats) -> None:
        """One more row (D,)."""
        if self._count == len(self._rows):
            grown = np.empty((max(_FIRST_CAPACITY, 2 * self._count), len(row)), dtype=np.float32)
            if self._count:
                grown[: self._count] = self._rows
            self._rows = grown
        self._rows[self._count] = row
        self._count += 1

    def since(self, first: int = 0) -> Floats:
        """(K - first, D) rows, not to be changed."""
        return self._rows[first : self._count]

    def copy(self, count: int) -> GrowingRows:
        """The first ``count`` rows, to grow on their own."""
        return GrowingRows(self._rows[:count].copy())


class _Stacked:
    """Points that keep a row of each that joined."""

    def __init__(self, rows: Rows, stack: GrowingRows | None = None) -> None:
        self._rows = rows
        self._stack = GrowingRows() if stack is None else stack

    def append(self, candidate: int) -> None:
        """See `Points`."""
        self._stack.append(self._rows(np.array([candidate]))[0])

    def copy(self: _Own, count: int) -> _Own:
        """See `Points`."""
        return type(self)(self._rows, self._stack.copy(count))


class CosinePoints(_Stacked):
    """Points at 1 - the inner product, in [0, 2].

    Args:
        rows: Unit vectors of the candidates; a zero vector is at distance 1 from everything.
    """

    def nearest(self, index: Integers, *, first: int) -> Floats:
        """See `Points`."""
        highest = (self._rows(index) @ self._stack.since(first).T).max(axis=1)
        return np.asarray(np.clip(1 - highest, 0, 2))


class EuclideanPoints(_Stacked):
    """Points at Euclidean distance.

    Args:
        rows: Coordinates of the candidates, with the origin among them: far from it they cancel.
    """

    def nearest(self, index: Integers, *, first: int) -> Floats:
        """See `Points`."""
        rows, points = self._rows(index), self._stack.since(first)
        relative = np.einsum("kd,kd->k", points, points) - 2 * (rows @ points.T)
        squared = relative.min(axis=1) + np.einsum("nd,nd->n", rows, rows)
        return np.asarray(np.sqrt(np.maximum(squared, 0)))
