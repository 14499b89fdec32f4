"""Which images to label next."""

from detal.strategies.candidates import Candidates, Chunk, Labeled
from detal.strategies.fill import Choice, Order, Picks, fill
from detal.strategies.registry import STRATEGIES, make_strategy, strategy_options
from detal.strategies.strategy import MeasureSelector, QueryStrategy

__all__ = [
    "STRATEGIES",
    "Candidates",
    "Choice",
    "Chunk",
    "Labeled",
    "MeasureSelector",
    "Order",
    "Picks",
    "QueryStrategy",
    "fill",
    "make_strategy",
    "strategy_options",
]
