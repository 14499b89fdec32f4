"""Agents that learn which batch to choose."""

from detal.agents.choosing import Chosen, choose, swapped
from detal.agents.episode import Episode, RewardWeights, Rollouts, passes_of, rollout
from detal.agents.inputs import Seen
from detal.agents.learning_curve import save_learning_curve
from detal.agents.policy import Policy
from detal.agents.reinforce import (
    BASELINES,
    Baseline,
    Point,
    ReinforceConfig,
    Trained,
    new_policy,
    sensible_config,
    train,
)
from detal.agents.shortlist import shortlist
from detal.agents.storage import load_policy, save_policy

__all__ = [
    "BASELINES",
    "Baseline",
    "Chosen",
    "Episode",
    "Point",
    "Policy",
    "ReinforceConfig",
    "RewardWeights",
    "Rollouts",
    "Seen",
    "Trained",
    "choose",
    "load_policy",
    "new_policy",
    "passes_of",
    "rollout",
    "save_learning_curve",
    "save_policy",
    "sensible_config",
    "shortlist",
    "swapped",
    "train",
]
