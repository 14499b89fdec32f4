"""Batches of very different character that cost the same number of true boxes.

What a table says about them can be compared with what labelling them truly brings. Some are made
with the ground truth, which is no use to a strategy and does no harm here: they widen the range.

Shapes: P candidates, C classes, K images in a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from detal.errors import ConfigError, DataError
from detal.evaluation import rare_classes
from detal.features.expected_objects import Bundles
from detal.reward import CategoryCurves, CurveTable
from detal.seeding import generator
from detal.strategies import Candidates, Choice, MeasureSelector, Order, fill
from detal.strategies.coverage import core_set
from detal.strategies.scored import box_count, entropy, highest_first, random
from detal.strategies.table_greedy import curve_greedy, greedy
from detal.structures import Annotations, Budget

__all__ = ["Start", "batch_names", "true_objects", "varied_batches"]

Integers = NDArray[np.int64]

_RANDOM = 6
_REDUNDANT = 3
_CLASSES = 4


@dataclass(frozen=True, eq=False)
class Start:
    """Where all batches start from: an initial set, its detector, and the truth about the pool.

    Attributes:
        candidates: P images that are not labelled and show at least one object, with what the
            detector says about them.
        truth: Their ground truth, in the same order.
    """

    candidates: Candidates
    truth: Annotations

    @property
    def true_boxes(self) -> Integers:
        """(P,) true objects of each candidate."""
        return np.diff(self.truth.offsets)

    @property
    def true_counts(self) -> Integers:
        """(P, C) true objects by class, crowds left out."""
        counts = np.zeros((len(self.candidates), len(self.candidates.class_names)), np.int64)
        single = ~self.truth.is_crowd
        np.add.at(counts, (self.truth.image_index[single], self.truth.labels[single]), 1)
        return counts


Kind = Callable[[Start, np.random.Generator], Order]
"""Puts the candidates in the order of preference of one character."""


def true_objects(start: Start) -> Bundles:
    """The true objects of the candidates, in the place of expected ones."""
    counts = start.true_counts
    images, labels = counts.nonzero()
    offsets = np.concatenate([[0], np.cumsum((counts > 0).sum(axis=1))])
    return Bundles(offsets.astype(np.int64), labels, counts[images, labels].astype(np.float64))


def batch_names(num_classes: int) -> list[str]:
    """Names of the batches of a dataset with so many classes."""
    return list(_kinds(num_classes))


def varied_batches(
    start: Start, names: Iterable[str], *, boxes: float, seed: int
) -> dict[str, Integers]:
    """Fill a batch of each character up to the same number of true boxes.

    An image that does not fit is skipped for a later one that does, so that a batch stays below
    ``boxes`` by less than the smallest image that it left out.

    Args:
        start: What to choose from.
        names: Of `batch_names`.
        boxes: True boxes that no batch exceeds.
        seed: Of everything random; each batch has draws of its own.

    Returns:
        By name (K,) candidates, in the order they were picked.

    Raises:
        DataError: If the pool is so small that batches could hardly differ.
        ConfigError: If a name is unknown.
    """
    total = int(start.true_boxes.sum())
    if total < 2 * boxes:
        raise DataError(
            f"the images left to label must hold twice the {boxes:g} boxes of a batch, or batches "
            f"could hardly differ; they hold {total}"
        )
    kinds = _kinds(len(start.candidates.class_names))
    unknown = [name for name in names if name not in kinds]
    if unknown:
        raise ConfigError(f"unknown batches {unknown}: choose among {list(kinds)}")
    priced = replace(start.candidates, expected_boxes=start.true_boxes.astype(np.float64))
    budget = Budget(boxes, "boxes")
    return {
        name: fill(
            kinds[name](start, generator(seed, "fidelity", name)), priced, budget=budget
        ).index
        for name in names
    }


def _kinds(num_classes: int) -> dict[str, Kind]:
    classes = np.unique(np.linspace(0, num_classes - 1, _CLASSES).round().astype(int)).tolist()
    return {
        **{f"random-{i}": _by(random()) for i in range(_RANDOM)},
        "entropy_sum": _by(entropy(aggregation="sum")),
        "entropy_mean": _by(entropy(aggregation="mean")),
        "least_entropy": _last_of(entropy(aggregation="mean")),
        "crowded": _by(box_count()),
        "sparse": _last_of(box_count()),
        **{f"class_rank-{rank}": _one_class(rank) for rank in classes},
        "rare_classes": _rare_classes,
        "inverse_frequency": _inverse_frequency,
        **{f"redundant-{i}": _redundant for i in range(_REDUNDANT)},
        "like_labeled": _like_labeled,
        "core_set": _by(core_set()),
        "curve_greedy": _by(curve_greedy()),
        "curve_greedy_counts": _by(curve_greedy(informativeness="none", redundancy=False)),
        "curve_greedy_true": _greedy_on_truth,
        "least_gain": _last_of(curve_greedy()),
    }


def _by(strategy: MeasureSelector) -> Kind:
    """As a strategy would choose, which expects boxes and does not know them."""
    return lambda start, rng: strategy.select(start.candidates, _any_budget(start), rng)


def _last_of(strategy: MeasureSelector) -> Kind:
    """What a strategy likes least first, as it looks before anything is picked."""

    def order(start: Start, rng: np.random.Generator) -> Order:
        choices: list[Choice] = list(strategy.select(start.candidates, _any_budget(start), rng))
        yield from (choice for choice in reversed(choices))  # a plain iterator takes no `send`

    return order


def _any_budget(start: Start) -> Budget:
    """For strategies that look at it; those here do not, but for its unit."""
    return Budget(max(float(start.candidates.expected_boxes.sum()), 1.0), "boxes")


def _one_class(rank: int) -> Kind:
    """Images with the greatest share of one class, by rank of its frequency (0: rarest)."""

    def order(start: Start, rng: np.random.Generator) -> Order:
        label = int(np.argsort(start.true_counts.sum(axis=0), kind="stable")[rank])
        return highest_first(_share(start, np.array([label])), rng, name="share of the class")

    return order


def _rare_classes(start: Start, rng: np.random.Generator) -> Order:
    """Images with the greatest share of the rarest third of the classes."""
    rare = rare_classes(start.true_counts.sum(axis=0))
    return highest_first(_share(start, rare), rng, name="share of rare classes")


def _inverse_frequency(start: Start, rng: np.random.Generator) -> Order:
    """Images whose average object is of a rare class."""
    counts = start.true_counts
    rarity = 1 / np.maximum(counts.sum(axis=0), 1)
    values = counts @ rarity / start.true_boxes
    return highest_first(values, rng, name="rarity of its objects")


def _share(start: Start, labels: Integers) -> NDArray[np.float64]:
    return np.asarray(start.true_counts[:, labels].sum(axis=1) / start.true_boxes)


def _redundant(start: Start, rng: np.random.Generator) -> Order:
    """The nearest neighbours of one random image."""
    features = _unit(start.candidates.require_features("a batch of near-duplicates"))
    centre = features[rng.integers(len(features))]
    return highest_first((features @ centre).astype(np.float64), rng, name="similarity")


def _like_labeled(start: Start, rng: np.random.Generator) -> Order:
    """The images nearest to a labelled one."""
    features = _unit(start.candidates.require_features("a batch like the labelled images"))
    labeled = start.candidates.labeled.image_features
    if labeled is None:
        raise DataError("a batch like the labelled images needs labelled images")
    nearest = (features @ _unit(labeled).T).max(axis=1)
    return highest_first(nearest.astype(np.float64), rng, name="similarity")


def _unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(norms, 1e-12))


def _greedy_on_truth(start: Start, rng: np.random.Generator) -> Order:
    """Greedy on the prior curves with the true counts and costs."""
    table = CurveTable(
        CategoryCurves.prior(len(start.candidates.class_names)),
        counts=start.candidates.labeled.class_counts,
        objects=true_objects(start),
        class_names=start.candidates.class_names,
    )
    priced = replace(start.candidates, expected_boxes=start.true_boxes.astype(np.float64))
    return greedy(table, priced, _any_budget(start), rng)
