"""From one number per box to one number per image."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from detal.errors import ConfigError, unknown_name
from detal.structures import Detections

__all__ = ["AGGREGATIONS", "EMPTY_POLICIES", "Aggregation", "EmptyPolicy", "aggregate"]

Aggregation = Literal["sum", "mean", "max", "top_k_mean"]
EmptyPolicy = Literal["first", "last", "score"]
AGGREGATIONS: tuple[str, ...] = get_args(Aggregation)
EMPTY_POLICIES: tuple[str, ...] = get_args(EmptyPolicy)


def aggregate(
    values: Tensor,
    detections: Detections,
    *,
    how: Aggregation = "sum",
    k: int = 5,
    empty: EmptyPolicy = "score",
    empty_score: float = 0.0,
) -> Tensor:
    """One number per image from one number per box.

    Args:
        values: (N,) finite, one per detection.
        detections: What ``values`` belong to.
        how: ``sum`` favours crowded images; ``mean`` favours images with few, unsure boxes; ``max``
            looks at one box; ``top_k_mean`` is the mean of the ``k`` largest (of all, if fewer).
        k: Boxes that count in ``top_k_mean``, >= 1.
        empty: Images without detections get +inf (``first``), -inf (``last``) or ``empty_score``.
        empty_score: See ``empty``; finite.

    Returns:
        (B,) float64.

    Raises:
        ConfigError: If an option is unknown or out of range.
    """
    check_options(how=how, k=k, empty=empty, empty_score=empty_score)
    index, counts = detections.image_index, detections.counts
    values = values.double()
    if how == "max":
        start = torch.full(counts.shape, -math.inf, dtype=torch.float64, device=values.device)
        result = start.scatter_reduce_(0, index, values, reduce="amax")
    else:
        if how == "top_k_mean":
            values, counts = _keep_top(values, detections, k), counts.clamp(max=k)
        result = torch.zeros(counts.shape, dtype=torch.float64, device=values.device)
        result.index_add_(0, index, values)
        if how != "sum":
            result = result / counts.clamp(min=1)
    filler = {"first": math.inf, "last": -math.inf, "score": float(empty_score)}[empty]
    return result.masked_fill(counts == 0, filler)


def _keep_top(values: Tensor, detections: Detections, k: int) -> Tensor:
    """``values`` (N,), sorted by image, with all but the ``k`` largest of each image set to 0."""
    by_value = values.argsort(descending=True, stable=True)
    order = by_value[detections.image_index[by_value].argsort(stable=True)]
    starts = detections.offsets[:-1].repeat_interleave(detections.counts)
    rank = torch.arange(len(values), device=values.device) - starts
    return values[order].masked_fill(rank >= k, 0.0)


def check_options(*, how: str, k: object, empty: str, empty_score: object) -> None:
    """Raise a ConfigError for an unknown or out-of-range option of `aggregate`."""
    if how not in AGGREGATIONS:
        raise ConfigError(unknown_name("aggregation", str(how), AGGREGATIONS))
    if empty not in EMPTY_POLICIES:
        raise ConfigError(
            unknown_name("policy for images without detections", str(empty), EMPTY_POLICIES)
        )
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ConfigError(f"k (boxes in top_k_mean) must be an integer >= 1, got {k!r}")
    if (
        isinstance(empty_score, bool)
        or not isinstance(empty_score, int | float)
        or not math.isfinite(empty_score)
    ):
        raise ConfigError(f"empty_score must be a finite number, got {empty_score!r}")
