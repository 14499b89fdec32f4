"""Strategies that look at which classes are short: a penalty, quotas, inverse frequency.

All of them count objects that are expected, not seen: the scores of the boxes of a class. All go by
gain per cost, so that with a budget in boxes a crowd has to be worth its boxes.

Shapes: P candidates, C classes, s classes of one or several images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from detal.errors import ConfigError, unknown_name
from detal.features import aggregate, uncertainty
from detal.features.expected_objects import Bundles, expected_objects
from detal.strategies.candidates import Candidates
from detal.strategies.fill import Choice, Order
from detal.strategies.geometry import Space
from detal.strategies.marginal import LazyGreedy, Worth
from detal.strategies.options import check_number
from detal.strategies.quotas import (
    check_quotas,
    level_quotas,
    quotas_in_objects,
    tell_result,
    tell_shortage,
    unfilled,
)
from detal.strategies.strategy import MeasureSelector
from detal.structures import Budget, Detections

__all__ = ["class_balanced", "class_quota", "rare_first"]

Base = Literal["entropy", "core_set"]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def class_balanced(
    *, base: Base = "entropy", weight: float = 1.2, excess: float = 0.0
) -> MeasureSelector:
    """Doubtful (or far) images that bring the classes nearer to equal numbers.

    CBAL (Bengar et al., "Class-balanced active learning for image classification", WACV 2022) adds
    to a base measure a penalty, lambda times the L1 distance between the objects a class is short
    of and those in the batch. This is the greedy form for both bases; expected objects stand in for
    the softmax of an image's one label, and a class is short of (labelled objects + those the
    budget buys) / C minus its own, in fractions. With one object an image any ``excess`` gives the
    paper's order, at a weight of 2 lambda / (1 + excess): 1.2 stands for its lambda of 0.6
    (CIFAR-10, entropy), 1.0 for its lambda / C of 0.5 (core-set). In detection objects come in
    bundles, and the paper's absolute value (``excess: 1``) turns away a rare object in a crowd of
    common ones; 0 does not. Cost: one pass over the store; see
    `detal.strategies.lazy`; with ``core_set`` O(P D) per pick and labelled image.
    Failure mode: a class that the detector never predicts stays short, and false detections of a
    rare class count as finds.

    Args:
        base: ``entropy`` (of each box, summed) or ``core_set`` (cosine distance to the nearest
            labelled or picked image; 0 for the first if nothing is labelled).
        weight: Worth of an object of a short class, in units of the base measure.
        excess: What an object beyond what is short costs, as a share of ``weight``.
    """
    if base not in get_args(Base):
        raise ConfigError(unknown_name("base of class_balanced", str(base), get_args(Base)))
    check_number("weight of class_balanced", weight)
    check_number("excess of class_balanced", excess)

    def select(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
        if len(candidates) == 0:
            return
        counts = candidates.labeled.class_counts
        level = (counts.sum() + _objects_bought(candidates, budget)) / len(counts)
        short = np.maximum(level - counts, 0)
        worth = partial(_worth_of_short, short=short, excess=excess)
        greedy = _greedy(candidates, budget, worth, rng, weight=weight)
        if base == "entropy":
            measure, cover = "summed entropy", None
            greedy.queue.base = candidates.map(_summed_entropy)
        else:
            measure, cover = "distance", _far_from_labeled(greedy, candidates)
        names = candidates.class_names
        why = partial(_why_balanced, greedy=greedy, names=names, short=short, measure=measure)
        yield from _walk(greedy, why, taken_too=cover)

    return MeasureSelector(select=select)


def class_quota(*, quotas: Mapping[str, float | str] | None = None) -> MeasureSelector:
    """Images that fill the quotas of the classes, those first that are relatively the emptiest.

    An object is worth the part of its class's quota that is still open, 1 for the first and 0 from
    the last on; the image of largest summed worth per cost is next, and as soon as no image helps
    any quota the rest come at random. Quotas that cannot be met are named in the log and in the
    reasons. A plain rule of ours without a paper. Cost: one pass over the store; see
    `detal.strategies.lazy`. Failure mode: blind to what the detector finds hard, and
    a class that it never predicts is never found.

    Args:
        quotas: Class name -> objects wanted in the batch, or their share of the objects that the
            budget is expected to buy, as in ``"20%"``; classes not named get none. By default what
            levels the labelled counts: each class under a common level gets what it lacks.
    """
    given = None if quotas is None else check_quotas(quotas)

    def select(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
        if len(candidates) == 0:
            return
        names = candidates.class_names
        bought = _objects_bought(candidates, budget)
        quota = (
            level_quotas(candidates.labeled.class_counts, bought)
            if given is None
            else quotas_in_objects(given, names, bought)
        )
        bundles = _bundles(candidates)
        supply = bundles.supply(len(names))
        told = tell_shortage(quota, supply, bought, names, asked=given is not None)
        worth = partial(_worth_of_quota, quota=quota)
        greedy = _greedy(candidates, budget, worth, rng, bundles)
        why = partial(_why_quota, greedy=greedy, names=names, quota=quota, supply=supply)

        def remarks() -> tuple[str, ...]:
            return told if given is None else (*told, *unfilled(quota, greedy.have, names))

        try:
            yield from _walk(
                greedy, why, rest="drawn at random: it helps no quota that is open", remarks=remarks
            )
        finally:
            tell_result(quota, greedy.have, names)

    return MeasureSelector(select=select)


def rare_first() -> MeasureSelector:
    """Images with objects of classes of which few are labelled.

    An expected object is worth 1 / (1 + objects of its class that are labelled or in the batch);
    an image with e of them, with n there already, ln((1 + n + e) / (1 + n)), so that neither the
    batch nor a crowd fills up with one rare class. The largest sum over classes per cost is next.
    Inverse-frequency weighting with diminishing returns, without a paper. Cost: one pass over the
    store; see `detal.strategies.lazy`. Failure mode: blind to what the detector
    finds hard; false detections of a rare class come first of all.
    """

    def select(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
        counts = candidates.labeled.class_counts
        worth = partial(_worth_of_rare, labeled=counts.astype(np.float64))
        greedy = _greedy(candidates, budget, worth, rng)
        names = candidates.class_names
        return _walk(greedy, partial(_why_rare, greedy=greedy, names=names, counts=counts))

    return MeasureSelector(select=select)


def _objects_bought(candidates: Candidates, budget: Budget) -> float:
    """About how many objects the budget buys of the pool as it is on average."""
    boxes = candidates.expected_boxes
    mean_cost = float(budget.costs(boxes).mean())
    share = min(1.0, budget.amount / (mean_cost * len(boxes))) if mean_cost > 0 else 1.0
    return share * float(boxes.sum())


def _bundles(candidates: Candidates) -> Bundles:
    return expected_objects(candidates.chunks(), num_images=len(candidates))


def _greedy(
    candidates: Candidates,
    budget: Budget,
    worth: Worth,
    rng: np.random.Generator,
    bundles: Bundles | None = None,
    *,
    weight: float = 1.0,
) -> LazyGreedy:
    return LazyGreedy(
        _bundles(candidates) if bundles is None else bundles,
        worth,
        costs=budget.costs(candidates.expected_boxes),
        num_classes=len(candidates.class_names),
        rng=rng,
        weight=weight,
    )


def _worth_of_short(
    labels: Integers, have: Floats, amounts: Floats, *, short: Floats, excess: float
) -> Floats:
    """Objects that fill what is short, less the others times ``excess``."""
    filling = np.minimum(amounts, np.maximum(short[labels] - have, 0))
    return np.asarray(filling - excess * (amounts - filling))


def _worth_of_quota(labels: Integers, have: Floats, amounts: Floats, *, quota: Floats) -> Floats:
    """Integral of the open part of the quota from ``have`` to ``have + amounts``."""
    whole = quota[labels]
    start, stop = np.minimum(have, whole), np.minimum(have + amounts, whole)
    middle = 1 - (start + stop) / (2 * np.where(whole > 0, whole, 1))
    return np.asarray((stop - start) * middle)


def _worth_of_rare(labels: Integers, have: Floats, amounts: Floats, *, labeled: Floats) -> Floats:
    return np.log1p(amounts / (1 + labeled[labels] + have))


def _far_from_labeled(greedy: LazyGreedy, candidates: Candidates) -> Callable[[int], None]:
    """Make distance the base measure; what is returned has to hear of each image taken."""
    space = Space(candidates.require_features("class_balanced"), metric="cosine")
    nearest = np.full(len(candidates), np.inf)
    labeled = candidates.labeled.image_features
    if labeled is not None and len(labeled):
        nearest = space.distance_to_nearest(labeled).astype(np.float64)
        greedy.queue.base = nearest

    def cover(index: int) -> None:
        np.minimum(nearest, space.distance_to(index), out=nearest)
        greedy.queue.base = nearest

    return cover


def _walk(
    greedy: LazyGreedy,
    why: Callable[[int], str],
    *,
    taken_too: Callable[[int], None] | None = None,
    rest: str | None = None,
    remarks: Callable[[], tuple[str, ...]] = tuple,
) -> Order:
    """Candidates by gain; if ``rest`` says why, those of no gain come last in a random order."""
    while (index := greedy.queue.best()) >= 0:
        gain = greedy.queue.gain(index)
        if rest is not None and gain <= 0:
            break
        taken = yield Choice(index, gain, why(index), remarks)
        greedy.close(index, taken=taken)
        if taken and taken_too is not None:
            taken_too(index)
    for index in greedy.queue.left().tolist():
        yield Choice(index, 0.0, rest or "", remarks)


def _leading(greedy: LazyGreedy, index: int) -> tuple[int, float, float]:
    """The class that an image is worth most for, its expected objects and what they are worth."""
    labels, amounts, worth = greedy.holds(index)
    if len(labels) == 0:
        return -1, 0.0, 0.0
    place = int(worth.argmax())
    return int(labels[place]), float(amounts[place]), float(worth[place])


def _why_balanced(
    index: int, *, greedy: LazyGreedy, names: tuple[str, ...], short: Floats, measure: str
) -> str:
    label, amount, worth = _leading(greedy, index)
    start = f"{measure} {greedy.queue.base[index]:.3g}"
    if worth <= 0:
        return f"{start}, shows no class that is short of objects"
    left = short[label] - greedy.have[label]
    return f"{start}, brings about {amount:.2g} {names[label]}, short of {left:.3g}"


def _why_quota(
    index: int, *, greedy: LazyGreedy, names: tuple[str, ...], quota: Floats, supply: Floats
) -> str:
    label, amount, _ = _leading(greedy, index)
    have = f"{greedy.have[label]:.3g} of {quota[label]:.3g}"
    scarce = supply[label] < quota[label]
    limit = f" (the pool holds about {supply[label]:.3g})" if scarce else ""
    return f"brings about {amount:.2g} {names[label]}, quota {have} filled{limit}"


def _why_rare(index: int, *, greedy: LazyGreedy, names: tuple[str, ...], counts: Integers) -> str:
    label, amount, worth = _leading(greedy, index)
    if worth <= 0:
        return "shows no object of any class"
    return (
        f"brings about {amount:.2g} {names[label]}, of which {counts[label]} are labelled and "
        f"about {greedy.have[label]:.2g} in the batch"
    )


def _summed_entropy(detections: Detections) -> Tensor:
    return aggregate(uncertainty.entropy(detections), detections)
