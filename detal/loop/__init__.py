"""The loop: simulate, compare, merge, repeat."""

from detal.loop.active import ActiveLearning, Round
from detal.loop.callbacks import select_next_batch
from detal.loop.curves import StopRule
from detal.loop.joining import MergeReport
from detal.loop.labeled_set import LabeledSet
from detal.loop.merge import merge

__all__ = [
    "ActiveLearning",
    "LabeledSet",
    "MergeReport",
    "Round",
    "StopRule",
    "merge",
    "select_next_batch",
]
