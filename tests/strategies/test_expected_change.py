from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from detal.errors import ConfigError, DataError
from detal.features import Calibration, References, change, fit_calibration, match_detections
from detal.strategies import Candidates, Labeled, make_strategy
from detal.structures import Budget, Detections, Selection
from tests.features.factories import detections_of
from tests.strategies.factories import pool_of, random_pool

NAMES = ["expected_gradient_length", "emoc", "expected_error_reduction"]


def ask(name: str, pool: Candidates, amount: float = 1000, seed: int = 0, **options) -> Selection:
    rng = np.random.default_rng(seed)
    return make_strategy(name, **options).query(pool, budget=Budget(amount), rng=rng)


def unlabelled(images, features) -> Candidates:
    """One class, with these object features (N, D)."""
    seen = detections_of(images, num_classes=1)
    seen = replace(seen, object_features=torch.tensor(features).reshape(seen.num_boxes, -1))
    ids = [f"{i:03d}" for i in range(len(images))]
    return Candidates.from_detections(ids, seen, class_names=("x",))


def by_id(selection: Selection) -> dict[str, float]:
    return dict(zip(selection.image_ids, selection.scores.tolist(), strict=True))


# With every box a reference, and the scores taken at their word.
TWO = unlabelled([[(0, 0.5)], [(0, 0.2)], []], [[1.0, 2.0], [0.0, -1.0]])


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        # sum_y P(y) |p - y| is 0.5 and 0.32; the features are sqrt(5) and 1 long.
        pytest.param("expected_gradient_length", {}, [0.5 * 5**0.5, 0.32, 0], id="egl"),
        # Kernel 5, -2, 1; slopes of the sigmoid 0.25 and 0.16.
        pytest.param(
            "emoc",
            {},
            [0.5 * (5 * 0.25 + 2 * 0.16) / 2, 0.32 * (2 * 0.25 + 1 * 0.16) / 2, 0],
            id="emoc",
        ),
        pytest.param(
            "emoc", {"output": "logits"}, [0.5 * 7 / 2, 0.32 * 3 / 2, 0], id="emoc-logits"
        ),
        # Squared cosines 1, 4/5; E(y - p)^2 is 0.25 and 0.16.
        pytest.param(
            "expected_error_reduction",
            {},
            [0.25 * (0.25 + 0.8 * 0.16) / 4, 0.16 * (0.8 * 0.25 + 0.16) / 4, 0],
            id="eer",
        ),
    ],
)
def test_scores_by_hand(name: str, options, expected: list[float]) -> None:
    selection = ask(name, TWO, **options)
    assert selection.image_ids == ("000", "001", "002")
    assert selection.scores.tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_like_its_parts(name: str) -> None:
    """From the calibration on the labelled images and all detections as references."""
    pool = random_pool(20)
    labeled, (_, seen) = pool.labeled, next(iter(pool.chunks()))
    assert labeled.detections is not None
    assert labeled.annotations is not None
    known = labeled.detections()
    calibration = fit_calibration(known, match_detections(known, labeled.annotations))
    assert calibration.slope != 1
    every = Detections.concat([known, seen])
    references = References.of(every, torch.arange(every.num_boxes), purpose="a test")
    values = {
        "expected_gradient_length": change.gradient_length(seen, calibration),
        "emoc": change.output_change(seen, references, calibration),
        "expected_error_reduction": change.error_reduction(seen, references, calibration),
    }[name]
    expected = torch.zeros(20).index_add_(0, seen.image_index, values)
    scores = by_id(ask(name, pool))
    assert [scores[i] for i in pool.image_ids] == pytest.approx(expected.tolist(), rel=1e-4)


def test_few_references_stand_for_all() -> None:
    """Likely boxes are drawn, and the scores come out about as with all of them."""
    pool = random_pool(150)
    everything, some = by_id(ask("emoc", pool)), by_id(ask("emoc", pool, references=60))
    a, b = (np.array([scores[i] for i in pool.image_ids]) for scores in (everything, some))
    assert np.corrcoef(a, b)[0, 1] > 0.95
    assert not np.allclose(a, b, rtol=1e-3)
    assert by_id(ask("emoc", pool, references=60, seed=1)) != some


def test_likely_boxes_are_drawn_more_often() -> None:
    """Two references of nineteen boxes: the one of score 0.9 is among them three times in four."""
    pool = unlabelled([[(0, 0.9)], [(0, 0.05)] * 18], [[1.0, 0.0]] + [[0.0, 1.0]] * 18)
    drawn = [by_id(ask("emoc", pool, seed=seed, references=2))["000"] > 0 for seed in range(40)]
    assert 20 < sum(drawn) < 40


def test_references_come_from_labelled_images_too() -> None:
    """A box that resembles nothing in the pool but the labelled images changes those."""
    pool = unlabelled([[(0, 0.5)], [(0, 0.5)]], [[1.0, 0.0], [0.0, 1.0]])
    seen = detections_of([[(0, 0.5)] * 6], num_classes=1)
    seen = replace(seen, object_features=torch.tensor([[0.0, 1.0]]).repeat(6, 1))
    counts = np.array([0])
    plain = by_id(ask("emoc", pool))
    assert plain["000"] == pytest.approx(plain["001"])
    labeled = Labeled(class_counts=counts, detections=lambda: seen)
    scores = by_id(ask("emoc", replace(pool, labeled=labeled)))
    assert scores["001"] == pytest.approx(7 * scores["000"])


def test_softmax_pools_and_images_without_detections() -> None:
    seen = Detections.concat(
        [
            Detections.empty(3, num_classes=2, score_kind="softmax"),
            replace(
                Detections.empty(0, num_classes=2, score_kind="softmax"),
                offsets=torch.tensor([0, 1]),
                boxes=torch.zeros(1, 4),
                scores=torch.tensor([0.5]),
                labels=torch.tensor([0]),
                logits=torch.zeros(1, 3),
            ),
        ]
    )
    seen = replace(seen, object_features=torch.ones(1, 2))
    pool = Candidates.from_detections(list("abcd"), seen, class_names=("x", "y"))
    for name in NAMES:
        scores = by_id(ask(name, pool))
        assert scores["d"] > scores["a"] == scores["b"] == scores["c"] == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_feature_that_is_not_a_number_is_refused(name: str) -> None:
    pool = unlabelled([[(0, 0.5)], [(0, 0.5)], [(0, 0.5)]], [[1.0], [float("nan")], [1.0]])
    with pytest.raises(DataError, match="must be a number"):
        ask(name, pool)


@pytest.mark.parametrize("name", NAMES)
def test_detectors_without_features(name: str) -> None:
    bare = Candidates.from_detections(["a"], detections_of([[(0, 0.5)]]), class_names=("x",) * 3)
    with pytest.raises(ConfigError, match=f"`{name}` needs object features.*use a detector"):
        ask(name, bare)
    nothing = pool_of([[], []])
    assert len(ask(name, nothing)) == 2


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("emoc", {"output": "score"}, "unknown output 'score': did you mean scores"),
        ("emoc", {"kernel": "rbf"}, "unknown kernel 'rbf'"),
        ("emoc", {"references": 0}, "references must be an integer >= 1, got 0"),
        ("emoc", {"references": True}, "references must be an integer >= 1, got True"),
        ("expected_error_reduction", {"risk": "brier"}, "unknown risk 'brier'"),
        ("expected_gradient_length", {"k": 0}, "must be an integer >= 1"),
    ],
)
def test_options_are_checked(name: str, options, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_strategy(name, **options)


def test_labels_without_detections_are_taken_at_their_word() -> None:
    labeled = Labeled(class_counts=np.array([3]))
    scores = by_id(ask("expected_gradient_length", replace(TWO, labeled=labeled)))
    _, seen = next(iter(TWO.chunks()))
    expected = change.gradient_length(seen, Calibration.identity(1))
    assert list(scores.values())[:2] == pytest.approx(expected.tolist(), rel=1e-5)
