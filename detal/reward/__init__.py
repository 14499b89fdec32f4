"""What would a batch bring? Look-up tables of the mAP that labels buy."""

from detal.reward.category_curves import CategoryCurves, fit_category_curves
from detal.reward.curve_table import CurveState, CurveTable
from detal.reward.fitted_curves import FittedCurves
from detal.reward.novelty import Novelty
from detal.reward.output_change import ChangeState, OutputChangeTable, ReferenceOutputs
from detal.reward.table import RewardTable

__all__ = [
    "CategoryCurves",
    "ChangeState",
    "CurveState",
    "CurveTable",
    "FittedCurves",
    "Novelty",
    "OutputChangeTable",
    "ReferenceOutputs",
    "RewardTable",
    "fit_category_curves",
]
