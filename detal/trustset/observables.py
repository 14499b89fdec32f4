"""What is known of a detection without any label, as one row of numbers.

Shapes: B images, N detections, D features, F observables, E projected features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from detal.errors import DataError
from detal.structures import Detections

__all__ = ["Observables", "fit_observables"]

_PROJECTED = 8
_LARGEST = 5.0
_LARGEST_LOGIT = 13.8
_TINY = 1e-6


@dataclass(frozen=True, eq=False)
class Observables:
    """Turns detections into standardised rows, as the detections it was fitted on have them.

    Attributes:
        names: F names of the columns.
        mean: (F,) float64.
        scale: (F,) float64, > 0.
        centre: (D,) mean object feature, or None without object features.
        axes: (D, E) directions in which object features differ most, or None.
    """

    names: tuple[str, ...]
    mean: Tensor
    scale: Tensor
    centre: Tensor | None
    axes: Tensor | None

    def __call__(self, detections: Detections) -> Tensor:
        """(N, F) float64 with mean 0 and deviation 1 where it was fitted, within +-5."""
        columns = _columns(detections)
        if self.centre is not None and self.axes is not None:
            features = _require(detections.object_features, "object features").double()
            projected = (features - self.centre) @ self.axes
            columns |= {f"feature {i + 1}": column for i, column in enumerate(projected.T)}
        rows = [_require(columns.get(name), name) for name in self.names]
        if not rows:
            return torch.zeros(detections.num_boxes, 0, dtype=torch.float64)
        standard = (torch.stack(rows, dim=1) - self.mean) / self.scale
        # What was never seen while fitting must not win by being far away.
        return standard.clamp(-_LARGEST, _LARGEST)


def fit_observables(detections: Detections, *, only: tuple[str, ...] = ()) -> Observables:
    """The observables that the detections have, standardised on them.

    Score (as a logit), entropy, margin, size and shape of the box, how far its sides are spread
    (by the detector's own word, and over the boxes that suppression merged into it), tightness and
    mutual information where the detector gives them, how many boxes of what scores the image has
    and the box's place among them, and the leading projections of the object features. A column
    that does not vary is left out.

    Args:
        detections: Of labelled images.
        only: Names of the columns to keep; all by default.
    """
    columns = _columns(detections)
    centre = axes = None
    features = detections.object_features
    if features is not None and not only and len(features) > 1:
        centre = features.double().mean(dim=0)
        axes = _leading_axes(features.double() - centre)
        projected = (features.double() - centre) @ axes
        columns |= {f"feature {i + 1}": column for i, column in enumerate(projected.T)}
    kept = {
        name: column
        for name, column in columns.items()
        if (not only or name in only) and len(column) > 1 and float(column.std()) > _TINY
    }
    return Observables(
        names=tuple(kept),
        mean=torch.tensor([float(c.mean()) for c in kept.values()], dtype=torch.float64),
        scale=torch.tensor([float(c.std()) for c in kept.values()], dtype=torch.float64),
        centre=centre,
        axes=axes,
    )


def _require(column: Tensor | None, name: str) -> Tensor:
    if column is None:
        raise DataError(f"the detections lack {name}, which those fitted on had")
    return column


def _leading_axes(centred: Tensor) -> Tensor:
    """(D, E) eigenvectors of the covariance with the largest eigenvalues, signs fixed."""
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    axes: Tensor = vectors[:, -_PROJECTED:].flip(1)
    largest = axes.abs().argmax(dim=0)
    return axes * axes[largest, torch.arange(axes.shape[1])].sign()


# As `detal.features.entropy` and `margin`, in float64: float32 differs by chunk in its last digit.
def _entropy(seen: Detections) -> Tensor:
    if seen.score_kind == "softmax":
        probs = seen.logits.double().softmax(dim=1)
        return -torch.xlogy(probs, probs).sum(dim=1)
    score = seen.scores.double()
    return -torch.xlogy(score, score) - torch.xlogy(1 - score, 1 - score)


def _margin(seen: Detections) -> Tensor:
    if seen.score_kind == "softmax":
        hypotheses = seen.logits.double().softmax(dim=1)
    else:
        probs = seen.logits.double().sigmoid()
        hypotheses = torch.cat([probs, 1 - probs.amax(dim=1, keepdim=True)], dim=1)
    best = hypotheses.topk(2, dim=1).values
    return 1 - (best[:, 0] - best[:, 1])


def _columns(seen: Detections) -> dict[str, Tensor]:
    """Every observable of each detection (N,), float64."""
    score, image = seen.scores.double(), seen.image_index
    size = (seen.boxes[:, 2:] - seen.boxes[:, :2]).double().clamp_min(1e-3)
    side = size.prod(dim=1).sqrt()
    total = torch.zeros(len(seen), dtype=torch.float64).index_add_(0, image, score)
    place = torch.arange(seen.num_boxes) - seen.offsets[image]
    columns = {
        "score": torch.logit(score).clamp(-_LARGEST_LOGIT, _LARGEST_LOGIT),
        "entropy": _entropy(seen),
        "margin": _margin(seen),
        "size": side.log(),
        "shape": (size[:, 0] / size[:, 1]).log(),
        "boxes in the image": seen.counts[image].double().log1p(),
        "scores of the other boxes": (total[image] - score).clamp_min(0).log1p(),
        "place in the image": place.double().log1p(),
    }
    for name, spread in (("box spread", seen.box_spread), ("cluster spread", seen.cluster_spread)):
        if spread is not None:
            columns[name] = (spread.double().mean(dim=1) / side).log1p()
    for name, value in (
        ("mutual information", seen.mutual_information),
        ("tightness", seen.tightness),
    ):
        if value is not None:
            columns[name] = value.double()
    return columns
