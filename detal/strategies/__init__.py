"""Which images to label next."""

from detal.strategies.candidates import Candidates, Chunk, Labeled, Pass
from detal.strategies.fill import Choice, Order, Picks, fill
from detal.strategies.registry import STRATEGIES, make_strategy, strategy_options
from detal.strategies.strategy import MeasureSelector, Needs, QueryStrategy

__all__ = [
    "STRATEGIES",
    "Candidates",
    "Choice",
    "Chunk",
    "Labeled",
    "MeasureSelector",
    "Needs",
    "Order",
    "Pass",
    "Picks",
    "QueryStrategy",
    "fill",
    "make_strategy",
    "strategy_options",
]
