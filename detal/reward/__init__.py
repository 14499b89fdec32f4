"""What would a batch bring? Look-up tables of the mAP that labels buy."""

from detal.reward.batched import BatchedTable, OneByOne, batched
from detal.reward.category_curves import CategoryCurves, fit_category_curves
from detal.reward.curve_table import CurveState, CurveStates, CurveTable
from detal.reward.fitted_curves import FittedCurves
from detal.reward.group_gains import GroupGains, ShrunkGains, shrunk_gains
from detal.reward.measured import MeasuredTables, TableName
from detal.reward.novelty import Novelty
from detal.reward.output_change import ChangeState, OutputChangeTable, ReferenceOutputs
from detal.reward.table import RewardTable
from detal.reward.variant_table import GroupState, VariantTable

__all__ = [
    "BatchedTable",
    "CategoryCurves",
    "ChangeState",
    "CurveState",
    "CurveStates",
    "CurveTable",
    "FittedCurves",
    "GroupGains",
    "GroupState",
    "MeasuredTables",
    "Novelty",
    "OneByOne",
    "OutputChangeTable",
    "ReferenceOutputs",
    "RewardTable",
    "ShrunkGains",
    "TableName",
    "VariantTable",
    "batched",
    "fit_category_curves",
    "shrunk_gains",
]
