"""Sampling without replacement, and its exact log-probability.

A batch is drawn image by image from a softmax over the scores, renormalised each time over what is
left and fits (Plackett 1975, Luce 1959). Adding Gumbel noise to the scores once and taking the
highest that fits, again and again, draws exactly that (Gumbel top-k; Kool, van Hoof & Welling,
ICML 2019): what no longer fits never fits again, and the others stay independent.

Shapes: K batches side by side, n candidates, M picks (rows padded with -1 at the end).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Picked", "follow", "log_probs_and_entropies", "take_highest"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Picked:
    """What was picked, and from what.

    Attributes:
        picks: (K, M).
        lasts: (K, n) for how many of the picks each candidate could be had; 0 where for none.
        left: (K,) what is left of the budget.
    """

    picks: Integers
    lasts: Integers
    left: Floats


def take_highest(
    values: Floats, *, costs: Floats, left: Floats, until: Floats, closed: NDArray[np.bool_]
) -> Picked:
    """Take the highest value that fits, as long as one does and more than ``until`` is left.

    Args:
        values: (K, n) scores, with Gumbel noise to draw from them.
        costs: (n,) > 0.
        left: (K,) what may be spent.
        until: (K,) each batch stops when no more than this is left.
        closed: (K, n) what cannot be had.
    """
    values = np.where(closed, -np.inf, values)
    left, lasts = left.copy(), np.zeros(values.shape, dtype=np.int64)
    rows, columns = np.arange(len(values)), []
    while len(values) and values.shape[1]:
        values[costs > left[:, None]] = -np.inf
        best = values.argmax(axis=1)
        goes_on = np.isfinite(values[rows, best]) & (left > until)
        if not goes_on.any():
            break
        lasts += np.isfinite(values) & goes_on[:, None]
        values[rows[goes_on], best[goes_on]] = -np.inf
        left[goes_on] -= costs[best[goes_on]]
        columns.append(np.where(goes_on, best, -1))
    picks = np.stack(columns, axis=1) if columns else np.zeros((len(values), 0), dtype=np.int64)
    return Picked(picks, lasts, left)


def follow(picks: Integers, *, costs: Floats, left: Floats, closed: NDArray[np.bool_]) -> Picked:
    """`Picked` of the given picks (K, M), in their order."""
    left, closed = left.copy(), closed.copy()
    lasts = np.zeros(closed.shape, dtype=np.int64)
    for column in picks.T:
        goes_on = np.flatnonzero(column >= 0)
        lasts[goes_on] += ~closed[goes_on] & (costs <= left[goes_on, None])
        closed[goes_on, column[goes_on]] = True
        left[goes_on] -= costs[column[goes_on]]
    return Picked(picks, lasts, left)


def log_probs_and_entropies(scores: Tensor, picked: Picked) -> tuple[Tensor, Tensor]:
    """How likely each pick was, given those before it, and how open the choice was.

    As candidates only drop out, the normalisers of all picks come from one cumulated sum over the
    candidates, those that last longest first: O(n log n + M).

    Args:
        scores: (K, n).
        picked: What was picked.

    Returns:
        (K, M) log-probabilities and (K, M) entropies in nats; 0 where nothing was picked.
    """
    lasts, picks = torch.from_numpy(picked.lasts), torch.from_numpy(picked.picks)
    scores = scores.double()
    if picks.numel() == 0:
        return scores.new_zeros(picks.shape), scores.new_zeros(picks.shape)
    lasts_longest, order = lasts.sort(dim=1, descending=True, stable=True)
    ordered = scores.gather(1, order)
    rank = torch.arange(picks.shape[1]).expand(picks.shape).contiguous()
    open_at = (lasts.shape[1] - torch.searchsorted(lasts_longest.flip(1), rank, right=True)).clamp(
        min=1
    )
    normaliser = ordered.logcumsumexp(dim=1)
    # Below -700 a double underflows, and candidates that all do would divide 0 by 0.
    shifted = (ordered - ordered.amax(dim=1, keepdim=True)).clamp(min=-700)
    # sum p s over what is open = cumulated e^s s / cumulated e^s
    weighted = (shifted.exp() * shifted).cumsum(dim=1) / shifted.exp().cumsum(dim=1)
    mean = weighted + ordered.amax(dim=1, keepdim=True)
    chosen = scores.gather(1, picks.clamp(min=0))
    log_probs = chosen - normaliser.gather(1, open_at - 1)
    entropies = (normaliser - mean).gather(1, open_at - 1).clamp(min=0)
    real = picks >= 0
    return log_probs.where(real, 0.0), entropies.where(real, 0.0)
