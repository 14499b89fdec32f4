"""Whatever comes: packing, orders, tables and the probabilities of draws, against plain loops."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detal.agents.plackett_luce import follow, log_probs_and_entropies, take_highest
from detal.evaluation.matching import falling_order, group_ranks
from detal.reward import CategoryCurves, CurveTable, Novelty
from detal.reward.fitted_curves import FittedCurves
from detal.structures import Annotations, Detections
from tests.features.factories import detections_of
from tests.reward.test_curve_table import objects_of

COUNTS = st.lists(st.integers(0, 4), max_size=6)
SEEDS = st.integers(0, 2**32 - 1)


def annotations_of(counts: list[int], seed: int) -> Annotations:
    rng = np.random.default_rng(seed)
    corners = [np.sort(rng.integers(0, 50, (n, 2, 2)), axis=1).reshape(n, 4) for n in counts]
    return Annotations.from_lists(
        corners,
        [rng.integers(0, 3, n) for n in counts],
        is_crowd=[rng.random(n) < 0.2 for n in counts],
    )


def seen(counts: list[int], seed: int) -> Detections:
    rng = np.random.default_rng(seed)
    images: list[Any] = [
        sorted(((int(rng.integers(3)), float(rng.random())) for _ in range(n)), key=lambda b: -b[1])
        for n in counts
    ]
    return detections_of(images, features=rng.normal(size=(len(counts), 2)))


def rows_of(packed: Annotations | Detections) -> list[list[tuple[Any, ...]]]:
    """Each image's boxes as plain tuples."""
    starts = np.asarray(packed.offsets).tolist()
    boxes = np.asarray(packed.boxes).tolist()
    labels = np.asarray(packed.labels).tolist()
    return [[(labels[i], *boxes[i]) for i in range(a, b)] for a, b in itertools.pairwise(starts)]


@given(COUNTS, COUNTS, SEEDS, st.data())
@settings(max_examples=60, deadline=None)
def test_annotations_are_taken_and_joined_as_lists_are(first, second, seed, data) -> None:
    parts = [annotations_of(first, seed), annotations_of(second, seed + 1)]
    joined = Annotations.concat(parts)
    lists = rows_of(parts[0]) + rows_of(parts[1])
    assert rows_of(joined) == lists
    index = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=8)) if lists else []
    taken = joined.take(index)
    assert rows_of(taken) == [lists[i] for i in index]
    rows = [row for i in index for row in range(*joined.offsets[i : i + 2].tolist())]
    flat = joined.labels[rows][~joined.is_crowd[rows]].tolist()
    assert taken.class_counts(3).tolist() == [flat.count(label) for label in range(3)]
    assert taken.image_index.tolist() == [n for n, i in enumerate(index) for _ in lists[i]]
    assert len(set(joined.ids.tolist())) == len(joined.boxes)


@given(COUNTS, COUNTS, SEEDS, st.data())
@settings(max_examples=60, deadline=None)
def test_detections_are_taken_and_joined_as_lists_are(first, second, seed, data) -> None:
    parts = [seen(first, seed), seen(second, seed + 1)]
    joined = Detections.concat(parts)
    lists = rows_of(parts[0]) + rows_of(parts[1])
    assert rows_of(joined) == lists
    assert joined.image_features is not None
    index = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=8)) if lists else []
    taken = joined.take(index)
    assert rows_of(taken) == [lists[i] for i in index]
    assert taken.image_features is not None
    assert torch.equal(taken.image_features, joined.image_features[index])
    assert taken.counts.tolist() == [len(lists[i]) for i in index]
    probs = taken.probs()
    assert bool(((probs >= 0) & (probs <= 1)).all())


@given(st.lists(st.sampled_from([0.0, -0.0, 0.5, 1.0, -2.0, 1e-30, 1e30]), max_size=40))
@settings(max_examples=100, deadline=None)
def test_falling_order_is_a_stable_sort(scores) -> None:
    for kind in (np.float32, np.float64):
        values = np.array(scores, dtype=kind)
        assert falling_order(values).tolist() == np.argsort(-values, kind="stable").tolist()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 70_000)), max_size=40), SEEDS)
@settings(max_examples=60, deadline=None)
def test_group_ranks_count_within_image_and_class(keys, seed) -> None:
    order = np.random.default_rng(seed).permutation(len(keys))
    label, image = np.array(keys, dtype=np.int64).reshape(-1, 2).T
    ranks = group_ranks(order, label, image)
    before: dict[tuple[int, int], int] = {}
    for row in order.tolist():
        assert ranks[row] == before.setdefault(keys[row], 0)
        before[keys[row]] += 1


def table_of(counts: list[int], seed: int, *, novelty: bool, fitted: bool) -> CurveTable:
    rng = np.random.default_rng(seed)
    images: list[Any] = [
        [(int(rng.integers(3)), float(rng.uniform(0.05, 1))) for _ in range(n)] for n in counts
    ]
    labeled = rng.integers(0, 20, 3)
    curves = CategoryCurves.prior(3, onset=1.0)
    names = ("cat", "dog", "owl")
    if fitted:
        curves = FittedCurves.fit(
            names,
            counts=np.stack([labeled / 2, labeled]),
            ap=np.sort(rng.random((2, 3)), axis=0),
            labeled_counts=labeled.astype(float),
            made_of={},
        ).for_classes(names)
    features = rng.normal(size=(len(counts), 2)).astype(np.float32)
    return CurveTable(
        curves,
        counts=labeled,
        objects=objects_of(images, informativeness="none"),
        class_names=names,
        novelty=Novelty(features, None, rng) if novelty else None,
    )


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), SEEDS, st.booleans(), st.booleans())
@settings(max_examples=25, deadline=None)
def test_curve_tables_never_fall_and_gain_less_and_less(counts, seed, novelty, fitted) -> None:
    table = table_of(counts, seed, novelty=novelty, fitted=fitted)
    order = np.random.default_rng(seed).permutation(len(counts))
    state, total, index = table.start(), 0.0, np.arange(len(counts))
    before = table.marginal_gain(state, index)
    for candidate in order.tolist():
        gains = table.marginal_gain(state, index)
        assert (gains >= -1e-12).all()
        assert (gains <= before + 1e-9).all()  # submodular
        total += gains[candidate]
        state, before = table.add(state, candidate), gains
    assert math.isclose(table.gain(order), total, abs_tol=1e-9)
    batches = np.stack([order, order[::-1]])
    expected = [table.gain(batch) for batch in batches]
    assert np.allclose(table.gains(batches), expected, atol=1e-9)
    part = table.take(order[:2])
    assert math.isclose(part.gain(np.arange(len(order[:2]))), table.gain(order[:2]), abs_tol=1e-9)


SCORES = st.lists(st.floats(-30, 30), min_size=1, max_size=4)


@given(SCORES, st.data())
@settings(max_examples=60, deadline=None)
def test_the_probabilities_of_all_draws_add_to_one(scores, data) -> None:
    n = len(scores)
    costs = np.array(data.draw(st.lists(st.integers(1, 3), min_size=n, max_size=n)), dtype=float)
    budget = float(data.draw(st.integers(1, 6)))
    closed = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))

    def draws(chosen: tuple[int, ...], left: float) -> list[tuple[int, ...]]:
        rest = [i for i in range(n) if i not in chosen and not closed[i] and costs[i] <= left]
        return [d for i in rest for d in draws((*chosen, i), left - costs[i])] or [chosen]

    total = 0.0
    for draw in draws((), budget):
        picked = follow(
            np.array([draw], dtype=np.int64).reshape(1, -1),
            costs=costs,
            left=np.array([budget]),
            closed=closed[None].copy(),
        )
        log_probs, entropies = log_probs_and_entropies(torch.tensor([scores]), picked)
        assert (entropies >= 0).all()
        total += math.exp(float(log_probs.sum()))
    assert math.isclose(total, 1.0, abs_tol=1e-6)


@given(SCORES, st.data(), SEEDS)
@settings(max_examples=60, deadline=None)
def test_draws_fit_the_budget_and_are_followed_alike(scores, data, seed) -> None:
    n = len(scores)
    costs = np.array(data.draw(st.lists(st.integers(1, 3), min_size=n, max_size=n)), dtype=float)
    closed = np.array([data.draw(st.lists(st.booleans(), min_size=n, max_size=n))])
    noisy = np.array([scores]) + np.random.default_rng(seed).gumbel(size=(1, n))
    left = np.array([float(data.draw(st.integers(0, 6)))])
    picked = take_highest(noisy, costs=costs, left=left, until=np.zeros(1), closed=closed)
    picks = picked.picks[0].tolist()
    assert len(set(picks)) == len(picks)
    assert not closed[0, picks].any()
    assert picked.left[0] == left[0] - costs[picks].sum() >= 0
    again = follow(picked.picks, costs=costs, left=left, closed=closed)
    assert np.array_equal(again.lasts, picked.lasts)
