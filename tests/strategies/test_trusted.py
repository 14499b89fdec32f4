"""Trust of candidates and the strategy `trustset`."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from detal.errors import ConfigError
from detal.features.expected_objects import expected_objects
from detal.reward import CategoryCurves
from detal.strategies import Candidates, Labeled, make_strategy
from detal.strategies.trust import expect_objects, fit_trust_of
from detal.structures import Budget
from tests.strategies.factories import pool_of, random_pool, with_details
from tests.trustset.factories import labels_of, seen_of

SMALL, LARGE = (0.0, 0.0, 8.0, 8.0), (0.0, 0.0, 60.0, 60.0)
DOUBT, SURE = 0.5, 0.95


def labeled_world(images: int = 60) -> Labeled:
    """Small objects are hard (another class, half a score), large ones are easy."""
    seen = seen_of(
        [
            [(SMALL, [0.4, DOUBT, 0.01])] if i % 2 else [(LARGE, [SURE, 0.01, 0.01])]
            for i in range(images)
        ]
    )
    truth = labels_of([[(SMALL, 0)] if i % 2 else [(LARGE, 0)] for i in range(images)])
    detections = with_details(seen)
    return Labeled(
        class_counts=truth.class_counts(3), detections=lambda: detections, annotations=truth
    )


def known_classes(classes: tuple[int, ...], images: int = 60) -> Labeled:
    """Small objects are hard (half a score), large ones easy; each is taken for what it is."""
    labels = [classes[i // 2 % len(classes)] for i in range(images)]

    def probs(label: int, score: float) -> list[float]:
        return [score if c == label else 0.01 for c in range(3)]

    kinds = [(SMALL, DOUBT) if i % 2 else (LARGE, SURE) for i in range(images)]
    detections = with_details(
        seen_of([[(b, probs(c, p))] for c, (b, p) in zip(labels, kinds, strict=True)])
    )
    truth = labels_of([[(b, c)] for c, (b, _) in zip(labels, kinds, strict=True)])
    return Labeled(
        class_counts=truth.class_counts(3), detections=lambda: detections, annotations=truth
    )


def pool_with(images, labeled: Labeled, **changes) -> Candidates:
    """Candidates with the given (box, probabilities) in each image, beside ``labeled``."""
    return Candidates.from_detections(
        [f"{i:03d}" for i in range(len(images))],
        replace(with_details(seen_of(images)), **changes),
        class_names=("class0", "class1", "class2"),
        labeled=labeled,
    )


def trust_of(candidates: Candidates, rng: np.random.Generator) -> np.ndarray:
    """Objects that teach, expected in each candidate."""
    bundles = expect_objects(candidates, rng=rng).teaching
    image = np.repeat(np.arange(len(bundles)), np.diff(bundles.offsets))
    return np.bincount(image, bundles.amounts, minlength=len(bundles))


IMAGES = [[(LARGE, [SURE, 0.01, 0.01])], [(SMALL, [0.4, DOUBT, 0.01])], []]


def test_what_looks_like_the_hard_objects_is_trusted(rng: np.random.Generator) -> None:
    candidates = pool_with(IMAGES, labeled_world())
    easy, hard, empty = trust_of(candidates, rng)
    assert hard > 0.7
    assert easy < 0.3
    assert empty == 0
    expected = expect_objects(candidates, rng=rng)
    bundles = expected.teaching
    assert bundles.labels.tolist() == [0, 0, 1]
    # What the detector takes for class 1 was of class 0 thirty times of thirty.
    assert bundles.amounts[1] > 30 * bundles.amounts[2]
    assert bundles.amounts.sum() == pytest.approx(easy + hard)
    assert expected.boxes == pytest.approx([1, 1, 0], abs=0.05)


def test_objects_add_up_to_what_is_there(rng: np.random.Generator) -> None:
    """Half of the objects of class 1 are never found, and two of three boxes are nothing."""
    found, nothing = (SMALL, [0.01, 0.3, 0.01]), (LARGE, [0.01, 0.1, 0.01])
    seen = seen_of([[found, nothing, nothing]] * 60)
    truth = labels_of([[(SMALL, 1), ((80.0, 80.0, 99.0, 99.0), 1)]] * 60)
    labeled = Labeled(
        class_counts=truth.class_counts(3), detections=lambda: seen, annotations=truth
    )
    pool = [[found, nothing, nothing]] * 20
    candidates = Candidates.from_detections(
        [f"{i:02d}" for i in range(20)],
        seen_of(pool),
        class_names=("a", "b", "c"),
        labeled=labeled,
    )
    expected = expect_objects(candidates, rng=rng)
    assert candidates.expected_boxes.sum() == pytest.approx(10)
    assert expected.boxes.sum() == pytest.approx(40, rel=0.1)
    assert expected.teaching.supply(3)[1] == pytest.approx(40, rel=0.1)


def test_the_fewer_are_labelled_the_less_hardness_counts(rng: np.random.Generator) -> None:
    many = labeled_world()
    few = replace(many, class_counts=np.array([0, 0, 0]))
    amounts = [trust_of(pool_with(IMAGES, one), rng) for one in (many, few)]
    assert amounts[0][1] > 5 * amounts[0][0]
    assert amounts[1][1] == pytest.approx(amounts[1][0], rel=0.05)


def test_the_reference_set_comes_first(rng: np.random.Generator) -> None:
    hard_only = labeled_world()
    candidates = pool_with(IMAGES, hard_only)
    # On this reference set it is the large ones that are hard.
    seen = seen_of(
        [[(LARGE, [0.4, 0.95, 0.01])] if i % 2 else [(SMALL, [0.5, 0.01, 0.01])] for i in range(60)]
    )
    truth = labels_of([[(LARGE if i % 2 else SMALL, 0)] for i in range(60)])
    other = Labeled(
        class_counts=truth.class_counts(3),
        detections=lambda: with_details(seen),
        annotations=truth,
    )
    model = fit_trust_of(replace(candidates, reference=other), rng=rng)
    assert model is not None
    without = fit_trust_of(candidates, rng=rng)
    assert without is not None
    size = model.trusted.observables.names.index("size")
    assert without.trusted.observables.names[size] == "size"
    assert model.trusted.weight[size] > 0 > without.trusted.weight[size]


def test_too_little_to_learn_from_falls_back_with_a_warning(
    rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    candidates = pool_with(IMAGES, labeled_world(4))
    with caplog.at_level(logging.WARNING):
        bundles = expect_objects(candidates, rng=rng).teaching
    assert "too few labelled objects are found to learn trust from" in caplog.text
    plain = expected_objects(candidates.chunks(), num_images=3, informativeness="entropy")
    assert bundles.amounts == pytest.approx(plain.amounts)


@pytest.mark.parametrize("name", ["trustset", "curve_greedy"])
def test_without_labels_it_says_what_to_use(name: str) -> None:
    options = {} if name == "trustset" else {"informativeness": "trust"}
    candidates = Candidates.from_detections(
        ["a"], seen_of([IMAGES[0]]), class_names=("x", "y", "z")
    )
    with pytest.raises(ConfigError, match="trust needs labelled images, and there are none"):
        make_strategy(name, **options).query(
            candidates, budget=Budget(1), rng=np.random.default_rng(0)
        )


@pytest.mark.parametrize("name", ["trustset", "curve_greedy"])
def test_hard_objects_are_chosen(name: str) -> None:
    options = {} if name == "trustset" else {"informativeness": "trust", "redundancy": False}
    candidates = pool_with([IMAGES[0]] * 5 + [IMAGES[1]] * 5, labeled_world())
    strategy = make_strategy(name, **options)
    chosen = strategy.query(candidates, budget=Budget(4), rng=np.random.default_rng(0))
    assert set(chosen.image_ids) <= {f"{i:03d}" for i in range(5, 10)}


def test_reasons_name_the_quota_and_what_the_pool_lacks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    images = [[(LARGE, [SURE, 0.01, 0.01])], [(SMALL, [0.01, DOUBT, 0.01])], []]
    candidates = pool_with(images * 3, known_classes((0, 1)))
    strategy = make_strategy("trustset", quotas={"class1": 50})
    with caplog.at_level(logging.INFO):
        chosen = strategy.query(candidates, budget=Budget(3), rng=np.random.default_rng(0))
    assert chosen.reasons[0].startswith("about 1.")
    assert "class1 like those that teach, quota 0 of" in chosen.reasons[0]
    assert "(wanted 50, more than the pool holds)" in chosen.reasons[0]
    assert "the pool does not hold the quota of class1" in caplog.text
    adds_up, pool = (record.getMessage() for record in caplog.records)
    assert adds_up.startswith("quotas add up to 50 objects")
    assert pool.startswith("the pool does not hold the quota of class1 (about")


def test_a_class_that_matters_more_is_chosen_first() -> None:
    images = [[(SMALL, [0.01, DOUBT, 0.01])], [(SMALL, [0.01, 0.01, DOUBT])]] * 4
    candidates = pool_with(images, known_classes((1, 2)))

    def first(**options) -> set[int]:
        chosen = make_strategy("trustset", **options).query(
            candidates, budget=Budget(3), rng=np.random.default_rng(0)
        )
        return {int(i) % 2 for i in chosen.image_ids}

    assert first(class_weights={"class1": 9}) == {0}
    assert first(class_weights={"class2": 9}) == {1}
    assert first() == {0, 1}


def test_copies_of_what_is_picked_are_left(rng: np.random.Generator) -> None:
    features = torch.eye(4)[[0, 0, 0, 0, 1, 2, 3, 3]]
    images = [IMAGES[1]] * 8
    candidates = pool_with(images, labeled_world(), image_features=features)
    chosen = make_strategy("trustset").query(candidates, budget=Budget(4), rng=rng)
    kinds = {int(features[int(i)].argmax()) for i in chosen.image_ids}
    assert kinds == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 2}, "share of the TrustSet"),
        ({"balance": "even"}, "balance of the TrustSet"),
        ({"class_weights": "many"}, "kind of class weights"),
        ({"quotas": {}}, "quotas must map"),
    ],
    ids=["share", "balance", "weights", "quotas"],
)
def test_options_out_of_range(options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        make_strategy("trustset", **options)


def test_balance_by_slope_and_a_softmax_detector(rng: np.random.Generator) -> None:
    pool = random_pool(30, labeled=40)
    curves = CategoryCurves.prior(3)
    assert expect_objects(pool, rng=rng, curves=curves).teaching.supply(3).sum() > 0
    chosen = make_strategy("trustset", balance="slope").query(pool, budget=Budget(5), rng=rng)
    assert len(chosen) == 5
    softmax = seen_of(IMAGES * 4, kind="softmax")
    world = labeled_world()
    seen = seen_of(
        [[(SMALL, [0.4, 0.5, 0.01])]] * 30 + [[(LARGE, [0.9, 0.01, 0.01])]] * 30, kind="softmax"
    )
    truth = labels_of([[(SMALL, 0)]] * 30 + [[(LARGE, 0)]] * 30)
    labeled = replace(world, detections=lambda: seen, annotations=truth)
    ids = [f"{i:02d}" for i in range(12)]
    candidates = Candidates.from_detections(
        ids, softmax, class_names=("a", "b", "c"), labeled=labeled
    )
    chosen = make_strategy("trustset").query(candidates, budget=Budget(3), rng=rng)
    assert {int(i) % 3 for i in chosen.image_ids} == {1}


def test_one_class_pool_without_detections() -> None:
    pool = pool_of([[]] * 3, labeled=np.ones((3, 2)), features=np.eye(3)[:, :2])
    chosen = make_strategy("trustset").query(pool, budget=Budget(2), rng=np.random.default_rng(0))
    assert len(chosen) == 2
    assert all("no object is expected in it that would teach" in r for r in chosen.reasons)
