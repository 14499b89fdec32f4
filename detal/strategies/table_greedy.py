"""Greedy on a look-up table: the next image is the one that adds most mAP for its cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from detal.errors import ConfigError, unknown_name
from detal.features.expected_objects import Bundles, Informativeness, expected_objects
from detal.reward import CategoryCurves, CurveTable, FittedCurves, Novelty, RewardTable
from detal.strategies.calibrated import reference_calibration
from detal.strategies.candidates import Candidates
from detal.strategies.fill import Choice, Order
from detal.strategies.lazy import LazyQueue
from detal.strategies.strategy import MeasureSelector, Needs
from detal.strategies.trust import expect_objects
from detal.strategies.weighting import ClassWeights, check_class_weights, weights_by_label
from detal.structures import Budget

__all__ = ["Curves", "curve_greedy", "curve_table", "greedy"]

Curves = Literal["prior", "fitted"]


def curve_greedy(
    *,
    informativeness: Informativeness | Literal["trust"] = "entropy",
    redundancy: bool | None = None,
    class_weights: ClassWeights = "none",
    curves: Curves = "prior",
    table: str | None = None,
) -> MeasureSelector:
    """Images whose expected objects raise the per-category learning curves most per cost.

    Each class is expected to follow ``AP(n) = 1 - (1 + n / 10) ** -1/2`` over its labelled objects,
    or the curve that was ``fitted`` to it, so classes with few labels gain most, and each further
    object of a class in the batch gains less; an object that the detector is sure of counts little,
    and so does an image that resembles a labelled or picked one. Where there is a reference set,
    scores are calibrated on it before objects are counted. Cost: one pass over the store, then a
    lazy greedy (Minoux 1978), which looks up how new an image is for the few near the top only;
    fitted curves take the training of three variants of the detector by default, once a round.
    Failure mode: a class that the detector never proposes is expected nowhere; a table measured on
    few reference objects takes their luck for the shape of a curve. Ours; after the category gains
    of the design.

    Args:
        informativeness: ``entropy`` discounts what the detector is sure of, ``none`` counts every
            expected object in full, ``trust`` counts a detection as it is likely to be of those
            that teach (`trustset`; needs labelled images).
        redundancy: Discount images that resemble a labelled or picked one; needs image features.
            By default where the detector gives them.
        class_weights: See `entropy`; ``{bicycle: 2}`` makes a class count twice.
        curves: ``prior``, or ``fitted``: the run itself trains variants of the detector on parts of
            what is labelled and measures them on the reference set.
        table: Folder that ``detal tables build`` wrote: its fitted curves, and nothing is trained.
    """
    if informativeness not in ("entropy", "trust", "none"):
        raise ConfigError(
            f"informativeness must be entropy, trust or none, got {informativeness!r}"
        )
    if curves not in get_args(Curves):
        raise ConfigError(unknown_name("curves", str(curves), get_args(Curves)))
    check_class_weights(class_weights)
    read = None if table is None else FittedCurves.load(Path(table))
    own = curves == "fitted" and read is None

    def select(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
        if len(candidates) == 0:
            return
        fitted = _measured(candidates) if own else read
        gains = curve_table(
            candidates,
            rng,
            curves=CategoryCurves.prior(len(candidates.class_names))
            if fitted is None
            else fitted.for_classes(candidates.class_names),
            informativeness=informativeness,
            redundancy=redundancy,
            class_weights=class_weights,
        )
        by = " by a prior curve" if fitted is None else ""
        yield from greedy(gains, candidates, budget, rng, by=by)

    return MeasureSelector(select=select, needs=Needs(tables=("curves",) if own else ()))


def _measured(candidates: Candidates) -> FittedCurves:
    if candidates.tables.curves is None:
        raise ConfigError(
            "curve_greedy with fitted curves needs variants of the detector: name a folder of "
            "`detal tables build` as `table`, or set curves: prior"
        )
    return candidates.tables.curves


def curve_table(
    candidates: Candidates,
    rng: np.random.Generator,
    *,
    curves: CategoryCurves,
    informativeness: Informativeness | Literal["trust"] = "entropy",
    redundancy: bool | None = None,
    class_weights: ClassWeights = "none",
) -> CurveTable:
    """The category curve table of the candidates; options as in `curve_greedy`."""
    weights = weights_by_label(candidates, class_weights)
    wanted = candidates.image_features is not None if redundancy is None else redundancy
    features = candidates.require_features("curve_greedy") if wanted else None
    return CurveTable(
        curves,
        counts=candidates.labeled.class_counts,
        objects=_objects(candidates, informativeness, rng),
        class_names=candidates.class_names,
        novelty=None
        if features is None
        else Novelty(features, candidates.labeled.image_features, rng),
        class_weights=None if weights is None else weights.double().numpy(),
    )


def _objects(
    candidates: Candidates,
    informativeness: Informativeness | Literal["trust"],
    rng: np.random.Generator,
) -> Bundles:
    if informativeness == "trust":
        return expect_objects(candidates, rng=rng).teaching
    return expected_objects(
        candidates.chunks(),
        num_images=len(candidates),
        informativeness=informativeness,
        calibrate=reference_calibration(candidates),
    )


def greedy(
    table: RewardTable[Any],
    candidates: Candidates,
    budget: Budget,
    rng: np.random.Generator,
    *,
    by: str = "",
) -> Order:
    """Candidates by gain per cost, each time given what was taken before.

    ``by`` tells in the reasons what the gain rests on.

    Lazy, as the gain of a table is submodular, and equal ones in a random order.
    """
    state = table.start()
    queue = LazyQueue(
        lambda index: table.marginal_gain(state, index),
        costs=budget.costs(candidates.expected_boxes),
        order=rng.permutation(len(candidates)),
    )
    rank = 0
    while (index := queue.best()) >= 0:
        rank += 1
        gain = queue.gain(index)
        why = f"expected to add {100 * gain:.3g} points of mAP{by}, {table.explain(state, index)}"
        taken = yield Choice(index, gain, f"{why}, rank {rank}")
        if taken:
            state = table.add(state, index)
        queue.close(index, changed=taken)
