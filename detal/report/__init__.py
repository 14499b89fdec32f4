"""Pictures of a batch."""

from detal.report.class_balance import ClassBalance
from detal.report.contact_sheet import write_contact_sheet

__all__ = ["ClassBalance", "write_contact_sheet"]
