"""What would a batch bring? Look-up tables of the mAP that labels buy."""

from detal.reward.category_curves import CategoryCurves, fit_category_curves
from detal.reward.curve_table import CurveState, CurveTable
from detal.reward.novelty import Novelty
from detal.reward.table import RewardTable

__all__ = [
    "CategoryCurves",
    "CurveState",
    "CurveTable",
    "Novelty",
    "RewardTable",
    "fit_category_curves",
]
