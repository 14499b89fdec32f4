"""Pictures of a batch, of tables and of learning."""

from detal.report.category_curves import CurvePanel, write_category_curves
from detal.report.class_balance import ClassBalance
from detal.report.contact_sheet import write_contact_sheet
from detal.report.learning_curve import write_learning_curve

__all__ = [
    "ClassBalance",
    "CurvePanel",
    "write_category_curves",
    "write_contact_sheet",
    "write_learning_curve",
]
