"""Handwriting: which samples a split may use, how often each class occurs, and how one is drawn.

The classes are the digits, so a label is the digit's value.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from detal.errors import ConfigError
from detal.seeding import generator

__all__ = ["CLASS_NAMES", "Handwriting", "class_prior", "draw_digit", "handwriting"]

CLASS_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

# Digits from the commonest to the rarest; not in order of their value, so that nothing can
# mistake a label for its rank.
_COMMON_FIRST = (3, 7, 0, 9, 4, 1, 6, 2, 8, 5)
_TAIL_RATIO = 40.0
_MEASURED_FLOOR = 0.05
_SHARES = {"train": (0.0, 0.6), "reference": (0.6, 0.75), "test": (0.75, 1.0)}
_SOURCE_OF = {"seed": "train", "pool": "train", "reference": "reference", "test": "test"}


@dataclass(frozen=True, eq=False)
class Handwriting:
    """The handwriting samples one split may use.

    Attributes:
        samples: 10 arrays of rows into scikit-learn's ``load_digits``, one per class.
        pixels: (1797, 8, 8) float32 in [0, 1], all samples.
    """

    samples: tuple[NDArray[np.int64], ...]
    pixels: NDArray[np.float32]


@cache
def handwriting(split: str) -> Handwriting:
    """The samples of ``split``: disjoint between seed + pool, reference and test.

    The division depends on no seed: a detector trained on one sandbox has never met the test
    handwriting of any other.

    Raises:
        ConfigError: If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ConfigError(
            "the sandbox draws scikit-learn's digits, which is not installed: "
            "pip install 'detal[sandbox]'"
        ) from error
    digits = load_digits()
    low, high = _SHARES[_SOURCE_OF[split]]
    samples = []
    for label in range(len(CLASS_NAMES)):
        rows = generator(0, "sandbox", "handwriting", label).permutation(
            np.flatnonzero(digits.target == label)
        )
        samples.append(rows[int(low * len(rows)) : int(high * len(rows))])
    return Handwriting(tuple(samples), (digits.images / 16.0).astype(np.float32))


def class_prior(split: str) -> NDArray[np.float64]:
    """(10,) probability that an object of ``split`` is of each class.

    Seed and pool: ``40 ** (-rank / 9)``, rank 0 (commonest) to 9 (rarest), normalised. Reference
    and test: the same, but at least 0.05 before it is normalised again. Average precision is
    averaged over the classes, so a class measured on three objects would make it a lottery.
    """
    rank = np.argsort(_COMMON_FIRST)
    prior = _TAIL_RATIO ** (-rank / (len(rank) - 1))
    prior /= prior.sum()
    if split in ("reference", "test"):
        prior = np.maximum(prior, _MEASURED_FLOOR)
    return np.asarray(prior / prior.sum())


def draw_digit(
    pixels: NDArray[np.float32], *, height_px: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """(h, w) opacity in [0, 1] of one sample, slightly rotated, sheared and stretched.

    Cropped to the ink, so the digit's box is the patch. ``h`` is about ``height_px``.

    Args:
        pixels: (8, 8) one sample in [0, 1].
        height_px: Wanted height of the ink.
        rng: Source of the deformation and the stroke weight.
    """
    scale = height_px / 8.0
    angle, shear = np.deg2rad(rng.normal(0.0, 7.0)), rng.normal(0.0, 0.12)
    stretch = rng.uniform(0.85, 1.25)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = scale * rotation @ np.array([[stretch, shear], [0.0, 1.0]])
    side = int(np.ceil(height_px * 1.9)) + 4
    centre = np.array([4.5, 4.5])  # of the sample padded to 10 x 10
    offset = np.array([side / 2, side / 2]) - linear @ centre
    patch = cv2.warpAffine(
        np.pad(pixels, 1),
        np.column_stack([linear, offset]),
        (side, side),
        flags=cv2.INTER_CUBIC,
    )
    thin = rng.uniform(0.22, 0.42)
    alpha = np.clip((patch - thin) / 0.25, 0.0, 1.0)
    rows, columns = np.flatnonzero(alpha.max(axis=1) > 0.3), np.flatnonzero(alpha.max(axis=0) > 0.3)
    cropped = alpha[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.asarray(cropped, dtype=np.float32)
