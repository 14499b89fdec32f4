"""The strategy `trustset`: objects like those that teach, each category by its quota.

Shapes: P candidates, C classes, s pairs of an image and a class in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detal.features.expected_objects import Bundles
from detal.reward import CategoryCurves, FittedCurves, Novelty
from detal.strategies.candidates import Candidates
from detal.strategies.fill import Choice, Order
from detal.strategies.lazy import LazyQueue
from detal.strategies.quotas import (
    check_quotas,
    curve_quotas,
    quotas_in_objects,
    tell_result,
    tell_shortage,
)
from detal.strategies.strategy import MeasureSelector
from detal.strategies.trust import Expected, expect_objects
from detal.strategies.weighting import ClassWeights, check_class_weights, weights_by_label
from detal.structures import Budget
from detal.trustset import Balance, TrustSetOptions

__all__ = ["trustset"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_BEYOND = 0.1
_LEAST_COST = 1e-9


def trustset(
    *,
    share: float = 0.5,
    balance: Balance = "uniform",
    table: str | None = None,
    class_weights: ClassWeights = "none",
    quotas: Mapping[str, float | str] | None = None,
    redundancy: bool | None = None,
) -> MeasureSelector:
    """Images that hold most objects like the labelled ones that teach, class by class.

    In the spirit of BRAL-T (Cui et al., 2026, image classification; for detection ours): the
    TrustSet is the informative, balanced part of the labelled objects without copies and suspicious
    labels (`detal.trustset`); a logistic regression learns to tell its detections from others by
    what needs no label. Its probability, *trust*, goes to the classes that such detections turned
    out to be, counts in labelled objects, and the more objects of a class are labelled the more it
    counts beside plain expected objects (`expect_objects`). Quotas per class follow from labelled
    counts, learning curves and class weights (`curve_quotas`), as far as the pool goes; an image is
    worth what its objects raise the curves by, a tenth of that beyond the quota, less the more it
    resembles a labelled or picked image. The largest worth per cost is next, where an image costs
    what it is expected to hold by the same models. All is learned on the reference set, or on the
    labelled images without one. Cost: fits of a tenth of a second, one pass over the store, then a
    lazy greedy (`detal.strategies.lazy`), which looks up how new an image is for the few near the
    top only. Failure mode: what no labelled object resembles is not trusted; a reference set that
    is not like the pool (rare classes enriched) makes rare classes look more frequent than they
    are; with very few labelled objects found, scores weighted by their entropy stand in for trust
    (with a warning).

    Args:
        share: Part of the labelled objects in the TrustSet, in (0, 1].
        balance: Of the TrustSet: ``uniform``, ``sqrt`` or ``slope``.
        table: Folder of a table that ``detal tables build`` wrote; prior curves by default.
        class_weights: See `entropy`; ``{bicycle: 2}`` makes a class count twice.
        quotas: Class name -> objects that teach wanted in the batch, or their share (``"20%"``);
            the curves share out the rest. What cannot be met is logged and in the reasons.
        redundancy: Discount images that resemble a labelled or picked one; needs image features.
            By default where the detector gives them.
    """
    options = TrustSetOptions(share=share, balance=balance)
    check_class_weights(class_weights)
    given = None if quotas is None else check_quotas(quotas)
    fitted = None if table is None else FittedCurves.load(Path(table))

    def select(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
        if len(candidates) == 0:
            return
        names = candidates.class_names
        wanted = candidates.image_features is not None if redundancy is None else redundancy
        features = candidates.require_features("trustset") if wanted else None
        curves = CategoryCurves.prior(len(names)) if fitted is None else fitted.for_classes(names)
        expected = expect_objects(candidates, rng=rng, options=options, curves=curves)
        weights = weights_by_label(candidates, class_weights)
        plan = _plan(
            candidates,
            budget,
            expected,
            curves,
            weights=np.ones(len(names)) if weights is None else weights.double().numpy(),
            given=given,
        )
        novelty = None
        if features is not None:
            novelty = Novelty(features, candidates.labeled.image_features, rng)
        batch = _Batch(expected.teaching, plan, novelty)
        costs, order = budget.costs(expected.boxes), rng.permutation(len(candidates))
        queue = LazyQueue(batch.gains, costs=costs, order=order)
        try:
            while (index := queue.best()) >= 0:
                taken = yield Choice(index, queue.gain(index), batch.why(index, names))
                if taken:
                    batch.take(index)
                queue.close(index, changed=taken)
        finally:
            tell_result(plan.quota, batch.have, names)

    return MeasureSelector(select=select)


@dataclass(frozen=True, eq=False)
class _Plan:
    """What the batch should hold of each class.

    Attributes:
        curves: AP over labelled objects.
        counts: (C,) labelled objects.
        weights: (C,) how much each class counts.
        supply: (C,) objects that teach in the whole pool.
        wanted: (C,) quotas if the pool held enough of everything.
        quota: (C,) those that the pool can fill.
    """

    curves: CategoryCurves
    counts: Floats
    weights: Floats
    supply: Floats
    wanted: Floats
    quota: Floats

    def worth(self, labels: Integers, have: Floats, amounts: Floats) -> Floats:
        """See `detal.strategies.marginal.Worth`: AP gained, a tenth of it beyond the quota."""
        before = self.counts[labels] + have
        inside = np.clip(self.quota[labels] - have, 0, amounts)
        within = self.curves.gain(labels, before, inside)
        beyond = self.curves.gain(labels, before + inside, amounts - inside)
        return np.asarray(self.weights[labels] * (within + _BEYOND * beyond))


def _plan(
    candidates: Candidates,
    budget: Budget,
    expected: Expected,
    curves: CategoryCurves,
    *,
    weights: Floats,
    given: dict[str, tuple[float, bool]] | None,
) -> _Plan:
    names = candidates.class_names
    supply = expected.teaching.supply(len(names))
    bought = _most_bought(budget, expected)
    counts = candidates.labeled.class_counts
    free = weights.copy()
    asked = np.zeros(len(names))
    if given is not None:
        asked = quotas_in_objects(given, names, bought)
        free[[names.index(name) for name in given]] = 0
    left = max(bought - asked.sum(), 0.0)
    wanted = asked + curve_quotas(curves, counts, left, weights=free)
    met = np.minimum(asked, supply)
    quota = met + curve_quotas(
        curves, counts, max(bought - met.sum(), 0.0), weights=free, supply=supply
    )
    tell_shortage(wanted, supply, bought, names, asked=given is not None)
    return _Plan(
        curves,
        counts.astype(np.float64),
        weights=weights / len(names),
        supply=supply,
        wanted=wanted,
        quota=quota,
    )


def _most_bought(budget: Budget, expected: Expected) -> float:
    """Most objects that teach which the budget buys: of the images with most of them per cost."""
    costs = np.maximum(budget.costs(expected.boxes), _LEAST_COST)
    bundles = expected.teaching
    image = np.repeat(np.arange(len(bundles)), np.diff(bundles.offsets))
    trust = np.bincount(image, weights=bundles.amounts, minlength=len(costs))
    order = np.argsort(-trust / costs, kind="stable")
    spent = costs[order].cumsum()
    part = np.clip((budget.amount - (spent - costs[order])) / costs[order], 0, 1)
    return float((trust[order] * part).sum())


class _Batch:
    """What was taken, and what each candidate is worth beside it.

    Attributes:
        have: (C,) objects that teach in the batch.
    """

    def __init__(self, bundles: Bundles, plan: _Plan, novelty: Novelty | None) -> None:
        self._bundles = bundles
        self._plan = plan
        self._novelty = novelty
        self._known = None if novelty is None else novelty.known()
        self.have = np.zeros(len(plan.quota))

    def gains(self, index: Integers) -> Floats:
        """(n,) worth of the candidates ``index`` (n,); it never rises while the batch grows."""
        labels, amounts, owner = self._holds(index)
        worth = self._plan.worth(labels, self.have[labels], amounts)
        return np.asarray(np.bincount(owner, worth, minlength=len(index)), dtype=np.float64)

    def take(self, index: int) -> None:
        """Candidate ``index`` is in the batch."""
        labels, amounts, _ = self._holds(np.array([index]))
        self.have[labels] += amounts
        if self._known is not None:
            self._known = self._known.add(index)

    def why(self, index: int, names: tuple[str, ...]) -> str:
        """What candidate ``index`` brings, and to which quota."""
        labels, amounts, _ = self._holds(np.array([index]))
        worth = self._plan.worth(labels, self.have[labels], amounts)
        if worth.max(initial=0.0) <= 0:
            return "no object is expected in it that would teach"
        place = int(worth.argmax())
        label = int(labels[place])
        quota, wanted = self._plan.quota[label], self._plan.wanted[label]
        scarce = self._plan.supply[label] < wanted - _LEAST_COST
        limit = f" (wanted {wanted:.3g}, more than the pool holds)" if scarce else ""
        return (
            f"about {amounts[place]:.2g} {names[label]} like those that teach, quota "
            f"{self.have[label]:.3g} of {quota:.3g} filled{limit}"
        )

    def _holds(self, index: Integers) -> tuple[Integers, Floats, Integers]:
        """Classes, new objects that teach and the place in ``index`` of each."""
        rows, owner = self._bundles.rows(index)
        amounts = self._bundles.amounts[rows]
        if self._novelty is not None and self._known is not None:
            amounts = amounts * self._novelty.of(self._known.distance(index))[owner]
        return self._bundles.labels[rows], amounts, owner
