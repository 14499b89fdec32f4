"""How many images of a batch show what another labelled image shows already.

Measured on the pixels and not on a detector's features, so that arms with different detectors are
compared by one yardstick.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from detal.datasets import read_image

__all__ = ["near_duplicate_share", "thumbnails"]

_SIDE = 16
_SAME = 0.95


def thumbnails(paths: Sequence[str]) -> NDArray[np.float32]:
    """(P, 256) grey 16 x 16 thumbnails with zero mean and unit length.

    Raises:
        DataError: If an image cannot be read.
    """
    thumbs = np.zeros((len(paths), _SIDE * _SIDE), dtype=np.float32)
    for row, path in enumerate(paths):
        grey = cv2.cvtColor(read_image(path).pixels, cv2.COLOR_RGB2GRAY)
        small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
        centred = small.astype(np.float32).ravel() - small.mean()
        thumbs[row] = centred / max(float(np.linalg.norm(centred)), 1e-6)
    return thumbs


def near_duplicate_share(batch: NDArray[np.float32], before: NDArray[np.float32]) -> float:
    """Share of the batch that resembles an earlier image or an earlier one of the batch.

    Args:
        batch: (K, T) thumbnails, in the order they were labelled.
        before: (L, T) thumbnails of what was labelled before.

    Returns:
        In [0, 1]: images whose thumbnail correlates above 0.95 with an earlier one; 0 for an empty
        batch.
    """
    if len(batch) == 0:
        return 0.0
    known = np.concatenate([before.reshape(-1, batch.shape[1]), batch])
    similarity = batch @ known.T  # (K, L + K)
    earlier = np.arange(len(known))[None] < len(before) + np.arange(len(batch))[:, None]
    return float(((similarity > _SAME) & earlier).any(axis=1).mean())
