"""Strategies that maximise how well the picked images cover the pool, by lazy greedy choice.

What is covered is a monotone submodular function of the picked set, so that greedy choice reaches
at least 1 - 1/e of the optimum, and an image's gain from an earlier step bounds its gain now
(Minoux, "Accelerated greedy algorithms for maximizing submodular set functions", 1978): only the
few images at the top have to be computed anew after each pick.

Everything in the pool is covered up to ``sample`` images; of a larger pool a random sample of that
many stands for it, while every image may be picked. No P x P matrix is kept.

Shapes: P candidates, R images that are to be covered, L labelled images, D features.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from detal.strategies.candidates import Candidates
from detal.strategies.clustering import assign, fit_centres
from detal.strategies.fill import Choice, Order
from detal.strategies.geometry import Space
from detal.strategies.lazy import LazyQueue
from detal.strategies.neighbours import SAMPLE, blocks_against, draw, unit_rows
from detal.strategies.options import check_integer, check_number
from detal.strategies.strategy import MeasureSelector
from detal.structures import Budget

__all__ = ["facility_location", "prob_cover", "pure_radius"]

_ROUNDING = 1e-6
_LOOKED_AT = 16  # a gain takes a product with each of the images that are to be covered

Floats = NDArray[np.float32]


def facility_location(*, sample: int = SAMPLE) -> MeasureSelector:
    """Images that stand for as much of the pool as possible.

    Each pick raises the mean similarity, (1 + cos) / 2, of the pool's images to their nearest
    labelled or picked one the most (facility location; Wei, Iyer & Bilmes, "Submodularity in data
    subset selection and active learning", ICML 2015, rank by it within the most uncertain images:
    here ``staged``). Typical images of large regions first, one each. Cost: the pool against at
    most ``sample`` images once, O(P min(P, sample) D), then lazily a few rows a pick; O(P) memory.
    Failure mode: small regions are never worth a pick, outliers even less.

    Args:
        sample: Images that are to be covered; drawn at random from a larger pool.
    """
    check_integer("sample", sample)

    def select(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
        if len(candidates) == 0:
            return
        space = Space(candidates.require_features("facility_location"), metric="cosine")
        references = space.points(draw(np.arange(len(space)), most=sample, rng=rng))
        cover = _Similarity(space, references, candidates.labeled.image_features)
        yield from _lazy_greedy(cover, len(space), rng)

    return MeasureSelector(select=select)


def prob_cover(
    *,
    radius: float | None = None,
    purity: float = 0.95,
    clusters: int | None = None,
    sample: int = SAMPLE,
) -> MeasureSelector:
    """Images with the most images around them that no labelled or picked one is near to yet.

    Yehuda, Dekel, Hacohen & Weinshall, "Active learning through a covering lens", NeurIPS 2022:
    greedy maximum coverage with balls of one radius, for small budgets. Without ``radius`` it is
    the paper's: the largest one at which ``purity`` of the balls hold images of one k-means cluster
    only, which is a quantile of the distances to the nearest image of another cluster, so nothing
    has to be searched. The paper takes the number of classes for the number of clusters; an image
    of several objects has no class, so that this is a guess (see ``clusters``). When everything is
    covered, images come at random. Cost: the pool against at most ``sample`` images once,
    O(P min(P, sample) D), then lazily a few rows a pick; O(P) memory. Failure mode: all depends on
    the radius; too large and a handful of images covers everything, too small and each image covers
    itself.

    Args:
        radius: Cosine distance in [0, 2]; None: chosen from the data.
        purity: Share of pure balls asked for, in [0, 1].
        clusters: For the choice of the radius; None: the number of the detector's classes, but at
            least 2 and at most one for 20 images.
        sample: Images that are to be covered; drawn at random from a larger pool.
    """
    check_integer("sample", sample)
    if clusters is not None:
        check_integer("clusters", clusters, at_least=2)
    if radius is not None:
        check_number("radius", radius, at_most=2)
    check_number("purity", purity, at_most=1)

    def select(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
        if len(candidates) == 0:
            return
        space = Space(candidates.require_features("prob_cover"), metric="cosine")
        references = space.points(draw(np.arange(len(space)), most=sample, rng=rng))
        reach = radius
        if reach is None:
            k = clusters or max(2, min(len(candidates.class_names), len(references) // 20))
            reach = pure_radius(references, k=k, purity=purity, rng=rng)
        cover = _Balls(space, references, candidates.labeled.image_features, reach)
        yield from _lazy_greedy(cover, len(space), rng)

    return MeasureSelector(select=select)


def pure_radius(points: Floats, *, k: int, purity: float, rng: np.random.Generator) -> float:
    """The largest radius at which ``purity`` of the balls hold one cluster only.

    Args:
        points: (R, D) unit vectors, R >= 1.
        k: Clusters.
        purity: In [0, 1].
        rng: Seeds the clusters.

    Returns:
        A cosine distance; 0 if there is but one cluster (all points are equal).
    """
    labels, _ = assign(points, fit_centres(points, k=k, rng=rng))
    to_other = np.empty(len(points), dtype=np.float64)
    rows = np.arange(len(points))
    for block in blocks_against(rows, len(points)):
        similarity = points[block] @ points.T
        similarity[labels[block, None] == labels[None]] = -np.inf
        to_other[block] = 1 - similarity.max(axis=1)
    place = min(int((1 - purity) * len(points) + _ROUNDING), len(points) - 1)
    limit = float(np.sort(to_other)[place])
    # A ball that just reaches the other cluster is not pure.
    return max(limit - 2 * _ROUNDING, 0.0) if np.isfinite(limit) else 0.0


class _Cover(Protocol):
    """What is covered so far."""

    def gains(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """(n,) what each of the candidates ``rows`` would add."""
        ...

    def add(self, row: int) -> None:
        """Pick a candidate."""
        ...

    def why(self, gain: float, rank: int) -> str:
        """The reason for a pick."""
        ...


class _Similarity:
    """Mean over the references of the similarity to the nearest picked image, in [0, 1]."""

    def __init__(self, space: Space, references: Floats, labeled: Floats | None) -> None:
        self._space = space
        self._halved: Floats = references * np.float32(0.5)
        # Half the cosine to the nearest picked image; -0.5 stands for similarity 0, for none.
        self._best: Floats = np.full(len(references), -0.5, dtype=np.float32)
        if labeled is not None and len(labeled):
            self._best = _highest(self._halved, unit_rows(labeled))

    def gains(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        total = np.empty(len(rows), dtype=np.float64)
        for block in blocks_against(rows, len(self._halved)):
            gain = self._space.points(rows[block]) @ self._halved.T
            gain -= self._best
            total[block] = np.maximum(gain, 0, out=gain).sum(axis=1)
        return total / len(self._halved)

    def add(self, row: int) -> None:
        similarity = self._halved @ self._space.points(np.array([row]))[0]
        np.maximum(self._best, similarity, out=self._best)

    def why(self, gain: float, rank: int) -> str:
        return f"raises how well the pool is represented by {gain:.3g}, rank {rank}"


class _Balls:
    """Share of the references within the radius of a picked image."""

    def __init__(
        self, space: Space, references: Floats, labeled: Floats | None, radius: float
    ) -> None:
        self._space = space
        self._total = len(references)
        self._least = np.float32(1 - radius - _ROUNDING)
        self._radius = radius
        self._left = references  # what nothing covers yet
        if labeled is not None and len(labeled):
            self._left = references[_highest(references, unit_rows(labeled)) < self._least]

    def gains(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        total = np.zeros(len(rows), dtype=np.float64)
        for block in blocks_against(rows, len(self._left)):
            similarity = self._space.points(rows[block]) @ self._left.T
            total[block] = np.count_nonzero(similarity >= self._least, axis=1)
        return total / self._total

    def add(self, row: int) -> None:
        similarity = self._left @ self._space.points(np.array([row]))[0]
        self._left = self._left[similarity < self._least]

    def why(self, gain: float, rank: int) -> str:
        share = f"{gain:.1%} of the pool"
        return f"{share} is within {self._radius:.3g} and was not covered yet, rank {rank}"


def _highest(points: Floats, others: Floats) -> Floats:
    """(R,) largest inner product of each point with ``others`` (L, D), L >= 1."""
    blocks = blocks_against(np.arange(len(points)), len(others))
    return np.concatenate([(points[block] @ others.T).max(axis=1) for block in blocks])


def _lazy_greedy(cover: _Cover, size: int, rng: np.random.Generator) -> Order:
    """Largest gain first; when nothing gains any more, the rest at random."""
    queue = LazyQueue(
        cover.gains, costs=np.ones(size), order=rng.permutation(size), block=_LOOKED_AT
    )
    rank = 0
    while (index := queue.best()) >= 0 and (gain := queue.gain(index)) > 0:
        rank += 1
        taken = yield Choice(index, gain, cover.why(gain, rank))
        if taken:
            cover.add(index)
        queue.close(index, changed=taken)
    for index in queue.left().tolist():
        yield Choice(index, 0.0, "drawn at random, as the whole pool is covered already")
