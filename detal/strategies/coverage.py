"""Strategies that spread the batch over the space of image features.

Exact ties are broken by image id: here they mean equal features, so either image will do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from detal.errors import ConfigError, unknown_name
from detal.strategies.candidates import Candidates
from detal.strategies.clustering import assign, fit_centres
from detal.strategies.fill import Choice, Order
from detal.strategies.geometry import Metric, Space, check_metric
from detal.strategies.k_centre import pick_farthest, swapped_centres
from detal.strategies.lazy import LazyQueue
from detal.strategies.object_coverage import farthest_objects_first
from detal.strategies.options import check_integer, check_number
from detal.strategies.strategy import MeasureSelector
from detal.structures import Budget

__all__ = ["affordable", "core_set", "kmeans", "take_in_turn"]

Level = Literal["images", "objects"]

_FIT_POINTS = 50_000
_FIT_POINTS_PER_CLUSTER = 20


def core_set(
    *,
    metric: Metric = "cosine",
    level: Level = "images",
    outliers: float = 0.0,
    swaps: int = 0,
    objects: int = 5,
) -> MeasureSelector:
    """Images far from everything that is labelled or picked (k-centre greedy).

    Sener & Savarese, "Active learning for convolutional neural networks: a core-set approach",
    ICLR 2018: each pick is the image farthest from its nearest labelled or picked one, so that no
    image of the pool stays far from a labelled one. With nothing labelled it starts at the image
    nearest to the mean. Cost: at most one inner product for each image and each labelled or picked
    one, O(P D) a pick, of which most are never asked for: distances are brought up to date only
    near the top (`detal.features.nearest`), with the same picks. Failure mode: outliers and broken
    images are the farthest of all, and what the detector finds easy counts as much as what it finds
    hard.

    Two remedies, both off by default. The paper improves the greedy batch by an exact solver that
    may ignore some outliers; ``swaps`` is a local search in its place and ``outliers`` the greedy
    variant of Ding, Yu & Wang, "Greedy strategy works for k-center clustering with outliers",
    ESA 2019.

    Args:
        metric: ``cosine`` or ``euclidean`` (the paper's).
        level: ``images``, or ``objects``: an image is as far away as its farthest object is from
            the objects of labelled and picked images, by the detector's features of its boxes.
            Then a pick costs one product over all objects for each of its objects, and an image
            without detections comes last.
        outliers: Share of the pool that may stay uncovered, in [0, 0.5]: each pick is drawn at
            random from twice that share of the farthest images, instead of the farthest of all.
            Then, and with ``swaps``, all distances are needed for each pick.
        swaps: Most exchanges of a picked image for another one that make the farthest image of the
            pool come nearer. Cost: one more greedy pass for each.
        objects: Highest-scoring boxes of each image that count, with ``level: objects``.
    """
    check_metric(metric)
    _check_core_set(level, outliers, swaps, objects)

    def select(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
        if len(candidates) == 0:
            return
        if level == "objects":
            yield from farthest_objects_first(candidates, metric, most=objects)
        else:
            space = Space(candidates.require_features("core_set"), metric=metric)
            if not (swaps or outliers):
                yield from _farthest_first(candidates, space)
                return
            first = []
            if swaps:
                first = swapped_centres(
                    space,
                    candidates.labeled.image_features,
                    k=affordable(candidates, budget),
                    swaps=swaps,
                    outliers=outliers,
                    rng=rng,
                )
            yield from _drawn_or_given(candidates, space, outliers=outliers, first=first, rng=rng)

    return MeasureSelector(select=select)


def _check_core_set(level: str, outliers: float, swaps: int, objects: int) -> None:
    if level not in get_args(Level):
        raise ConfigError(unknown_name("level", str(level), get_args(Level)))
    check_number("outliers", outliers, at_most=0.5)
    check_integer("swaps", swaps, at_least=0)
    check_integer("objects", objects)
    if level == "objects" and (outliers or swaps):
        raise ConfigError("core_set has outliers and swaps for level: images only")


def _farthest_first(candidates: Candidates, space: Space) -> Order:
    """Farthest from everything covered first, equal ones by image id."""
    labeled = candidates.labeled.image_features
    offered: list[int] = []
    if labeled is not None and len(labeled):
        start = space.distance_to_nearest(labeled)
    else:
        by_mean = np.argsort(space.distance_to_mean(), kind="stable")
        for index in by_mean.tolist():
            offered.append(index)
            reason = _core_set_reason(float("nan"), len(offered), swapped=False)
            if (yield Choice(index, float("nan"), reason)):
                break
        start = space.distance_to(offered[-1])
    known = space.known(start)
    queue = LazyQueue(
        lambda index: known.distance(index).astype(np.float64),
        costs=np.ones(len(space)),
        order=np.arange(len(space)),
    )
    for index in offered:
        queue.close(index, changed=False)
    while (index := queue.best()) >= 0:
        distance = queue.gain(index)
        offered.append(index)
        taken = yield Choice(
            index, distance, _core_set_reason(distance, len(offered), swapped=False)
        )
        if taken:
            known = known.add(index)
        queue.close(index, changed=taken)


def _drawn_or_given(
    candidates: Candidates,
    space: Space,
    *,
    outliers: float,
    first: list[int],
    rng: np.random.Generator,
) -> Order:
    """`_farthest_first` with the options of `core_set`; the images ``first`` before all others.

    Every distance is there all the time, at one product over the pool for each pick: a draw among
    the farthest needs them, and images that come first whatever their distance.
    """
    labeled = candidates.labeled.image_features
    covered = labeled is not None and len(labeled) > 0
    # (P,) what to maximise; -inf for images that were offered already.
    key = (
        space.distance_to_nearest(labeled)
        if labeled is not None and covered
        else -space.distance_to_mean()
    )
    for rank in range(1, len(candidates) + 1):
        index = (
            first[rank - 1]
            if rank <= len(first)
            else pick_farthest(key, outliers=outliers, rng=rng)
        )
        score = float(key[index]) if covered else float("nan")
        reason = _core_set_reason(score, rank, swapped=rank <= len(first))
        taken = yield Choice(index, score, reason)
        key[index] = -np.inf
        if taken and covered:
            np.minimum(key, space.distance_to(index), out=key)  # -inf stays
        elif taken:
            key = np.where(np.isneginf(key), key, space.distance_to(index))
            covered = True


def _core_set_reason(score: float, rank: int, *, swapped: bool) -> str:
    if np.isnan(score) and swapped:
        return f"a centre of the pool, rank {rank}"
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
    clusters = _clusters(space, k=affordable(candidates, budget), rng=rng)
    queues = [
        _members_in_turn(members, f"cluster {number} of {len(clusters)}", len(candidates))
        for number, members in enumerate(clusters, start=1)
    ]
    yield from take_in_turn(queues)


def take_in_turn(queues: list[Iterator[Choice]]) -> Order:
    """One image of each queue, then one more of each; a queue replaces what was turned down."""
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


def affordable(candidates: Candidates, budget: Budget) -> int:
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
