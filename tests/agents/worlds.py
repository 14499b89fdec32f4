"""Worlds for agents: small tables whose best batch is known or can be enumerated."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from detal.agents import Episode, RewardWeights, Seen
from detal.features.expected_objects import Bundles
from detal.reward import CategoryCurves, CurveTable, Novelty


def bundles_of(amounts: np.ndarray) -> Bundles:
    """Bundles from dense (n, C) expected objects."""
    row, column = np.nonzero(amounts)
    offsets = np.concatenate([[0], np.cumsum((amounts > 0).sum(axis=1))])
    return Bundles(offsets.astype(np.int64), column.astype(np.int64), amounts[row, column])


def episode_of(
    amounts: np.ndarray,
    budget: float,
    *,
    costs: np.ndarray | None = None,
    features: np.ndarray | None = None,
    counts: np.ndarray | None = None,
    weights: RewardWeights | None = None,
    trust: np.ndarray | None = None,
) -> Episode:
    """An episode on the prior curve table of dense (n, C) expected objects."""
    n, num_classes = amounts.shape
    objects = bundles_of(amounts.astype(np.float64))
    costs = np.ones(n) if costs is None else costs
    features = None if features is None else features.astype(np.float32)
    table = CurveTable(
        CategoryCurves.prior(num_classes, exponent=0.5, onset=1.0),
        counts=np.zeros(num_classes, dtype=np.int64) if counts is None else counts,
        objects=objects,
        class_names=tuple(f"class{c}" for c in range(num_classes)),
        novelty=None if features is None else Novelty(features, None, np.random.default_rng(0)),
    )
    return Episode(
        table,
        Seen(costs=costs, objects=objects, num_classes=num_classes, image_features=features),
        budget,
        greedy(table, costs, budget),
        weights or RewardWeights(),
        trust,
    )


def greedy(table: CurveTable, costs: np.ndarray, budget: float) -> np.ndarray:
    """The candidate of largest gain per cost that fits, again and again."""
    states, left, batch = table.starts(1), budget * (1 + 1e-9), np.zeros(0, dtype=np.int64)
    while True:
        rate = table.marginal_gains(states)[0] / costs
        rate[costs > left] = -1
        rate[batch] = -1
        best = rate.argmax(keepdims=True) if len(rate) else batch[:0]
        if len(best) == 0 or rate[best] < 0:
            return batch
        states, _ = table.adds(states, best[None])
        left -= costs[best[0]]
        batch = np.append(batch, best)


def random_episode(rng: np.random.Generator, n: int, budget: float, **options: Any) -> Episode:
    """Half-empty images of four classes, in clusters."""
    amounts = rng.uniform(0.1, 3, size=(n, 4)) * (rng.random((n, 4)) < 0.4)
    centres = rng.normal(size=(max(n // 3, 1), 6))
    features = centres[rng.integers(len(centres), size=n)] + 0.2 * rng.normal(size=(n, 6))
    return episode_of(amounts, budget, features=features, **options)


def redundant_bundles(rng: np.random.Generator) -> Episode:
    """Images of two classes tempt; twice as rich ones of a single class fit together better."""
    rows = []
    for first in (0, 2):
        for _ in range(2):
            rows.append(np.zeros(4))
            rows[-1][[first, first + 1]] = rng.uniform(2.7, 3.2, size=2)
        for label in (first, first + 1):
            rows.append(np.zeros(4))
            rows[-1][label] = rng.uniform(7.5, 8.5)
    for _ in range(8):
        rows.append(np.zeros(4))
        rows[-1][rng.integers(4)] = rng.uniform(0.3, 2)
    return episode_of(np.array(rows)[rng.permutation(len(rows))], 4)


def complementary_classes(rng: np.random.Generator) -> Episode:
    """One image with some of all classes, three with much of one each, and a budget of three."""
    rows = [np.array([2.6, 2.6, 2.6])]
    rows += [rng.uniform(8, 9) * np.eye(3)[label] for label in range(3)]
    rows += [rng.uniform(0.1, 0.5, size=3) for _ in range(8)]
    return episode_of(np.array(rows), 3)


def awkward_costs(rng: np.random.Generator) -> Episode:
    """Small cheap images give more per box, and leave too little for the last large one."""
    rows = [rng.uniform(4, 6) * np.eye(6)[label] for label in range(6)]
    rows += [rng.uniform(0.8, 1.2) * np.eye(6)[label] for label in range(6)]
    costs = np.concatenate([np.full(6, 5.0), rng.uniform(1, 1.3, size=6)])
    return episode_of(np.array(rows), 15.5, costs=costs)


def optimum(episode: Episode) -> float:
    """The largest gain of any batch within the budget, by enumeration."""
    costs, best = episode.seen.costs, 0.0
    for size in range(1, len(costs) + 1):
        batches = np.array(list(itertools.combinations(range(len(costs)), size)))
        batches = batches[costs[batches].sum(axis=1) <= episode.budget * (1 + 1e-9)]
        if len(batches) == 0:
            break
        best = max(best, float(episode.table.gains(batches).max()))
    return best
