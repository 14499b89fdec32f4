"""Greedy on a table: what an agent must beat, and may learn from."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detal.reward import RewardTable

__all__ = ["greedy_batch"]

Floats = NDArray[np.float64]


def greedy_batch(table: RewardTable[Any], *, costs: Floats, amount: float) -> NDArray[np.int64]:
    """The candidate of largest gain per cost that fits, again and again; lazy (Minoux 1978).

    Args:
        table: Whose gains never grow while a batch does.
        costs: (P,) > 0.
        amount: Most that the batch may cost.

    Returns:
        (M,) candidates in the order they were picked; of equal ones the first.
    """
    state = table.start()
    gains = table.marginal_gain(state, np.arange(len(costs)))
    queue = [(-gain / cost, i, 0) for i, (gain, cost) in enumerate(zip(gains, costs, strict=True))]
    heapq.heapify(queue)
    batch: list[int] = []
    while queue:
        _, index, seen = heapq.heappop(queue)
        if costs[index] > amount:
            continue
        if seen < len(batch):
            gain = float(table.marginal_gain(state, np.array([index]))[0])
            heapq.heappush(queue, (-gain / costs[index], index, len(batch)))
            continue
        state = table.add(state, index)
        amount -= costs[index]
        batch.append(index)
    return np.array(batch, dtype=np.int64)
