"""Policies on disk: tensors and JSON, no pickled code.

<folder>/policy.pt             weights; read with ``weights_only``
<folder>/policy.json           what shape they have and what they were trained on; written last
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from detal.agents.inputs import NUM_INPUTS
from detal.agents.policy import Policy
from detal.errors import ConfigError, StoreError
from detal.files import UNREADABLE, read_json, replacing, write_json

__all__ = ["load_policy", "save_policy"]

_FORMAT = 1
_MOST_HIDDEN = 65_536


def save_policy(folder: Path, policy: Policy, *, trained_on: dict[str, Any]) -> None:
    """Write a policy; one that is there is replaced.

    Args:
        folder: Where; made if missing.
        policy: What.
        trained_on: JSON values for people to read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "format": _FORMAT,
        "inputs": policy.num_inputs,
        "hidden": policy.hidden,
        "trained_on": trained_on,
    }
    with replacing(folder / "policy.pt") as temporary:
        torch.save(policy.state_dict(), temporary)
    write_json(folder / "policy.json", about)


def load_policy(folder: Path) -> Policy:
    """The policy that `save_policy` wrote.

    Raises:
        ConfigError: If there is none, or its inputs are others than today's.
        StoreError: If it is damaged.
    """
    try:
        about = read_json(folder / "policy.json")
    except FileNotFoundError:
        raise ConfigError(
            f"a policy must be a folder with policy.json, found none: {folder}"
        ) from None
    except ValueError as error:
        raise StoreError(f"policy.json must be JSON ({folder}): {error}") from None
    known = {"format": _FORMAT, "inputs": NUM_INPUTS}
    found = {key: about.get(key) for key in known} if isinstance(about, dict) else about
    if found != known:
        raise ConfigError(f"a policy must have {known}, found {found}: train a new one ({folder})")
    if not isinstance(about.get("hidden"), int) or not 1 <= about["hidden"] <= _MOST_HIDDEN:
        raise StoreError(f"policy.json must have hidden, 1 to {_MOST_HIDDEN} ({folder})")
    seed = torch.Generator().manual_seed(0)
    policy = Policy(NUM_INPUTS, hidden=about["hidden"], seed=seed)
    try:
        weights = torch.load(folder / "policy.pt", map_location="cpu", weights_only=True)
        policy.load_state_dict(weights)
    except UNREADABLE as error:
        raise StoreError(
            f"policy.pt must hold the weights of a policy ({folder}): {error}"
        ) from None
    return policy
