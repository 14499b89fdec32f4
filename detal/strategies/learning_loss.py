"""Learning loss: a small head on frozen features that predicts how wrong the detector is."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear

from detal.errors import ConfigError, DataError
from detal.features import detection_loss
from detal.strategies.candidates import Candidates
from detal.strategies.fill import Order
from detal.strategies.scored import check_count, highest_first
from detal.strategies.strategy import MeasureSelector
from detal.structures import Budget, Detections

__all__ = ["learning_loss"]

log = logging.getLogger(__name__)

_MARGIN = 1.0
_HIDDEN = 128
_BATCH = 128
_LEARNING_RATE = 1e-3
_WEIGHT_DECAY = 0.1
_LARGEST_DEVIATION = 5.0


def learning_loss(*, steps: int = 500) -> MeasureSelector:
    """Images on which the detector is predicted to have a high loss.

    Yoo & Kweon, "Learning loss for active learning", CVPR 2019, after the detector instead of with
    it: a head with one hidden layer of 128 learns to rank the labelled images by their detection
    loss (`detal.features.detection_loss`: class and box part, missed objects included) with the
    paper's ranking loss over pairs (margin 1), on features that stay as they are: image features,
    score-weighted mean of the object features, and how many boxes there are with what scores, each
    of the three with equal weight. The user's detector is not touched, and gains nothing. The
    losses it learns from are training losses, as in the paper. Cost: one pass over the store, and a
    second or two of training. Failure mode: with few labelled images it learns little, with fewer
    than two different losses nothing (the batch is then drawn at random, with a warning); a
    detector that has learned its images by heart has no losses to learn from.

    Args:
        steps: Steps of training, >= 1, with 64 pairs of labelled images each.
    """
    check_count("steps", steps)

    def select(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
        if len(candidates):
            values = _predicted_losses(candidates, steps, rng)
            yield from highest_first(values, rng, name="predicted loss")

    return MeasureSelector(select=select)


def _predicted_losses(
    candidates: Candidates, steps: int, rng: np.random.Generator
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """(P,) in units of the ranking loss's margin, from the mean of the labelled images."""
    labeled = candidates.labeled
    if labeled.detections is None or labeled.annotations is None or not len(labeled.annotations):
        raise ConfigError(
            "`learning_loss` needs labelled images, and there are none: use `entropy`, or "
            "`core_set` for the first batch"
        )
    seen = labeled.detections()
    losses = detection_loss(seen, labeled.annotations)
    head = _train(_image_inputs(seen), losses.float(), steps=steps, rng=rng)
    return candidates.map(lambda detections: head(torch.cat(_image_inputs(detections), dim=1)))


def _image_inputs(detections: Detections) -> list[Tensor]:
    """What the head sees of each image, (B, f) by kind; zeros where nothing was detected."""
    scores, index = detections.scores.float(), detections.image_index
    count = detections.counts.float()
    total = torch.zeros_like(count).index_add_(0, index, scores)
    squared = torch.zeros_like(count).index_add_(0, index, scores.square())
    parts = [torch.stack([count.log1p(), total.log1p(), squared.log1p()], dim=1)]
    if detections.image_features is not None:
        parts.append(detections.image_features.float())
    if detections.object_features is not None:
        features = detections.object_features.float()
        pooled = features.new_zeros(len(detections), features.shape[1])
        pooled.index_add_(0, index, scores[:, None] * features)
        parts.append(pooled / total[:, None].clamp_min(1e-6))
    return parts


@dataclass(frozen=True, eq=False)
class _Head:
    """Standardises (B, F) inputs with ``mean`` and ``scale`` (F,), weighs them, then two layers."""

    mean: Tensor
    scale: Tensor
    weight: Tensor
    layers: tuple[Tensor, ...]

    def __call__(self, inputs: Tensor) -> Tensor:
        """(B,) predicted losses; their differences mean something, their level does not."""
        first, first_bias, second = self.layers
        device = inputs.device
        inputs = (inputs - self.mean.to(device)) * self.scale.to(device)
        # An outlier must not win by being far from everything that was learned.
        inputs = inputs.clamp(-_LARGEST_DEVIATION, _LARGEST_DEVIATION) * self.weight.to(device)
        hidden = linear(inputs, first.to(device), first_bias.to(device)).relu()
        return linear(hidden, second.to(device))[:, 0]


def _train(parts: list[Tensor], losses: Tensor, *, steps: int, rng: np.random.Generator) -> _Head:
    """The head that ranks images by ``losses`` (L,) from their inputs (L, f), kind by kind."""
    inputs = torch.cat(parts, dim=1)
    if not bool(torch.isfinite(inputs).all()):
        raise DataError("features of the labelled images must be finite")
    seed = torch.Generator().manual_seed(int(rng.integers(2**63)))
    mean, deviation = inputs.mean(dim=0), inputs.std(dim=0, correction=0)
    # A feature that is constant in the labelled images was not learned from: it must not count.
    scale = torch.where(deviation > 1e-6, 1 / deviation.clamp_min(1e-6), 0.0)
    # Kinds count alike, or three counts would be lost among hundreds of features.
    weight = torch.cat([torch.full((p.shape[1],), p.shape[1] ** -0.5) for p in parts])
    layers = (
        torch.randn(_HIDDEN, inputs.shape[1], generator=seed) * math.sqrt(2 / len(parts)),
        torch.zeros(_HIDDEN),
        torch.zeros(1, _HIDDEN),
    )
    on_device = tuple(layer.to(mean.device) for layer in layers)
    head = _Head(mean=mean, scale=scale, weight=weight, layers=on_device)
    if len(losses) < 2 or bool(losses.max() - losses.min() < 1e-6):
        log.warning(
            "learning_loss has %d labelled images without two different losses among them: it "
            "learns nothing, and the batch is drawn at random",
            len(losses),
        )
        return head
    for layer in head.layers:
        layer.requires_grad_()
    with torch.enable_grad():
        _fit(head, inputs, losses, steps=steps, seed=seed)
    for layer in head.layers:
        layer.requires_grad_(False)
    return head


def _fit(head: _Head, inputs: Tensor, losses: Tensor, *, steps: int, seed: torch.Generator) -> None:
    """Minimise max(0, margin - sign(l_i - l_j) (l'_i - l'_j)) over random pairs, in place."""
    optimiser = torch.optim.AdamW(head.layers, lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    for _ in range(steps):
        rows = torch.randint(len(losses), (2, _BATCH // 2), generator=seed).to(losses.device)
        predicted = head(inputs[rows.flatten()]).view(2, -1)
        order = (losses[rows[0]] - losses[rows[1]]).sign()
        wrong = (_MARGIN - order * (predicted[0] - predicted[1])).clamp_min(0) * order.abs()
        optimiser.zero_grad()
        wrong.mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
