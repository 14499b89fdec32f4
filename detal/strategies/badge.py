"""BADGE for detectors: a batch whose last-layer gradients are large and point many ways.

Shapes: P candidates, n images and N boxes that take part, C classes (and background), D features,
m boxes of the images that become centres.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detal.errors import ConfigError, unknown_name
from detal.features import aggregate
from detal.features.embeddings import require_object_features
from detal.strategies.candidates import Candidates
from detal.strategies.fill import Choice, Order
from detal.strategies.gradients import Gradients, Pooling, Rows, Sketch
from detal.strategies.options import check_integer
from detal.strategies.strategy import MeasureSelector
from detal.structures import Budget, Detections

__all__ = ["Level", "badge"]

Level = Literal["object", "image"]


def badge(
    *,
    level: Level = "object",
    pooling: Pooling = "sum",
    labeled: bool = False,
    max_boxes: int = 100_000,
) -> MeasureSelector:
    """Images whose boxes would move the last layer far and each in another direction.

    BADGE (Ash et al., "Deep batch active learning by diverse, uncertain gradient lower bounds",
    ICLR 2020) seeds k-means++ on the gradients of the last layer under the likeliest answers: the
    first centre is the largest gradient, the next are drawn with probability proportional to the
    squared distance to the nearest centre. The paper classifies images; how boxes enter is ours.
    ``object``: boxes are drawn, the image of a drawn box is taken, and all its boxes become
    centres, as all will be labelled. ``image``: an image's gradient is the sum (or mean) over its
    boxes. Gradients are never formed: inner products factorise (`class_gradients`), exactly up to
    256 classes and 256 features; wider factors are count sketches of 256 columns. The levels of a
    multi-scale head count as one layer and biases are left out. Cost: two passes over the store,
    O(m N (C + D)) for each picked image of m boxes, 4 (C + D) bytes for each of at most
    ``max_boxes`` boxes; of a larger pool images drawn at random take part. Failure mode: large
    features make large gradients, whatever the doubt; images without boxes come last, at random.

    Args:
        level: ``object`` or ``image``.
        pooling: From boxes to the image's gradient: ``sum`` or ``mean``; for ``level: image``.
        labeled: Whether the labelled images are centres from the start; each costs as much as a
            picked one.
        max_boxes: Most boxes that take part.
    """
    if level not in get_args(Level):
        raise ConfigError(unknown_name("level of badge", str(level), get_args(Level)))
    if pooling not in get_args(Pooling):
        raise ConfigError(unknown_name("pooling of badge", str(pooling), get_args(Pooling)))
    check_integer("max_boxes of badge", max_boxes)

    def select(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
        order = rng.permutation(len(candidates))
        images = _taking_part(candidates, order, max_boxes)
        offered = np.zeros(len(candidates), dtype=bool)
        if len(images):
            gradients = _gather(candidates, images, pooling if level == "image" else None, rng)
            if labeled and candidates.labeled.detections is not None:
                gradients.cover_all(candidates.labeled.detections())
            while (item := gradients.draw(rng)) >= 0:
                place = int(gradients.item_image[item])
                index = int(images[place])
                offered[index] = True
                distance, why = _about(gradients, item, candidates.class_names)
                taken = yield Choice(index, distance, why)
                gradients.close(place, taken=taken)
        for index in order[~offered[order]].tolist():
            yield Choice(index, float("nan"), "drawn at random: no gradient is left to draw by")

    return MeasureSelector(select=select)


def _taking_part(
    candidates: Candidates, order: NDArray[np.int64], max_boxes: int
) -> NDArray[np.int64]:
    """(n,) ascending: images with boxes, the first in ``order`` that have no more than allowed."""
    counts = candidates.map(_count_unless_nan)
    fits = counts[order].cumsum() <= max_boxes
    fits[np.flatnonzero(counts[order])[:1]] = True  # one crowded image may exceed it alone
    chosen = order[fits]
    return np.sort(chosen[counts[chosen] > 0])


def _count_unless_nan(detections: Detections) -> Tensor:
    """(B,) boxes of each image; NaN where one has no gradient."""
    features = require_object_features(detections, purpose="badge")
    number = detections.logits.sum(dim=1, dtype=torch.float32) + features.sum(dim=1)
    ones = torch.where(number.isfinite(), 1.0, torch.nan)
    return aggregate(ones, detections)


def _gather(
    candidates: Candidates,
    images: NDArray[np.int64],
    pooling: Pooling | None,
    rng: np.random.Generator,
) -> Gradients:
    place = np.full(len(candidates), -1, dtype=np.int64)
    place[images] = np.arange(len(images))
    sketch = Sketch(rng)
    parts, places = [], []
    for index, detections in candidates.chunks():
        rows = np.flatnonzero(place[index] >= 0)
        if len(rows):
            part = detections.take(torch.from_numpy(rows))
            parts.append(sketch.of(part, pooling))
            places.append(place[index[rows]].repeat(part.counts.cpu().numpy()))
    image = np.concatenate(places)
    by_image = image.argsort(kind="stable")
    return Gradients(Rows.concat(parts).take(by_image), image[by_image], sketch, pooling)


def _about(gradients: Gradients, item: int, class_names: tuple[str, ...]) -> tuple[float, str]:
    """The item's distance to the nearest centre (its length, without one), and that in words."""
    image = int(gradients.item_image[item])
    rows = gradients.rows.take(gradients.boxes_of(image))
    if gradients.pooled:
        box, of = int(rows.squared_norms().argmax()), "the image, most of it from"
    else:
        box, of = item - gradients.boxes_of(image).start, "a box,"
    seen = f"{class_names[rows.labels[box]]} with score {rows.scores[box]:.2f}"
    subject = f"gradient of {of} {seen},"
    if gradients.nearest is None:
        length = float(np.sqrt(gradients.squared[item]))
        return length, f"{subject} is the largest ({length:.3g})"
    distance = float(np.sqrt(gradients.nearest[item]))
    return distance, f"{subject} drawn at distance {distance:.3g} from the nearest covered one"
