"""PPAL: doubtful images first, weighted by how hard their classes are, then spread over objects.

Shapes: P candidates, n shortlisted images, k clusters, N boxes, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detal.features import aggregate, uncertainty
from detal.features.class_weights import class_quality, difficulty_weights
from detal.features.embeddings import require_object_features
from detal.features.similarity import matching_distances
from detal.strategies.candidates import Candidates, Labeled
from detal.strategies.fill import Choice, Order
from detal.strategies.medoids import k_medoids
from detal.strategies.options import check_integer, check_number
from detal.strategies.strategy import MeasureSelector
from detal.structures import Budget, Detections

__all__ = ["ppal"]

_SHORTLIST = 4096


def ppal(
    *,
    candidate_factor: float = 4.0,
    xi: float = 0.6,
    beta: float = 0.2,
    min_score: float = 0.05,
    min_side_px: float = 0.0,
    max_aspect: float | None = None,
    max_boxes: int = 100,
) -> MeasureSelector:
    """Doubtful images of hard classes, one of each kind of object scene.

    PPAL (Yang et al., "Plug and play active learning for object detection", CVPR 2024). Stage one
    sums over boxes the binary entropy of the score times the weight of the class (1 to 1 + beta,
    rising with its difficulty) and keeps the best images, up to ``candidate_factor`` budgets. Stage
    two compares those by their objects (`detal.features.similarity.matching_distances`) and takes
    the medoids of as many clusters as the budget buys of them, doubtful ones first. Where we
    depart: difficulty is measured once, on the labelled images' matched detections
    (`detal.features.class_weights.class_quality`), not during training, so a class that is never
    labelled is as hard as can be; no box is left out for its size or aspect ratio unless asked
    (the paper: 16 px and 5); where a medoid is turned down the next nearest of its cluster stands
    in for it, then second ones follow, then the rest of the pool by stage one; a shortlist of over
    4,096 images is cut at random into equal parts that are clustered on their own. Cost: one pass
    over the store, then O(D) for each pair of boxes of one class in a part and 24 bytes for each
    pair of its images. Failure mode: the sum over boxes shortlists crowded images only, and one
    class in a crowd makes distances slow.

    Args:
        candidate_factor: Cost of the shortlist in budgets, >= 1.
        xi: Share of the class probability in an object's quality, the rest is the IoU's.
        beta: Weight that the hardest class gets on top of 1.
        min_score: Boxes below do not count.
        min_side_px: Boxes with the square root of their area below do not count, in pixels.
        max_aspect: Boxes more elongated than this do not count; None admits all.
        max_boxes: Boxes of an image, best first, that enter stage two.
    """
    check_number("candidate_factor of ppal", candidate_factor, at_least=1)
    check_number("xi of ppal", xi, at_most=1)
    check_number("beta of ppal", beta)
    check_number("min_score of ppal", min_score, at_most=1)
    check_number("min_side_px of ppal", min_side_px)
    if max_aspect is not None:
        check_number("max_aspect of ppal", max_aspect, at_least=1)
    check_integer("max_boxes of ppal", max_boxes)
    counts = _Counting(min_score, min_side_px, max_aspect)
    clusters_of = partial(_clusters, counts=counts, max_boxes=max_boxes)

    def select(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
        if len(candidates) == 0:
            return
        weights = _class_weights(candidates.labeled, len(candidates.class_names), xi, beta)
        scores = candidates.map(partial(_doubt, weights=weights, counts=counts))
        order = np.lexsort((rng.permutation(len(scores)), -scores))
        costs = budget.costs(candidates.expected_boxes)[order]
        size, k = _shortlist(costs, budget.amount, candidate_factor)
        clusters = clusters_of(candidates, order[:size], k=k, rng=rng)
        clusters.sort(key=lambda members: -scores[members[0]])
        yield from _in_turn(clusters, scores, size)
        for index in order[size:].tolist():
            why = f"weighted uncertainty {scores[index]:.3g}, below the shortlist of {size} images"
            yield Choice(index, float(scores[index]), why)

    return MeasureSelector(select=select, box_measure=partial(uncertainty.entropy, over="top"))


@dataclass(frozen=True)
class _Counting:
    """Which boxes count."""

    min_score: float
    min_side_px: float
    max_aspect: float | None

    def __call__(self, detections: Detections) -> Tensor:
        """(N,) bool."""
        size = (detections.boxes[:, 2:] - detections.boxes[:, :2]).clamp_min(0)
        keep = (detections.scores >= self.min_score) & (size.prod(dim=1) >= self.min_side_px**2)
        if self.max_aspect is not None:
            keep &= size.amax(dim=1) <= self.max_aspect * size.amin(dim=1)
        return keep


def _class_weights(labeled: Labeled, num_classes: int, xi: float, beta: float) -> Tensor:
    """(C,) in [1, 1 + beta]; all classes are equally hard if nothing is labelled."""
    quality = torch.zeros(num_classes, dtype=torch.float64)
    if labeled.detections is not None and labeled.annotations is not None:
        quality = class_quality(labeled.detections(), labeled.annotations, xi=xi).cpu()
    return difficulty_weights(quality, beta=beta)


def _doubt(detections: Detections, *, weights: Tensor, counts: _Counting) -> Tensor:
    """(B,) stage one; NaN where a box has no finite feature, so that the image is named."""
    features = require_object_features(detections, purpose="ppal")
    entropy = uncertainty.entropy(detections, over="top").double()
    values = counts(detections) * weights.to(entropy.device)[detections.labels] * entropy
    return aggregate(values.masked_fill(~features.isfinite().all(dim=1), torch.nan), detections)


def _shortlist(costs: NDArray[np.float64], amount: float, factor: float) -> tuple[int, int]:
    """How many images the shortlist holds, and how many of those the budget buys.

    Args:
        costs: (P,) in order of preference, P >= 1.
        amount: The budget.
        factor: Cost of the shortlist in budgets.
    """
    size = int(np.searchsorted(costs.cumsum(), factor * amount * (1 + 1e-9), side="right"))
    size = max(1, size)
    mean = float(costs[:size].mean())
    return size, int(np.clip((amount * (1 + 1e-9)) // mean, 1, size)) if mean > 0 else size


def _clusters(
    candidates: Candidates,
    shortlist: NDArray[np.int64],
    *,
    k: int,
    rng: np.random.Generator,
    counts: _Counting,
    max_boxes: int,
) -> list[NDArray[np.int64]]:
    """Candidates of each cluster, the medoid first, then by distance to it."""
    number = -(-len(shortlist) // _SHORTLIST)
    parts = np.array_split(rng.permutation(shortlist), number) if number > 1 else [shortlist]
    clusters = []
    for part in map(np.sort, parts):
        distance = _distances(candidates.take(part), counts, max_boxes)
        share = int(np.clip(round(k * len(part) / len(shortlist)), 1, len(part)))
        medoids, labels = k_medoids(distance, k=share, rng=rng)
        for label, medoid in enumerate(medoids.tolist()):
            members = np.flatnonzero(labels == label)
            nearest = np.lexsort((members, distance[medoid, members], members != medoid))
            clusters.append(part[members[nearest]])
    return clusters


def _distances(detections: Detections, counts: _Counting, max_boxes: int) -> NDArray[np.float32]:
    """(n, n) matching distances over the boxes that count, at most ``max_boxes`` of an image."""
    keep = counts(detections).nonzero()[:, 0]
    image = detections.image_index[keep]
    number = torch.bincount(image, minlength=detections.num_images)
    rank = torch.arange(len(image), device=image.device) - (number.cumsum(0) - number)[image]
    keep, image = keep[rank < max_boxes], image[rank < max_boxes]
    features = require_object_features(detections, purpose="ppal")
    distance = matching_distances(
        features[keep],
        detections.labels[keep],
        detections.scores[keep].float(),
        image,
        num_images=detections.num_images,
    )
    return np.asarray(distance.cpu().numpy())


def _in_turn(
    clusters: list[NDArray[np.int64]], scores: NDArray[np.float64], shortlist: int
) -> Order:
    """One image of each cluster, then a second one of each, and so on."""
    queues = [
        _members(members, scores, f"cluster {number} of {len(clusters)}", shortlist)
        for number, members in enumerate(clusters, start=1)
    ]
    while queues:
        left = []
        for queue in queues:
            for choice in queue:
                taken = yield choice
                if taken:
                    left.append(queue)
                    break
        queues = left


def _members(
    members: NDArray[np.int64], scores: NDArray[np.float64], cluster: str, shortlist: int
) -> Iterator[Choice]:
    for nth, index in enumerate(members.tolist(), start=1):
        place = "medoid" if nth == 1 else f"number {nth} nearest to the medoid"
        why = (
            f"weighted uncertainty {scores[index]:.3g}; {place} of {cluster}, which holds "
            f"{len(members)} of {shortlist} shortlisted images"
        )
        yield Choice(index, float(scores[index]), why)
