"""What a query strategy is, and how a measure and a selector make one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from detal.reward import TableName
from detal.strategies.candidates import Candidates
from detal.strategies.fill import Order, Picks, fill
from detal.structures import Budget, Detections, Selection

__all__ = ["BoxMeasure", "MeasureSelector", "Needs", "QueryStrategy", "Select"]

BoxMeasure = Callable[[Detections], Tensor]
"""(N,) informativeness of each box, higher = more informative."""

Select = Callable[[Candidates, Budget, np.random.Generator], Order]
"""Puts the candidates in order of preference. Only looks at the budget to know about how many
images it will buy; `fill` spends it."""

_BOXES_NAMED = 5
_CLASSES_NAMED = 3


@dataclass(frozen=True)
class Needs:
    """What a strategy needs besides the detector's own pass: further ones, and measured tables.

    Attributes:
        views: Names of augmented views of each image (`detal.detectors.VIEWS`); in
            ``Candidates.passes`` under the same names.
        members: Checkpoints of further detectors of the same classes; in ``Candidates.passes`` as
            ``member:0``, ``member:1``, …
        earlier_rounds: Without ``members``, how many of a loop's checkpoints before the present one
            stand in for them; fewer, down to none, in its first rounds. Outside of a loop there
            are no earlier rounds: members must be named.
        dropout: The detector's own pass must say what its last layer says under dropout
            (``Detections.mutual_information``); no further pass.
        tables: What is to be measured with trained variants of the detector, for
            ``Candidates.tables``.
    """

    views: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    earlier_rounds: int = 0
    dropout: bool = False
    tables: tuple[TableName, ...] = ()


class QueryStrategy(Protocol):
    """Chooses a batch. Deterministic given ``rng`` and blind to the order of the pool."""

    @property
    def needs(self) -> Needs:
        """What it reads besides the detector's own pass."""
        ...

    def query(
        self,
        candidates: Candidates,
        *,
        budget: Budget,
        rng: np.random.Generator,
        min_distance: float = 0.0,
        per_group: int | None = None,
    ) -> Selection:
        """The batch, best first; empty if there are no candidates.

        Args:
            candidates: The pool; never changed.
            budget: How much may be labelled.
            rng: Source of everything random.
            min_distance: See `fill`.
            per_group: See `fill`.

        Raises:
            ConfigError: If the strategy needs what the candidates do not have.
            DataError: If a score is not a number, naming the image.
        """
        ...


@dataclass(frozen=True)
class MeasureSelector:
    """A strategy made of a selector and, where it scores boxes, their measure.

    Attributes:
        select: Puts the candidates in order.
        box_measure: Used to say which boxes of a picked image made it interesting; by default their
            scores, for strategies that do not score boxes.
        needs: Further forward passes that ``select`` reads.
    """

    select: Select
    box_measure: BoxMeasure | None = None
    needs: Needs = Needs()

    def query(
        self,
        candidates: Candidates,
        *,
        budget: Budget,
        rng: np.random.Generator,
        min_distance: float = 0.0,
        per_group: int | None = None,
    ) -> Selection:
        """See `QueryStrategy`."""
        picks = fill(
            self.select(candidates, budget, rng),
            candidates,
            budget=budget,
            min_distance=min_distance,
            per_group=per_group,
        )
        index = picks.index
        scores = np.array([choice.score for choice in picks.choices], dtype=np.float64)
        return Selection(
            image_ids=tuple(candidates.image_ids[index]),
            scores=np.where(np.isfinite(scores), scores, np.nan),
            costs=budget.costs(candidates.expected_boxes[index]),
            reasons=_reasons(picks, candidates, self.box_measure),
            budget=budget,
            passed_over=picks.passed_over,
            remarks=picks.remarks,
        )


def _reasons(
    picks: Picks, candidates: Candidates, box_measure: BoxMeasure | None
) -> tuple[str, ...]:
    """One sentence per picked image: why it was picked, and what the detector sees in it."""
    detections = candidates.take(picks.index)
    values = detections.scores if box_measure is None else box_measure(detections)
    classes = _leading_classes(values, detections, candidates.class_names)
    lead = "clearest" if box_measure is None else "most uncertain"
    reasons = []
    for choice, seen in zip(picks.choices, classes, strict=True):
        boxes = candidates.expected_boxes[choice.candidate]
        what = f"{lead}: {seen}; {_about(boxes)}" if seen else "no detections"
        reasons.append(f"{choice.why}; {what}")
    return tuple(reasons)


def _leading_classes(
    values: Tensor, detections: Detections, class_names: tuple[str, ...]
) -> list[str]:
    """Per image, the classes of its few highest-valued boxes, ``3 x dog, 1 x cat``."""
    labels = detections.labels.tolist()
    ranked = values.argsort(descending=True, stable=True)
    rows = ranked[detections.image_index[ranked].argsort(stable=True)].tolist()
    offsets = detections.offsets.tolist()
    result = []
    for start, stop in itertools.pairwise(offsets):
        top = [labels[row] for row in rows[start : min(stop, start + _BOXES_NAMED)]]
        counts = sorted({label: top.count(label) for label in top}.items(), key=lambda c: -c[1])
        named = [f"{n} × {class_names[label]}" for label, n in counts[:_CLASSES_NAMED]]  # noqa: RUF001
        result.append(", ".join(named))
    return result


def _about(boxes: float) -> str:
    """Expected boxes in words; one decimal below three, where it matters."""
    text = f"{boxes:.1f}" if boxes < 2.95 else f"{boxes:.0f}"
    return f"about {text} box" + ("" if text == "1.0" else "es")
