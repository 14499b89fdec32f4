"""The only place where randomness starts."""

from __future__ import annotations

import hashlib

import numpy as np

__all__ = ["generator", "seed_torch"]


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """A generator for one purpose; other purposes of the same seed are independent of it.

    Args:
        seed: The run's seed, >= 0.
        purpose: Words or numbers that name the use, for example ``("select", round_idx)``.
    """
    digest = hashlib.blake2b("\x1f".join(map(str, purpose)).encode(), digest_size=8).digest()
    return np.random.default_rng([seed, int.from_bytes(digest, "little")])


def seed_torch(seed: int) -> None:
    """Seed torch's global generators (training code draws from them and takes no other).

    Args:
        seed: The seed, >= 0.
    """
    import torch

    torch.manual_seed(seed)
