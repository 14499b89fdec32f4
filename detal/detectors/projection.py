"""Random projection of wide features to a fixed, smaller width."""

from __future__ import annotations

import torch
from torch import Tensor

from detal.seeding import generator

__all__ = ["projection"]


def projection(width: int, *, limit: int) -> Tensor | None:
    """A fixed Gaussian matrix that keeps distances, or None where nothing has to shrink.

    By the Johnson-Lindenstrauss lemma a distance between two projected vectors is off by a relative
    standard deviation of about ``sqrt(1 / (2 limit))``: 4 % at 256. The matrix depends on the two
    widths alone, so features of different runs can be compared.

    Args:
        width: Width of the features.
        limit: Greatest width wanted.

    Returns:
        (width, limit) float32 with variance ``1 / limit``, or None if ``width <= limit``.
    """
    if width <= limit:
        return None
    normal = generator(0, "projection", width, limit).standard_normal((width, limit))
    return torch.from_numpy(normal / limit**0.5).float()
