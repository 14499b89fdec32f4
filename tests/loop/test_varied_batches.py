"""Batches of one price, and what the tables say about them, on a made pool."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from detal.errors import ConfigError, DataError
from detal.loop.compared_tables import NEED_A_REFERENCE, SEE_THE_TRUTH, TABLES, predictions
from detal.loop.varied_batches import Start, batch_names, true_objects, varied_batches
from detal.reward import CategoryCurves
from detal.strategies import Candidates
from detal.strategies.candidates import Labeled
from detal.strategies.change_table import output_change_table
from detal.structures import Annotations
from tests.features.factories import detections_of
from tests.strategies.factories import random_pool

CLASSES = ("cat", "dog", "owl")
BOXES = 20.0


def start_of(labels: list[list[int]], rng: np.random.Generator, *, seen: float = 0.4) -> Start:
    """Images with these true objects; the detector sees each with a score of about ``seen``."""
    n = len(labels)
    features = rng.normal(size=(n, 6)).astype(np.float32)
    detections = detections_of(
        [
            [(c, float(np.clip(seen + rng.normal() / 10, 0.05, 0.95))) for c in row]
            for row in labels
        ],
        features=features,
    )
    known = Labeled(
        class_counts=np.array([5, 2, 0]),
        image_features=rng.normal(size=(4, 6)).astype(np.float32),
    )
    candidates = Candidates.from_detections(
        [f"{i:03}" for i in range(n)], detections, class_names=CLASSES, labeled=known
    )
    truth = Annotations.from_lists(
        [np.tile([0.0, 0, 5, 5], (len(row), 1)) for row in labels], [np.array(r) for r in labels]
    )
    return Start(candidates=candidates, truth=truth)


@pytest.fixture
def start(rng: np.random.Generator) -> Start:
    """90 images of 1 to 7 objects, owls rare."""
    labels = [
        rng.choice(3, size=rng.integers(1, 8), p=[0.7, 0.25, 0.05]).tolist() for _ in range(90)
    ]
    return start_of(labels, rng)


@pytest.fixture
def batches(start: Start) -> dict[str, Any]:
    return varied_batches(start, batch_names(3), boxes=BOXES, seed=0)


def test_every_batch_costs_the_same_and_none_too_much(
    start: Start, batches: dict[str, Any]
) -> None:
    assert len(batches) >= 24
    for name, rows in batches.items():
        assert len(np.unique(rows)) == len(rows), name
        spent = start.true_boxes[rows].sum()
        left_out = np.delete(start.true_boxes, rows)
        assert spent <= BOXES, name
        assert BOXES - spent < left_out.min(), name
    assert len({tuple(sorted(rows)) for rows in batches.values()}) == len(batches)


def test_the_characters_differ(start: Start, batches: dict[str, Any]) -> None:
    def images(name: str) -> int:
        return len(batches[name])

    assert images("crowded") < images("random-0") < images("sparse")
    counts = {name: start.true_counts[rows].sum(axis=0) for name, rows in batches.items()}
    assert counts["class_rank-0"][2] == max(count[2] for count in counts.values())
    assert counts["class_rank-2"][0] == BOXES
    assert counts["rare_classes"][2] > counts["random-0"][2]
    features = start.candidates.require_features("this test")
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)

    def likeness(name: str) -> float:
        rows = batches[name]
        return float((unit[rows] @ unit[rows].T).mean())

    assert likeness("redundant-0") > max(likeness("random-0"), likeness("core_set"))
    assert not np.array_equal(batches["redundant-0"], batches["redundant-1"])


def test_batches_are_the_same_again_and_do_not_depend_on_the_others(
    start: Start, batches: dict[str, Any]
) -> None:
    alone = varied_batches(start, ["crowded", "random-3"], boxes=BOXES, seed=0)
    assert {name: rows.tolist() for name, rows in alone.items()} == {
        name: batches[name].tolist() for name in alone
    }
    other = varied_batches(start, ["random-3"], boxes=BOXES, seed=1)
    assert other["random-3"].tolist() != batches["random-3"].tolist()


@pytest.mark.parametrize("num_classes", [1, 2, 3, 10, 3000])
def test_names_are_distinct_and_can_be_folders(num_classes: int) -> None:
    names = batch_names(num_classes)
    assert len(set(names)) == len(names)
    assert all(name.replace("-", "_").isidentifier() for name in names)


def test_wrong_requests(start: Start) -> None:
    with pytest.raises(DataError, match="must hold twice the 500 boxes"):
        varied_batches(start, ["sparse"], boxes=500, seed=0)
    with pytest.raises(ConfigError, match="unknown batches"):
        varied_batches(start, ["sprase"], boxes=BOXES, seed=0)


def test_true_objects_leave_crowds_out(rng: np.random.Generator) -> None:
    start = start_of([[0, 0, 2], [1]], rng)
    crowd = replace(start.truth, is_crowd=np.array([False, True, False, False]))
    bundles = true_objects(replace(start, truth=crowd))
    assert bundles.offsets.tolist() == [0, 2, 3]
    assert bundles.labels.tolist() == [0, 2, 1]
    assert bundles.amounts.tolist() == [1, 1, 1]


class TestPredictions:
    @pytest.fixture
    def start(self, rng: np.random.Generator) -> Start:
        return start_of([[0, 0, 2], [1], [2, 2]], rng, seen=0.5)

    def test_every_table_says_something_finite(
        self, start: Start, rng: np.random.Generator
    ) -> None:
        found = predictions(start, [np.array([0]), np.array([1, 2])], rng=rng)
        assert set(found) == set(TABLES) - NEED_A_REFERENCE
        assert set(TABLES) > SEE_THE_TRUTH
        for name, compared in found.items():
            assert compared.gain.shape == (2,), name
            assert np.isfinite(compared.gain).all(), name
            if compared.class_gain is not None:
                # One weight for all classes: the gain is the mean of the classes' gains.
                assert compared.class_gain.mean(axis=1) == pytest.approx(compared.gain), name

    def test_with_a_reference_set_output_changes_are_told_too(self) -> None:
        pool = random_pool(12, seed=2)
        truth = Annotations.from_lists([np.zeros((0, 4))] * 12, [np.zeros(0)] * 12)
        start = Start(candidates=pool, truth=truth)
        batch = np.array([3, 1, 7])
        tables = {name: TABLES[name] for name in NEED_A_REFERENCE}
        found = predictions(start, [batch], rng=np.random.default_rng(0), tables=tables)
        table = output_change_table(pool, np.random.default_rng(0))
        assert found["change"].gain == pytest.approx([table.gain(batch)])
        assert found["change"].class_gain == pytest.approx(table.class_gain(batch)[None])

    def test_by_hand(self, start: Start, rng: np.random.Generator) -> None:
        batch = np.array([0, 2])
        found = predictions(start, [batch], rng=rng)
        curve = CategoryCurves.prior(3)
        before = np.array([5.0, 2, 0])
        gained = curve.ap(before + np.array([2, 0, 3])) - curve.ap(before)
        assert found["true_counts"].class_gain == pytest.approx(gained[None])
        scores = start.candidates.take([0, 2]).scores.numpy()
        labels = start.candidates.take([0, 2]).labels.numpy()
        # The class with the fewest labels is owl, a third of three.
        assert found["rare_boxes"].gain == pytest.approx([scores[labels == 2].sum()])
        assert found["images"].gain.tolist() == [2]
        expected = np.bincount(labels, scores, minlength=3)
        gained = curve.ap(before + expected) - curve.ap(before)
        assert found["curve_counts"].gain == pytest.approx([gained.mean()])
