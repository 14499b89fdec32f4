"""The option ``class_weights``: how much the boxes of each class count."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from detal.errors import ConfigError, unknown_name
from detal.features import class_quality, difficulty_weights, inverse_frequency_weights
from detal.strategies.candidates import Candidates, Labeled

__all__ = ["ClassWeights", "check_class_weights", "weights_by_label"]

ClassWeights = Literal["none", "inverse_frequency", "difficulty"] | Mapping[str, float]
_NAMES = ("none", "inverse_frequency", "difficulty")


def check_class_weights(weights: ClassWeights) -> None:
    """Raise a ConfigError unless ``weights`` is a known name or maps names to numbers >= 0."""
    if isinstance(weights, str):
        if weights not in _NAMES:
            raise ConfigError(unknown_name("kind of class weights", weights, _NAMES))
        return
    if not isinstance(weights, Mapping):
        raise ConfigError(
            f"class_weights must be one of {', '.join(_NAMES)}, or a number per class name "
            f"({{bicycle: 2}}), got {weights!r}"
        )
    for name, weight in weights.items():
        if not _is_weight(weight):
            raise ConfigError(
                f"a class weight must be a finite number >= 0, got {weight!r} for {name!r}"
            )


def _is_weight(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value < math.inf


def weights_by_label(candidates: Candidates, weights: ClassWeights) -> Tensor | None:
    """(C,) float32 weights in label order, or None where all classes count alike.

    Raises:
        ConfigError: If a class is unknown, or difficulty is asked for and nothing is labelled.
    """
    if not isinstance(weights, str):
        return _by_name(weights, candidates.class_names)
    if weights == "none":
        return None
    if weights == "inverse_frequency":
        values = inverse_frequency_weights(candidates.labeled.class_counts)
        return torch.from_numpy(values).float()
    return difficulty_weights(_quality(candidates.labeled)).float().cpu()


def _by_name(weights: Mapping[str, float], class_names: tuple[str, ...]) -> Tensor:
    for name in weights:
        if name not in class_names:
            raise ConfigError(unknown_name("class in class_weights", str(name), class_names))
    values = [weights.get(name, 1.0) for name in class_names]
    return torch.from_numpy(np.array(values, dtype=np.float32))


def _quality(labeled: Labeled) -> Tensor:
    if labeled.detections is None or labeled.annotations is None or not len(labeled.annotations):
        raise ConfigError(
            "`class_weights: difficulty` needs labelled images, and there are none: use "
            "`class_weights: none` for the first batch"
        )
    return class_quality(labeled.detections(), labeled.annotations)
