"""The category curve table, by hand and against a plain recomputation."""

import numpy as np
import pytest

from detal.features.expected_objects import expected_objects
from detal.reward import CategoryCurves, CurveTable, Novelty
from tests.features.factories import detections_of


def objects_of(images, **options):
    detections = detections_of(images)
    chunks = [(np.arange(len(images)), detections)]
    return expected_objects(chunks, num_images=len(images), **options)


def table_of(images, counts=(3, 0, 8), novelty=None, weights=None) -> CurveTable:
    return CurveTable(
        CategoryCurves.prior(3, onset=1.0),
        counts=np.array(counts),
        objects=objects_of(images, informativeness="none"),
        class_names=("cat", "dog", "owl"),
        novelty=novelty,
        class_weights=weights,
    )


IMAGES = [[(0, 0.5), (0, 0.5), (1, 0.25)], [], [(2, 1.0)], [(1, 0.75), (1, 0.25)]]


def test_gains_by_hand() -> None:
    table = table_of(IMAGES)
    gains = table.marginal_gain(table.start(), np.arange(4))
    cat = 1 / 2 - (3 + 1 + 1) ** -0.5
    dog = 1 - 1.25**-0.5
    owl = 1 / 3 - 10**-0.5
    assert gains == pytest.approx(np.array([cat + dog, 0, owl, 1 - 2**-0.5]) / 3)
    # The batch as a whole: one cat, 1.25 dogs.
    both = (cat + 1 - 2.25**-0.5) / 3
    assert table.gain(np.array([0, 3])) == pytest.approx(both)
    assert table.gain(np.array([3, 0])) == pytest.approx(both)


def test_class_gains_by_hand_and_their_mean_is_the_gain(rng: np.random.Generator) -> None:
    plain = table_of(IMAGES)
    cat = 1 / 2 - (3 + 1 + 1) ** -0.5
    assert plain.class_gain(np.array([0, 3])) == pytest.approx([cat, 1 - 2.25**-0.5, 0])
    assert plain.class_gain(np.array([], dtype=np.int64)) == pytest.approx([0, 0, 0])
    features = rng.normal(size=(4, 3)).astype(np.float32)
    weights = np.array([0.5, 2.0, 0.5])
    table = table_of(IMAGES, novelty=Novelty(features, None, rng), weights=weights)
    batch = np.array([2, 0, 3])
    assert (weights * table.class_gain(batch)).mean() == pytest.approx(table.gain(batch))


def test_a_class_that_matters_twice_counts_twice() -> None:
    plain, weighted = table_of(IMAGES), table_of(IMAGES, weights=np.array([1.0, 2.0, 1.0]))
    index = np.array([3])
    assert weighted.marginal_gain(weighted.start(), index) == pytest.approx(
        2 * plain.marginal_gain(plain.start(), index)
    )


def test_gains_never_grow(rng: np.random.Generator) -> None:
    images = [
        [(int(rng.integers(3)), float(rng.uniform(0.1, 0.9))) for _ in range(rng.integers(0, 5))]
        for _ in range(12)
    ]
    features = rng.normal(size=(12, 4)).astype(np.float32)
    table = table_of(images, novelty=Novelty(features, features[:2] + 0.1, rng))
    state, everything = table.start(), np.arange(12)
    before = table.marginal_gain(state, everything)
    for candidate in rng.permutation(12).tolist():
        state = table.add(state, candidate)
        after = table.marginal_gain(state, everything)
        assert (after <= before + 1e-12).all()
        assert after[candidate] == pytest.approx(0, abs=1e-6)
        before = after


def test_copies_of_what_is_known_bring_nothing(rng: np.random.Generator) -> None:
    features = np.array([[1, 0], [0, 1], [1, 1], [1, 0.999]], dtype=np.float32)
    images = [[(0, 0.5)]] * 4
    table = table_of(images, novelty=Novelty(features, features[1:2], rng))
    gains = table.marginal_gain(table.start(), np.arange(4))
    assert gains[1] == pytest.approx(0, abs=1e-9)
    assert gains[0] > 0
    state = table.add(table.start(), 2)
    assert table.marginal_gain(state, np.array([3]))[0] < 0.01 * gains[3] + 1e-5


def test_words() -> None:
    table = table_of(IMAGES)
    assert table.explain(table.start(), 0).startswith("most for dog (+0.25 to 0), cat (+1 to 3)")
    assert table.explain(table.start(), 1) == "nothing is expected in it"
