"""An agent that learns the whole batch against a look-up table."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from detal.agents import (
    Baseline,
    Chosen,
    Episode,
    Policy,
    RewardWeights,
    Seen,
    Trained,
    choose,
    load_policy,
    save_learning_curve,
    save_policy,
    sensible_config,
    shortlist,
    swapped,
    train,
)
from detal.agents.reinforce import ReinforceConfig
from detal.errors import ConfigError, unknown_name
from detal.reward import CategoryCurves, FittedCurves, GroupGains, batched
from detal.strategies.agent_inputs import seen_of, trust_column
from detal.strategies.agent_trust import trust_policy
from detal.strategies.candidates import Candidates
from detal.strategies.change_table import output_change_table
from detal.strategies.fill import Choice, Order, fill
from detal.strategies.options import check_integer, check_number
from detal.strategies.strategy import MeasureSelector, Needs
from detal.strategies.table_greedy import curve_table, greedy
from detal.strategies.trust import membership_where_known, trusted_share
from detal.strategies.variant_table import measured_groups, variant_table
from detal.structures import Budget

__all__ = ["mgral"]

log = logging.getLogger(__name__)

Reward = Literal["curve", "change", "variant"]
Teacher = Literal["greedy", "trustset"]

_LEAST_COST = 1e-9
_SMALLEST_SHORTLIST = 64
_MANY_PICKS = 2_000  # 500 take three quarters of a minute, and the work grows with the square
_MOST_REFERENCES = 1024
_FIT_TOLERANCE = 1e-9


def mgral(  # noqa: PLR0913 - the options of a strategy are its arguments
    *,
    reward: Reward = "curve",
    table: str | None = None,
    weights: Mapping[str, float] | None = None,
    trust: str | None = None,
    teacher: Teacher = "greedy",
    shortlist: float = 10.0,
    iterations: int | None = None,
    rollouts: int | None = None,
    passes: int | None = None,
    imitation: int | None = None,
    baseline: Baseline = "leave_one_out",
    swaps: int = 0,
    start_from: str | None = None,
    save_to: str | None = None,
) -> MeasureSelector:
    """A batch that an LSTM policy learned to choose, rewarded by a table for the whole of it.

    Greedy looks one image ahead; the agent draws whole batches, and what they bring together is its
    reward (REINFORCE; `detal.agents`). In the spirit of MGRAL (Liang et al., arXiv 2310.08387) and
    BRAL-T (Cui et al., arXiv 2604.12303), neither of which has public code: policy, tables and
    training are ours. Where greedy is nearly right, which is the rule for large batches from large
    pools, the agent is at best as good; it gains where a few images must fit together or a budget
    in boxes leaves an awkward rest. The log and each reason say what the batch is worth beside
    greedy's by the same table. Guards of near-duplicates and groups act after it learned; what they
    free is filled by gain. Cost: that of greedy on the table, plus seconds for a few hundred and
    minutes for thousands of candidates, growing with the square of the picks. Failure mode: that of
    its table, which it exploits harder than greedy does.

    Args:
        reward: ``curve`` (see `curve_greedy`), ``change`` (see `change_greedy`; at most 1,024
            detections of the reference set) or ``variant`` (see `variant_greedy`).
        table: Folder of a table that ``detal tables build`` wrote, for ``curve`` and ``variant``.
        weights: Of the terms of the reward, ``{table: 1, trust: 0, diversity: 0, cost: 0}``.
        trust: Column of the metadata with the trust of each image, 0 to 1; by default the share of
            its expected objects that teach (see `trustset`), if ``weights.trust`` is above 0.
        teacher: ``greedy`` on the table, or ``trustset``: the policy first learns to pick the
            TrustSet of the labelled images, as in BRAL-T, and goes on from there; with
            ``iterations: 0`` that is all that it learns.
        shortlist: Candidates looked at, in budgets; at least 64 images.
        iterations: Policy gradient steps at most; by default 40, or 60 for up to 32 candidates.
        rollouts: Batches drawn per step; by default 8 to 16, or 64 for up to 32 candidates.
        passes: Walks over the candidates per batch while training; by default 8.
        imitation: Steps of imitating greedy first; by default 40, none for up to 32 candidates,
            with ``start_from`` or another teacher.
        baseline: ``leave_one_out``, ``moving_average`` or ``none``.
        swaps: Rounds of local search after the agent, reported apart.
        start_from: Folder of a saved policy, of an earlier round or another dataset, to go on with.
        save_to: Folder for the policy, its learning curve and ``agent.json``; by default nowhere.
    """
    for name, value, known in (
        ("reward", reward, get_args(Reward)),
        ("teacher", teacher, get_args(Teacher)),
    ):
        if value not in known:
            raise ConfigError(unknown_name(name, str(value), known))
    if reward == "change" and table is not None:
        raise ConfigError("table goes with reward: curve or variant, not with change")
    check_number("shortlist", shortlist, at_least=1)
    check_integer("swaps", swaps, at_least=0)
    goes_on = start_from is not None or teacher != "greedy"
    given = {
        "iterations": iterations,
        "rollouts": rollouts,
        "passes": passes,
        "imitation": 0 if imitation is None and goes_on else imitation,
    }
    for option, least in (("iterations", 0), ("rollouts", 2), ("passes", 1), ("imitation", 0)):
        if given[option] is not None:
            check_integer(option, given[option], at_least=least)
    ReinforceConfig(baseline=baseline)
    folder = None if table is None else Path(table)
    settings = _Settings(
        reward=reward,
        curves=FittedCurves.load(folder) if folder and reward == "curve" else None,
        groups=GroupGains.load(folder) if folder and reward == "variant" else None,
        weights=_weights(weights),
        trust=trust,
        teacher=teacher,
        shortlist=shortlist,
        config={"baseline": baseline, **{k: v for k, v in given.items() if v is not None}},
        swaps=swaps,
        start_from=None if start_from is None else Path(start_from),
        save_to=None if save_to is None else Path(save_to),
    )
    if settings.start_from is not None:
        load_policy(settings.start_from)

    def select(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
        if len(candidates) == 0:
            return
        yield from _select(candidates, budget, rng, settings)

    measures = reward == "variant" and folder is None
    return MeasureSelector(select=select, needs=Needs(tables=("groups",) if measures else ()))


@dataclass(frozen=True, eq=False)
class _Settings:
    reward: Reward
    curves: FittedCurves | None
    groups: GroupGains | None
    weights: RewardWeights
    trust: str | None
    teacher: Teacher
    shortlist: float
    config: dict[str, Any]
    swaps: int
    start_from: Path | None
    save_to: Path | None

    @property
    def by(self) -> str:
        prior = self.reward == "curve" and self.curves is None
        return " by a prior curve" if prior else ""


def _select(
    candidates: Candidates, budget: Budget, rng: np.random.Generator, settings: _Settings
) -> Order:
    table: Any = _table(candidates, rng, settings)
    costs = np.maximum(budget.costs(candidates.expected_boxes), _LEAST_COST)
    amount = budget.amount * (1 + _FIT_TOLERANCE)
    state, offered = table.start(), np.zeros(len(candidates), dtype=bool)
    if costs.min() <= amount:
        seen = seen_of(candidates, costs=costs, trust=_trust(candidates, rng, settings))
        known = fill(greedy(table, candidates, budget, rng), candidates, budget=budget).index
        policy = _first_policy(candidates, rng, settings)
        index, chosen = _learn(table, seen, known, budget.amount, rng, settings, policy=policy)
        worth = f"batch worth {100 * chosen.ratio:.4g} % of greedy's"
        for rank, candidate in enumerate(index[chosen.batch].tolist(), start=1):
            gain = float(table.marginal_gain(state, np.array([candidate]))[0])
            said = f"the agent's pick {rank}, {_gain_in_words(gain, settings)}"
            offered[candidate] = True
            why = f"{said}, {table.explain(state, candidate)}; {worth}"
            if (yield Choice(candidate, gain, why)):
                state = table.add(state, candidate)
    gains = table.marginal_gain(state, np.arange(len(candidates)))
    order = np.lexsort((rng.permutation(len(candidates)), -gains / costs))
    for candidate in order[~offered[order]].tolist():
        why = f"fills what the agent left, {_gain_in_words(gains[candidate], settings)}"
        yield Choice(candidate, float(gains[candidate]), why)


def _gain_in_words(gain: float, settings: _Settings) -> str:
    return f"expected to add {100 * gain:.3g} points of mAP{settings.by}"


def _learn(
    table: Any,
    seen: Seen,
    greedys: NDArray[np.int64],
    amount: float,
    rng: np.random.Generator,
    settings: _Settings,
    *,
    policy: Policy | None,
) -> tuple[NDArray[np.int64], Chosen]:
    """The candidates of the shortlist, and what the agent chose among them."""
    started = time.monotonic()
    if len(greedys) > _MANY_PICKS:
        log.warning(
            "mgral: the budget buys about %d images, for which the agent takes hours: greedy on "
            "the same table (curve_greedy, change_greedy, variant_greedy) is as good for large "
            "batches",
            len(greedys),
        )
    index = shortlist(
        table.marginal_gain(table.start(), np.arange(len(seen))),
        costs=seen.costs,
        objects=seen.objects,
        always=greedys,
        size=max(int(settings.shortlist * len(greedys)), _SMALLEST_SHORTLIST),
        rng=rng,
    )
    short = seen.take(index)
    episode = Episode(
        table=batched(table, num_candidates=len(seen)).take(index),
        seen=short,
        budget=amount,
        greedy=np.searchsorted(index, greedys),
        weights=settings.weights,
        trust=short.trust,
    )
    config = replace(sensible_config(len(index)), **settings.config)
    trained = train(episode, config=config, rng=rng, policy=policy)
    chosen = choose(trained, episode, rng=rng)
    if settings.swaps:
        chosen = swapped(chosen, episode, rng=rng, rounds=settings.swaps)
    seconds = time.monotonic() - started
    _say(chosen, trained, len(index))
    if settings.save_to is not None:
        _save(settings.save_to, trained, episode, chosen, seconds)
    return index, chosen


def _say(chosen: Chosen, trained: Trained, looked_at: int) -> None:
    level = logging.WARNING if chosen.ratio < 1 - 1e-9 else logging.INFO
    swaps = (
        f", {100 * chosen.unswapped_gain:.4g} before swaps"
        if chosen.gain != chosen.unswapped_gain
        else ""
    )
    log.log(
        level,
        "mgral: %d images worth %.4g points of mAP by the table (%s%s), greedy's %.4g: %.4g %% of "
        "it; %d candidates, %d steps%s",
        len(chosen.batch),
        100 * chosen.gain,
        chosen.source,
        swaps,
        100 * chosen.greedy_gain,
        100 * chosen.ratio,
        looked_at,
        max(trained.curve[-1].step, 0),
        "; greedy on the same table (curve_greedy, change_greedy) has the better batch"
        if level == logging.WARNING
        else "",
    )


def _save(folder: Path, trained: Trained, episode: Episode, chosen: Chosen, seconds: float) -> None:
    about = {
        "candidates": len(episode.seen),
        "budget": episode.budget,
        "images": len(chosen.batch),
        "gain": chosen.gain,
        "greedy_gain": chosen.greedy_gain,
        "ratio_to_greedy": chosen.ratio,
        "unswapped_gain": chosen.unswapped_gain,
        "source": chosen.source,
        "seconds": round(seconds, 3),
    }
    line = float(episode.rewards(episode.greedy[None])[0])
    save_learning_curve(folder, trained.curve, greedy=line)
    (folder / "agent.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    save_policy(folder, trained.policy, trained_on=about)


def _first_policy(
    candidates: Candidates, rng: np.random.Generator, settings: _Settings
) -> Policy | None:
    """The policy to go on with on the pool."""
    policy = None if settings.start_from is None else load_policy(settings.start_from)
    if settings.teacher == "greedy":
        return policy
    labeled, membership = membership_where_known(candidates)
    taught = trust_policy(
        labeled,
        membership,
        class_names=candidates.class_names,
        config=sensible_config(len(membership)),
        rng=rng,
        policy=policy,
    )
    log.info(
        "mgral: taught to pick the TrustSet of %d labelled images; its picks hold %.3g %% of their "
        "objects in it, all images together %.3g %%",
        len(membership),
        max(point.held_out for point in taught.curve if point.held_out is not None),
        100 * membership.mean(),
    )
    return taught.policy


def _weights(given: Mapping[str, float] | None) -> RewardWeights:
    known = [field.name for field in fields(RewardWeights)]
    for name, value in (given or {}).items():
        if name not in known:
            raise ConfigError(unknown_name("term of the reward", str(name), known))
        check_number(f"weights.{name}", value)
    return RewardWeights(**(given or {}))


def _trust(
    candidates: Candidates, rng: np.random.Generator, settings: _Settings
) -> NDArray[np.float64] | None:
    if settings.trust is not None:
        return trust_column(candidates, settings.trust)
    return trusted_share(candidates, rng=rng) if settings.weights.trust else None


def _table(candidates: Candidates, rng: np.random.Generator, settings: _Settings) -> Any:
    if settings.reward == "change":
        return output_change_table(candidates, rng, most_references=_MOST_REFERENCES)
    if settings.reward == "variant":
        return variant_table(measured_groups(settings.groups, candidates), candidates)
    classes = candidates.class_names
    return curve_table(
        candidates,
        rng,
        curves=CategoryCurves.prior(len(classes))
        if settings.curves is None
        else settings.curves.for_classes(classes),
    )
