"""Strategies made of other strategies, written in the config as a short list.

    strategy:
      name: staged
      stages:
        - {name: filter, where: "weather == 'rain'"}
        - {name: entropy, keep: 4}
        - core_set

A part is a strategy's name, or a section with its name and options.

Shapes: P candidates.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from detal.errors import ConfigError, unknown_name
from detal.strategies.candidates import Candidates
from detal.strategies.fill import Choice, Order
from detal.strategies.options import check_integer
from detal.strategies.scored import highest_first
from detal.strategies.strategy import MeasureSelector, Needs, Select
from detal.structures import Budget

__all__ = ["Mode", "cold_start", "combine", "image_scores", "staged"]

Mode = Literal["rank", "product"]
Name = TypeVar("Name", bound=str)


def staged(*, stages: Sequence[Any] | None = None) -> MeasureSelector:
    """One strategy after the other: each narrows the pool for the next, the last one decides.

    A stage ``keep: m`` passes on the images it prefers, as many as m budgets would buy, in the
    budget's unit; ``filter`` passes on what matches. So PPAL's and others' two steps (the most
    uncertain few times the budget, then the most different of these) are a list of two. If the
    guards or the prices leave the budget unused when the last stage is through, the stage before
    passes on its next ones, and the last one starts anew on them. Cost: that of the stages, each on
    what is left of the pool. Failure mode: what the first stage leaves out is lost, however good
    the next one is.

    Args:
        stages: At least two strategies; all but the last one with ``keep`` (a number >= 1), which
            only ``filter`` may do without.
    """
    if not isinstance(stages, Sequence) or isinstance(stages, str) or len(stages) < 2:
        raise ConfigError(f"staged needs a list of at least two stages, got {stages!r}")
    parts = _joined(
        [_part(stage, f"stage {i}", own="keep") for i, stage in enumerate(stages, start=1)]
    )
    for number, part in enumerate(parts[:-1], start=1):
        if part.own is None and part.name != "filter":
            raise ConfigError(
                f"stage {number} ({part.name}) must say how much it keeps, for example keep: 4 for "
                "four times the budget"
            )
        if part.own is not None and not (_is_number(part.own) and part.own >= 1):
            raise ConfigError(f"keep of stage {number} must be a number >= 1, got {part.own!r}")
    if parts[-1].own is not None:
        raise ConfigError("the last stage decides, it must not have keep")
    return _made_of(parts, lambda candidates, budget, rng: _through(parts, candidates, budget, rng))


def combine(*, parts: Sequence[Any] | None = None, mode: Mode = "rank") -> MeasureSelector:
    """Images that several strategies like, by weighted rank or by product of scores.

    ``rank`` gives each image the weighted mean of its ranks, from 1 for a part's favourite to 0
    (equal scores share a rank); it works with every strategy and needs no common unit. ``product``
    multiplies scores raised to their weights, for scores >= 0 such as entropy and density
    (information density; Settles & Craven 2008). A strategy that spreads a batch, such as
    ``core_set``, counts with the score it gives before anything is picked: use ``staged`` to keep
    the spread. An image that a part never offers (``filter``) is not offered. Cost: that of the
    parts, each run over the whole pool; parts that look at the pool for each image they offer
    become quadratic. Failure mode: ranks forget by how much an image is better.

    Args:
        parts: At least one strategy; ``weight`` in a part is a number > 0, by default 1.
        mode: ``rank`` or ``product``.
    """
    if mode not in get_args(Mode):
        raise ConfigError(unknown_name("mode", str(mode), get_args(Mode)))
    if not isinstance(parts, Sequence) or isinstance(parts, str) or not parts:
        raise ConfigError(f"combine needs a list of parts, got {parts!r}")
    read = _joined(
        [_part(part, f"part {i}", own="weight") for i, part in enumerate(parts, start=1)]
    )
    for number, part in enumerate(read, start=1):
        if part.own is not None and not (_is_number(part.own) and part.own > 0):
            raise ConfigError(f"weight of part {number} must be a number > 0, got {part.own!r}")
    weights = [1.0 if part.own is None else float(part.own) for part in read]
    label = f"{mode} of {', '.join(part.name for part in read)}"

    def select(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
        if len(candidates) == 0:
            return
        total = np.zeros(len(candidates))
        for part, weight in zip(read, weights, strict=True):
            total += weight / sum(weights) * _values(part, candidates, budget, rng, mode=mode)
        offered = np.flatnonzero(~np.isnan(total))
        values = np.exp(total[offered]) if mode == "product" else total[offered]
        yield from _translated(highest_first(values, rng, name=label), offered, {})

    return _made_of(read, select)


def cold_start(
    *, cold: Any = "typiclust", warm: Any = "entropy", until: int = 1
) -> MeasureSelector:
    """One strategy while little is labelled, another one from then on.

    With nothing labelled a detector's doubts mean little, and covering the pool does better; later
    it is the other way round (Hacohen et al., ICML 2022). The same command serves all rounds: it
    switches by the number of labelled images. For the first rounds any weights will do that give
    features (``detector.features_only``). Cost: that of the strategy at work, but the extra forward
    passes of both. Failure mode: where to switch is a guess.

    Args:
        cold: Strategy used below ``until`` labelled images, preferably one of coverage.
        warm: Strategy used from there on.
        until: Labelled images.
    """
    check_integer("until", until)
    parts = _joined([_part(cold, "cold"), _part(warm, "warm")])

    def select(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
        part = parts[candidates.labeled.num_images >= until]
        return part.select(candidates, budget, rng)

    return _made_of(parts, select)


def image_scores(order: Order) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """All that a strategy offers and its scores, as if nothing were ever taken.

    Args:
        order: Of a strategy that was not asked yet.

    Returns:
        (n,) candidates in order of preference and (n,) their scores, NaN where it gives none.
    """
    choices = list(_every_choice(order, taken=False))
    return (
        np.array([choice.candidate for choice in choices], dtype=np.int64),
        np.array([choice.score for choice in choices], dtype=np.float64),
    )


@dataclass(frozen=True)
class _Part:
    """A strategy in a list: its name, itself, its ``keep`` or ``weight``, and what all need."""

    name: str
    strategy: MeasureSelector
    own: Any = None
    joint: Needs = field(default_factory=Needs)

    def select(self, candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
        """Its order of the candidates, among whose further members it sees its own only."""
        members = self.strategy.needs.members
        if members != self.joint.members:
            passes = {n: p for n, p in candidates.passes.items() if not n.startswith("member:")}
            for number, member in enumerate(members):
                place = self.joint.members.index(member)
                passes[f"member:{number}"] = candidates.passes[f"member:{place}"]
            candidates = replace(candidates, passes=passes)
        return self.strategy.select(candidates, budget, rng)


def _part(spec: Any, where: str, *, own: str = "") -> _Part:
    from detal.strategies.registry import make_strategy  # the registry lists this module

    section = {"name": spec} if isinstance(spec, str) else spec
    if not isinstance(section, Mapping) or not isinstance(section.get("name"), str):
        raise ConfigError(
            f"{where} must be the name of a strategy, or a section with name and options, got "
            f"{spec!r}"
        )
    options = {key: value for key, value in section.items() if key not in {"name", "label", own}}
    strategy = make_strategy(section["name"], **options)
    if not isinstance(strategy, MeasureSelector):
        raise ConfigError(f"{where}: {section['name']} cannot be part of another strategy")
    return _Part(name=section["name"], strategy=strategy, own=section.get(own))


def _joined(parts: Sequence[_Part]) -> list[_Part]:
    """The same parts, told what all of them need together."""
    needs = [part.strategy.needs for part in parts]
    if any(n.members for n in needs) and any(n.earlier_rounds and not n.members for n in needs):
        raise ConfigError(
            "parts must all name their members, or all take those of earlier rounds; got both"
        )
    joint = Needs(
        views=_distinct(view for n in needs for view in n.views),
        members=_distinct(member for n in needs for member in n.members),
        earlier_rounds=max(n.earlier_rounds for n in needs),
        dropout=any(n.dropout for n in needs),
        tables=_distinct(table for n in needs for table in n.tables),
    )
    return [replace(part, joint=joint) for part in parts]


def _distinct(names: Iterable[Name]) -> tuple[Name, ...]:
    return tuple(dict.fromkeys(names))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _made_of(parts: Sequence[_Part], select: Select) -> MeasureSelector:
    """A strategy that needs what its parts need and explains boxes as the last that can does."""
    measures = [part.strategy.box_measure for part in parts if part.strategy.box_measure]
    return MeasureSelector(
        select=select,
        box_measure=measures[-1] if measures else None,
        needs=parts[0].joint,
    )


def _through(
    parts: Sequence[_Part], candidates: Candidates, budget: Budget, rng: np.random.Generator
) -> Order:
    first, *rest = parts
    if not rest:
        yield from first.select(candidates, budget, rng)
        return
    source = _every_choice(first.select(candidates, budget, rng), taken=True)
    costs = budget.costs(candidates.expected_boxes)
    limit = math.inf if first.own is None else first.own * budget.amount
    while kept := _take_worth(source, costs, limit):
        index = np.sort(np.fromiter(kept, dtype=np.int64))
        inner = _through(rest, candidates.subset(index), budget, rng)
        yield from _translated(inner, index, kept)


def _every_choice(order: Order, *, taken: bool) -> Iterator[Choice]:
    """All choices of a strategy that is told that each was taken, or that none was."""
    try:
        choice = next(order)
        while True:
            yield choice
            choice = order.send(taken)
    except StopIteration:
        return


def _take_worth(
    source: Iterator[Choice], costs: NDArray[np.float64], limit: float
) -> dict[int, str]:
    """The next choices that cost ``limit`` together, with their reasons."""
    kept: dict[int, str] = {}
    spent = 0.0
    for choice in source:
        kept[choice.candidate] = choice.why
        spent += costs[choice.candidate]
        if spent >= limit:
            break
    return kept


def _translated(order: Order, index: NDArray[np.int64], before: Mapping[int, str]) -> Order:
    """Choices among the candidates ``index`` (m,) as choices among all, with earlier reasons."""
    try:
        choice = next(order)
        while True:
            candidate = int(index[choice.candidate])
            whys = [before[candidate], choice.why] if before else [choice.why]
            taken = yield choice._replace(candidate=candidate, why="; ".join(whys))
            choice = order.send(taken)
    except StopIteration:
        return


def _values(
    part: _Part,
    candidates: Candidates,
    budget: Budget,
    rng: np.random.Generator,
    *,
    mode: Mode,
) -> NDArray[np.float64]:
    """(P,) rank in [0, 1] or logarithm of the score; NaN for images that the part never offers."""
    order, scores = image_scores(part.select(candidates, budget, rng))
    values = np.full(len(candidates), np.nan)
    if mode == "rank":
        values[order] = _ranks(scores)
        return values
    bad = ~(np.isfinite(scores) & (scores >= 0))
    if bad.any():
        image = candidates.image_ids[order[int(bad.argmax())]]
        raise ConfigError(
            f"combine with mode: product needs scores >= 0, {part.name} gives "
            f"{scores[int(bad.argmax())]} for image {image!r}: use mode: rank"
        )
    with np.errstate(divide="ignore"):
        values[order] = np.log(scores)
    return values


def _ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) from 1 to 0 for scores in order of preference; equal scores share a rank."""
    if len(scores) < 2:
        return np.ones(len(scores))
    starts = np.flatnonzero(np.concatenate([[True], scores[1:] != scores[:-1]]))
    counts = np.diff([*starts, len(scores)])
    middle = starts + (counts - 1) / 2
    return 1 - np.repeat(middle, counts) / (len(scores) - 1)
