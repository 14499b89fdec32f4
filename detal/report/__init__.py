"""Pictures of a batch and of tables."""

from detal.report.category_curves import CurvePanel, write_category_curves
from detal.report.class_balance import ClassBalance
from detal.report.contact_sheet import write_contact_sheet
from detal.report.crops import Crop, CropRow, write_crop_sheet

__all__ = [
    "ClassBalance",
    "Crop",
    "CropRow",
    "CurvePanel",
    "write_category_curves",
    "write_contact_sheet",
    "write_crop_sheet",
]
