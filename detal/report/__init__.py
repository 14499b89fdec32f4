"""Pictures of a batch, of tables, of a TrustSet and of learning."""

from detal.report.category_curves import CurvePanel, write_category_curves
from detal.report.class_balance import ClassBalance
from detal.report.contact_sheet import write_contact_sheet
from detal.report.crops import Crop, CropRow, write_crop_sheet
from detal.report.group_bars import GroupBar, write_group_gains
from detal.report.learning_curve import write_learning_curve

__all__ = [
    "ClassBalance",
    "Crop",
    "CropRow",
    "CurvePanel",
    "GroupBar",
    "write_category_curves",
    "write_contact_sheet",
    "write_crop_sheet",
    "write_group_gains",
    "write_learning_curve",
]
