"""The tables that rest on trained detectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from detal.reward.fitted_curves import FittedCurves
from detal.reward.group_gains import GroupGains

__all__ = ["MeasuredTables", "TableName"]

TableName = Literal["curves", "groups"]


@dataclass(frozen=True, eq=False)
class MeasuredTables:
    """What variants of the round's detector showed; None where no strategy asked for it.

    Attributes:
        curves: AP of each category over its labelled objects.
        groups: Gains of groups of candidates.
    """

    curves: FittedCurves | None = None
    groups: GroupGains | None = None
