"""The tables whose word is compared with the truth: one line each.

Shapes: P candidates, K images in a batch, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from detal.errors import DataError
from detal.evaluation import rare_classes
from detal.features.expected_objects import Bundles, Informativeness, expected_objects
from detal.loop.fidelity import Compared
from detal.loop.varied_batches import Start, true_objects
from detal.reward import CategoryCurves, CurveTable, Novelty
from detal.strategies import MeasureSelector
from detal.strategies.calibrated import reference_calibration
from detal.strategies.change_table import output_change_table
from detal.strategies.scored import box_count, entropy
from detal.strategies.variant_table import variant_table
from detal.structures import Budget

__all__ = [
    "MEASURED",
    "NEED_A_REFERENCE",
    "SEE_THE_TRUTH",
    "TABLES",
    "Predictor",
    "predictions",
]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Strategies that score images do not look at it.
_BUDGET = Budget(1)


@dataclass(frozen=True)
class Predictor:
    """What a table says about batches.

    Attributes:
        gain: Of the candidates (K,), in the order they were picked.
        class_gain: (C,) the same by class, or None if the table does not say.
    """

    gain: Callable[[Integers], float]
    class_gain: Callable[[Integers], Floats] | None = None


Build = Callable[[Start, np.random.Generator], Predictor]


def predictions(
    start: Start,
    batches: Sequence[Integers],
    *,
    rng: np.random.Generator,
    tables: Mapping[str, Build] | None = None,
) -> dict[str, Compared]:
    """What each table says about each batch.

    Args:
        start: What the tables may know, and more.
        batches: Candidates of each, in the order they were picked.
        rng: Source of everything random in the tables.
        tables: By name; by default `TABLES`, without those that miss a reference set, and of
            `MEASURED` those that were measured for the study.
    """
    found = {}
    for name, build in (_all_tables(start) if tables is None else tables).items():
        if name in NEED_A_REFERENCE and start.candidates.reference is None:
            continue
        table = build(start, rng)
        by_class = table.class_gain
        found[name] = Compared(
            gain=np.array([table.gain(batch) for batch in batches], dtype=np.float64),
            class_gain=None if by_class is None else np.stack([by_class(b) for b in batches]),
        )
    return found


def _all_tables(start: Start) -> dict[str, Build]:
    measured = start.candidates.tables
    there = {"curve_fitted": measured.curves, "variant": measured.groups}
    return {**TABLES, **{n: b for n, b in MEASURED.items() if there[n] is not None}}


def _curve(
    start: Start,
    rng: np.random.Generator,
    *,
    informativeness: Informativeness = "none",
    novelty: bool = False,
    calibrated: bool = True,
    truth: bool = False,
    fitted: bool = False,
) -> Predictor:
    """The category curve table."""
    candidates = start.candidates
    features = candidates.require_features("a table with novelty") if novelty else None
    curves = candidates.tables.curves if fitted else None
    table = CurveTable(
        CategoryCurves.prior(len(candidates.class_names))
        if curves is None
        else curves.for_classes(candidates.class_names),
        counts=candidates.labeled.class_counts,
        objects=true_objects(start)
        if truth
        else _expected(start, informativeness, calibrated=calibrated),
        class_names=candidates.class_names,
        novelty=None
        if features is None
        else Novelty(features, candidates.labeled.image_features, rng),
    )
    return Predictor(table.gain, table.class_gain)


def _change(start: Start, rng: np.random.Generator) -> Predictor:
    """The output change table."""
    table = output_change_table(start.candidates, rng)
    return Predictor(table.gain, table.class_gain)


def _expected(
    start: Start, informativeness: Informativeness, *, calibrated: bool = True
) -> Bundles:
    return expected_objects(
        start.candidates.chunks(),
        num_images=len(start.candidates),
        informativeness=informativeness,
        calibrate=reference_calibration(start.candidates) if calibrated else None,
    )


def _variant(start: Start, rng: np.random.Generator) -> Predictor:
    """The variant table."""
    gains = start.candidates.tables.groups
    if gains is None:
        raise DataError("the variant table needs measured groups, the study has none")
    table = variant_table(gains, start.candidates)
    return Predictor(table.gain, table.class_gain)


def _rare_boxes(start: Start, rng: np.random.Generator) -> Predictor:
    """Expected objects of the third of the classes with the fewest labels."""
    objects = _expected(start, "none")
    rare = rare_classes(start.candidates.labeled.class_counts)
    image = np.repeat(np.arange(len(objects)), np.diff(objects.offsets))
    amounts = np.where(np.isin(objects.labels, rare), objects.amounts, 0.0)
    values = np.bincount(image, amounts, minlength=len(objects))
    return Predictor(lambda batch: float(values[batch].sum()))


def _summed(start: Start, rng: np.random.Generator, *, strategy: MeasureSelector) -> Predictor:
    """The sum of a strategy's scores of the images."""
    values = np.zeros(len(start.candidates))
    for choice in strategy.select(start.candidates, _BUDGET, rng):
        values[choice.candidate] = choice.score
    return Predictor(lambda batch: float(values[batch].sum()))


def _images(start: Start, rng: np.random.Generator) -> Predictor:
    """How many images the batch has: at equal boxes, a table has to know more than that."""
    return Predictor(lambda batch: float(len(batch)))


# A new table is one more line here: a function of the start and a generator.
TABLES: dict[str, Build] = {
    "curve": partial(_curve, informativeness="entropy", novelty=True),
    "curve_without_novelty": partial(_curve, informativeness="entropy"),
    "curve_without_entropy": partial(_curve, novelty=True),
    "curve_uncalibrated": partial(
        _curve, informativeness="entropy", novelty=True, calibrated=False
    ),
    "curve_counts": _curve,
    "change": _change,
    "rare_boxes": _rare_boxes,
    "entropy_sum": partial(_summed, strategy=entropy(aggregation="sum")),
    "expected_boxes": partial(_summed, strategy=box_count()),
    "images": _images,
    "true_counts": partial(_curve, truth=True),
    "true_counts_novelty": partial(_curve, truth=True, novelty=True),
}
"""Tables by name. The ``curve`` ones are category curve tables on prior curves: as `curve_greedy`
has it, without one of its corrections, and ``curve_counts`` without both of its discounts."""

MEASURED: dict[str, Build] = {
    "curve_fitted": partial(_curve, informativeness="entropy", novelty=True, fitted=True),
    "variant": _variant,
}
"""Tables that rest on trained variants of the initial detector (``Candidates.tables``)."""

NEED_A_REFERENCE = frozenset({"change"})
"""Tables that are left out of a study without a reference set."""

SEE_THE_TRUTH = frozenset({"true_counts", "true_counts_novelty"})
"""Tables that are told the true objects: what is lost by expecting them."""
