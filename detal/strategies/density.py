"""Strategies that prefer typical images: those with close neighbours.

Shapes: P candidates, L labelled images, D features, k clusters.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from detal.strategies.candidates import Candidates
from detal.strategies.clustering import assign, fit_centres
from detal.strategies.coverage import affordable, take_in_turn
from detal.strategies.fill import Choice, Order
from detal.strategies.geometry import Space
from detal.strategies.neighbours import SAMPLE, draw, neighbour_similarity, unit_rows
from detal.strategies.options import check_integer
from detal.strategies.scored import highest_first
from detal.strategies.strategy import MeasureSelector
from detal.structures import Budget

__all__ = ["density", "typiclust"]

_FIT_POINTS = 50_000
_CLOSEST = 1e-3  # distances below are rounding: 1e-6 in cosine


def density(*, neighbours: int = 20) -> MeasureSelector:
    """Images with close neighbours: the mean cosine similarity to the nearest ones.

    Prefers what the pool is full of, the representativeness term of density-weighted methods
    (Settles & Craven, "An analysis of active learning strategies for sequence labeling tasks",
    EMNLP 2008, take the mean over all images; the nearest say more about a spot). It ranks as
    TypiClust's typicality does, without its clusters. Cost: every image against the pool, or
    against 10,000 images drawn at random where the pool is larger: O(P min(P, 10,000) D). Failure
    mode: the densest spot is a video of one scene, and it is taken frame by frame; use ``dedup``,
    or make it a part of ``combine`` beside an uncertainty.

    Args:
        neighbours: How many count.
    """
    check_integer("neighbours", neighbours)

    def select(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
        if len(candidates):
            space = Space(candidates.require_features("density"), metric="cosine")
            everyone = np.arange(len(space))
            nearest = neighbour_similarity(
                space, everyone, draw(everyone, most=SAMPLE, rng=rng), k=neighbours
            )
            values = (
                nearest.mean(axis=1, dtype=np.float64) if nearest.size else np.zeros(len(space))
            )
            yield from highest_first(values, rng, name="mean similarity to its neighbours")

    return MeasureSelector(select=select)


def typiclust(
    *, neighbours: int = 20, max_clusters: int = 500, min_cluster_size: int = 5
) -> MeasureSelector:
    """The most typical image of each cluster that holds no labelled one yet.

    Hacohen, Dekel & Weinshall, "Active learning on a budget: opposite strategies suit high and low
    budgets", ICML 2022: k-means into as many clusters as images will be labelled (at most
    ``max_clusters``), clusters with the fewest labelled images first, among them the largest; from
    each the image with the smallest mean distance to its nearest neighbours in the cluster. Made
    for the first few hundred labels. The paper has self-supervised features and computes typicality
    anew after each pick; here they are the detector's, and it is computed once. Clusters below
    ``min_cluster_size``, which the paper leaves out, come last. Cost: k-means on at most 50,000
    images (labelled ones included), one assignment of the pool, and each picked cluster against
    itself (against 10,000 of its images where it is larger): O(P k D). Failure mode: rare content
    is atypical and comes last; with many labels uncertainty does better.

    Args:
        neighbours: How many count; at most half of the cluster.
        max_clusters: Most clusters.
        min_cluster_size: Smaller clusters come after all others.
    """
    check_integer("neighbours", neighbours)
    check_integer("max_clusters", max_clusters)
    check_integer("min_cluster_size", min_cluster_size, at_least=0)

    def select(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
        if len(candidates) == 0:
            return
        space = Space(candidates.require_features("typiclust"), metric="cosine")
        labeled = candidates.labeled.image_features
        known = unit_rows(labeled) if labeled is not None else space.points(np.arange(0))
        k = min(len(known) + affordable(candidates, budget), max_clusters)
        clusters = _by_need(*_cluster(space, known, k=k, rng=rng), smallest=min_cluster_size)
        yield from take_in_turn(
            [
                _most_typical_first(space, members, labels, neighbours=neighbours, rng=rng)
                for members, labels in clusters
            ]
        )

    return MeasureSelector(select=select)


def _cluster(
    space: Space, known: NDArray[np.float32], *, k: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(P,) cluster of each candidate and (k,) labelled images in each."""
    sample = draw(np.arange(len(space)), most=max(_FIT_POINTS - len(known), k), rng=rng)
    centres = fit_centres(np.concatenate([space.points(sample), known]), k=k, rng=rng)
    labels = [assign(space.points(rows), centres)[0] for rows in space.blocks()]
    counts = np.bincount(assign(known, centres)[0], minlength=len(centres))
    return np.concatenate(labels), counts


def _by_need(
    labels: NDArray[np.int64], counts: NDArray[np.int64], *, smallest: int
) -> list[tuple[NDArray[np.int64], int]]:
    """Members and labelled images of each cluster: fewest labelled first, then the largest."""
    members = np.split(labels.argsort(kind="stable"), np.bincount(labels).cumsum()[:-1])
    found = [(part, int(count)) for part, count in zip(members, counts, strict=False) if len(part)]

    def place(cluster: tuple[NDArray[np.int64], int]) -> tuple[bool, int, int]:
        candidates, labeled = len(cluster[0]), cluster[1]
        return candidates + labeled < smallest, labeled, -candidates

    return sorted(found, key=place)


def _most_typical_first(
    space: Space,
    members: NDArray[np.int64],
    labeled: int,
    *,
    neighbours: int,
    rng: np.random.Generator,
) -> Iterator[Choice]:
    """The members of one cluster; nothing is computed before the first is asked for."""
    references = draw(members, most=SAMPLE, rng=rng)
    k = min(neighbours, max(len(members) // 2, 1))
    similarity = neighbour_similarity(space, members, references, k=k)
    distance = np.sqrt(np.maximum(2 - 2 * similarity.astype(np.float64), 0))
    mean = np.ones(len(members))
    if distance.size:
        mean = np.maximum(distance.mean(axis=1), _CLOSEST)
    cluster = f"a cluster of {len(members)} candidates and {labeled} labelled images"
    order = np.lexsort((rng.permutation(len(members)), mean))
    for nth, place in enumerate(order.tolist(), start=1):
        why = f"number {nth} in typicality ({1 / mean[place]:.3g}) of {cluster}"
        yield Choice(int(members[place]), float(1 / mean[place]), why)
