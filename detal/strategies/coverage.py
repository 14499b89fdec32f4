"""Strategies that spread the batch over the space of image features.

Exact ties are broken by image id: here they mean equal features, so either image will do.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from detal.strategies.candidates import Candidates
from detal.strategies.clustering import assign, fit_centres
from detal.strategies.fill import Choice, Order
from detal.strategies.geometry import Metric, Space, check_metric
from detal.strategies.strategy import MeasureSelector
from detal.structures import Budget

__all__ = ["core_set", "kmeans"]

_FIT_POINTS = 50_000
_FIT_POINTS_PER_CLUSTER = 20


def core_set(*, metric: Metric = "cosine") -> MeasureSelector:
    """Images far from everything that is labelled or picked (k-centre greedy).

    Sener & Savarese, "Active learning for convolutional neural networks: a core-set approach",
    ICLR 2018: each pick is the image farthest from its nearest labelled or picked one, so that no
    image of the pool stays far from a labelled one. With nothing labelled it starts at the image
    nearest to the mean. Cost: one matrix-vector product over the pool per pick, O(P D) each, and
    one per labelled image. Failure mode: outliers and broken images are the farthest of all, and
    what the detector finds easy counts as much as what it finds hard.

    Args:
        metric: ``cosine`` or ``euclidean`` (the paper's).
    """
    check_metric(metric)

    def select(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
        if len(candidates):
            yield from _farthest_first(candidates, metric)

    return MeasureSelector(select=select)


def _farthest_first(candidates: Candidates, metric: Metric) -> Order:
    space = Space(candidates.require_features("core_set"), metric=metric)
    labeled = candidates.labeled.image_features
    covered = labeled is not None and len(labeled) > 0
    # (P,) what to maximise; -inf for images that were offered already.
    key = (
        space.distance_to_nearest(labeled)
        if labeled is not None and covered
        else -space.distance_to_mean()
    )
    for rank in range(1, len(candidates) + 1):
        index = int(key.argmax())
        score = float(key[index]) if covered else float("nan")
        taken = yield Choice(index, score, _core_set_reason(score, rank))
        key[index] = -np.inf
        if taken and covered:
            np.minimum(key, space.distance_to(index), out=key)  # -inf stays
        elif taken:
            key = np.where(np.isneginf(key), key, space.distance_to(index))
            covered = True


def _core_set_reason(score: float, rank: int) -> str:
    if np.isnan(score):
        return "nearest to the mean of the pool, as nothing is labelled"
    return f"{score:.3g} away from the nearest labelled or picked image, rank {rank}"


def kmeans(*, metric: Metric = "cosine") -> MeasureSelector:
    """One image from each of as many clusters as the budget buys images.

    Prefers typical images of every region: the member nearest to each centre (k-means++ seeding,
    Arthur & Vassilvitskii 2007, then Lloyd), larger clusters first; where a guard or the budget
    turns an image down, the next nearest of its cluster takes its place. Then a second one of each,
    and so on, as long as the budget lasts. Blind to the detector's doubts and to what is labelled
    already (use ``dedup.distance`` for that). Cost: k-means with k = budget / mean cost on at most
    max(50,000, 20 k) images, drawn at random, and one assignment of the pool, O(P k D). Failure
    mode: rare content shares a cluster with common content and is never the centre.

    Args:
        metric: ``cosine`` or ``euclidean``.
    """
    check_metric(metric)

    def select(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
        if len(candidates):
            yield from _round_robin(candidates, metric, budget, rng)

    return MeasureSelector(select=select)


def _round_robin(
    candidates: Candidates, metric: Metric, budget: Budget, rng: np.random.Generator
) -> Order:
    space = Space(candidates.require_features("kmeans"), metric=metric)
    clusters = _clusters(space, k=_affordable(candidates, budget), rng=rng)
    queues = [
        _members_in_turn(members, f"cluster {number} of {len(clusters)}", len(candidates))
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


def _members_in_turn(members: NDArray[np.int64], cluster: str, total: int) -> Iterator[Choice]:
    for nth, index in enumerate(members.tolist(), start=1):
        place = "" if nth == 1 else f"number {nth} "
        why = f"{place}nearest to the centre of {cluster}, which holds {len(members)} of {total}"
        yield Choice(index, float("nan"), why)


def _affordable(candidates: Candidates, budget: Budget) -> int:
    """About how many images the budget buys, in 1..P."""
    mean_cost = float(budget.costs(candidates.expected_boxes).mean())
    return int(np.clip(budget.amount / mean_cost, 1, len(candidates))) if mean_cost > 0 else 1


def _clusters(space: Space, *, k: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Members of each cluster, nearest to its centre first; largest cluster first."""
    limit = max(_FIT_POINTS, _FIT_POINTS_PER_CLUSTER * k)
    sample = rng.permutation(len(space))[:limit] if len(space) > limit else np.arange(len(space))
    centres = fit_centres(space.points(np.sort(sample)), k=k, rng=rng)
    labels, distances = map(
        np.concatenate,
        zip(*(assign(space.points(rows), centres) for rows in space.blocks()), strict=True),
    )
    order = np.lexsort((np.arange(len(space)), distances, labels))
    members = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    return sorted(members, key=len, reverse=True)
