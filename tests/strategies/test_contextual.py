from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from detal.errors import DataError
from detal.strategies import Candidates, Labeled, make_strategy
from detal.structures import Budget, Detections
from tests.features.factories import detections_of
from tests.strategies.factories import random_pool


def seen_of(rows: list[list[list[float]]]) -> Detections:
    """Images as lists of class distributions."""
    num_classes = len(rows[0][0])
    seen = detections_of([[(0, 0.5)] * len(image) for image in rows], num_classes=num_classes)
    flat = [box for image in rows for box in image]
    return replace(seen, logits=torch.tensor(flat).log())


def pool_with(rows: list[list[list[float]]], known: list[list[list[float]]] | None) -> Candidates:
    seen = seen_of(rows)
    labeled = Labeled(
        class_counts=np.zeros(seen.num_classes, dtype=np.int64),
        detections=None if known is None else lambda: seen_of(known),
    )
    return Candidates.from_detections(
        [f"{i:02d}" for i in range(len(rows))],
        seen,
        class_names=tuple(f"class{c}" for c in range(seen.num_classes)),
        labeled=labeled,
    )


def ask(pool: Candidates, k: int, seed: int = 0):
    return make_strategy("cdal").query(pool, budget=Budget(k), rng=np.random.default_rng(seed))


def test_by_hand() -> None:
    """Labelled (0.8, 0.2); candidates (0.5, 0.5), (0.2, 0.8), (0.8, 0.2).

    Symmetric KL: 0.5 * 0.3 * ln 4 = 0.2079 to the first, 0.5 * 2 * 0.6 * ln 4 = 0.8318 to the
    second, which is taken; then the first is 0.2079 from either and the third 0 from the labelled.
    """
    pool = pool_with([[[0.5, 0.5]], [[0.2, 0.8]], [[0.8, 0.2]]], [[[0.8, 0.2]]])
    selection = ask(pool, 3)
    assert selection.image_ids == ("01", "00", "02")
    expected = [0.6 * np.log(4), 0.15 * np.log(4), 0.0]
    assert selection.scores == pytest.approx(expected, abs=1e-5)
    assert "mostly in class0 (0.20 against 0.80), rank 1" in selection.reasons[0]


def naive_cdal(pool: Candidates, k: int) -> list[int]:
    """Descriptors box by box and the farthest from the nearest centre, pair by pair."""

    def describe(logits: np.ndarray) -> np.ndarray:
        if len(logits) == 0:
            return np.full(logits.shape[1], 1 / logits.shape[1])
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        weight = -(p * np.log(p)).sum(axis=1)
        return np.asarray((weight[:, None] * p).sum(axis=0) / weight.sum())

    def images(seen: Detections) -> list[np.ndarray]:
        logits = seen.logits.double().numpy()
        return [describe(logits[seen.image_index.numpy() == i]) for i in range(len(seen))]

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        return float(abs(0.5 * sum(a * np.log(a / b)) + 0.5 * sum(b * np.log(b / a))))

    assert pool.labeled.detections is not None
    mine, centres = images(pool.take(np.arange(len(pool)))), images(pool.labeled.detections())
    picked: list[int] = []
    for _ in range(k):
        nearest = [min(distance(a, b) for b in centres) for a in mine]
        picked.append(max(set(range(len(mine))) - set(picked), key=nearest.__getitem__))
        centres.append(mine[picked[-1]])
    return picked


@pytest.mark.parametrize("block", [4096, 3], ids=["one block", "many blocks"])
@pytest.mark.parametrize("seed", range(3))
def test_equals_a_loop(seed: int, block: int, monkeypatch) -> None:
    monkeypatch.setattr("detal.strategies.contextual._BLOCK", block)
    pool = random_pool(30, seed=seed, num_classes=5, labeled=6)
    seen = pool.take(np.arange(30))
    rng = np.random.default_rng(seed)
    noisy = replace(seen, logits=torch.tensor(rng.normal(size=seen.logits.shape) * 2).float())
    pool = replace(pool, chunks=lambda: iter([(np.arange(30), noisy)]))
    names = np.where(noisy.counts.numpy() > 0, pool.image_ids, "one without boxes")
    picked = [names[int(image_id)] for image_id in ask(pool, 10).image_ids]
    assert picked == list(names[naive_cdal(pool, 10)])


def test_first_image_is_drawn_when_nothing_is_labelled() -> None:
    pool = pool_with([[[0.5, 0.5]], [[0.2, 0.8]], [[0.8, 0.2]]], None)
    selections = [ask(pool, 1, seed=seed) for seed in range(10)]
    assert len({selection.image_ids for selection in selections}) > 1
    assert np.isnan(selections[0].scores[0])
    assert selections[0].reasons[0].startswith("drawn at random, as nothing is labelled")


def test_images_turned_down_are_no_centres() -> None:
    """01 and 02 are equal; if 01 is turned down, 02 is still far from what was taken."""
    rows = [[[0.01, 0.99]], [[0.4, 0.6]], [[0.4, 0.6]], [[0.8, 0.2]]]
    pool = pool_with(rows, [[[0.9, 0.1]]])
    pool = replace(pool, groups=np.array(["g", "g", None, None], dtype=object))
    strategy = make_strategy("cdal")
    for seed in range(8):
        rng = np.random.default_rng(seed)
        selection = strategy.query(pool, budget=Budget(2), rng=rng, per_group=1)
        assert selection.image_ids == ("00", "02")


def test_mixtures_with_absent_classes_are_finite() -> None:
    pool = pool_with([[[1.0, 0.0]], [[0.0, 1.0]]], [[[1.0, 0.0]]])
    selection = ask(pool, 2)
    assert selection.image_ids == ("01", "00")
    assert np.isfinite(selection.scores).all()


def test_rarer_classes_count_as_one(monkeypatch) -> None:
    """With two columns, classes 1 and 2 are one: moving between them is no distance."""
    rows = [[[0.6, 0.1, 0.3]], [[0.6, 0.3, 0.1]], [[0.7, 0.2, 0.1]]]
    monkeypatch.setattr("detal.strategies.contextual._CLASSES", 2)
    selection = ask(pool_with(rows, [[[0.6, 0.2, 0.2]]]), 3)
    assert selection.image_ids[0] == "02"
    assert selection.scores[1:] == pytest.approx([0, 0])
    assert "mostly in" in selection.reasons[0]


@pytest.mark.parametrize("where", ["pool", "labelled"])
def test_nan_is_refused(where: str) -> None:
    rows, known = [[[0.5, 0.5]], [[0.2, 0.8]]], [[[0.5, 0.5]]]
    (rows if where == "pool" else known)[-1][0][1] = float("nan")
    match = r"NaN was found \(image '01'" if where == "pool" else "of the labelled images must"
    with pytest.raises(DataError, match=match):
        ask(pool_with(rows, known), 1)
