"""Measured tables with chosen contents."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detal.reward import GroupGains


def group_gains(
    group_ap: Sequence[Sequence[float]],
    control_ap: Sequence[Sequence[float]],
    *,
    class_names: Sequence[str] = ("cat", "dog", "owl"),
    centres: np.ndarray | None = None,
    trained: Sequence[int] | None = None,
    labeled: Sequence[int] | None = None,
) -> GroupGains:
    """Groups of 20 candidates; 10 of each were trained on, with 30 pseudo-labels."""
    number = len(group_ap)
    return GroupGains(
        class_names=tuple(class_names),
        centres=np.eye(number, dtype=np.float32) if centres is None else centres,
        images=np.full(number, 20),
        trained=np.full(number, 10) if trained is None else np.array(trained),
        pseudo_boxes=np.full(number, 30),
        labeled=np.zeros(number, dtype=np.int64) if labeled is None else np.array(labeled),
        group_ap=np.array(group_ap, dtype=np.float64),
        control_ap=np.array(control_ap, dtype=np.float64),
        made_of={"seed": 0},
    )
