from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from detal.errors import ConfigError, DataError
from detal.strategies import Candidates, Labeled, make_strategy
from detal.structures import Annotations, Budget, Detections, Selection
from tests.features.factories import detections_of
from tests.strategies.factories import pool_of, rechunked

OBJECT = np.array([[0.0, 5, 10, 15]])
DIMENSIONS = 6


def worlds(num_labeled: int, num_pool: int = 200, seed: int = 0) -> tuple[Candidates, np.ndarray]:
    """A pool in which the first feature tells how badly the one object is found; that badness."""
    rng = np.random.default_rng(seed)
    badness = rng.uniform(size=num_labeled + num_pool)
    features = rng.normal(size=(len(badness), DIMENSIONS))
    features[:, 0] = 2 * badness + 0.1 * features[:, 0]
    # A ghost of a second class beside the object, the more probable the worse the image.
    seen = detections_of(
        [[(0, 0.6), (1, 0.02 + 0.5 * float(b))] for b in badness], features=features, num_classes=2
    )
    # Sorted by score, so that the object's box may stand second: all boxes lie on the object.
    seen.boxes[:] = torch.tensor(OBJECT[0])
    known = seen.take(torch.arange(num_labeled))
    known = _shuffle_scores(known)
    labeled = Labeled(
        class_counts=np.array([num_labeled, 0]),
        image_features=known.image_features.numpy() if known.image_features is not None else None,
        detections=lambda: known,
        annotations=Annotations.from_lists([OBJECT] * num_labeled, [np.array([0])] * num_labeled),
    )
    pool = Candidates.from_detections(
        [f"{i:04d}" for i in range(num_pool)],
        _shuffle_scores(seen.take(torch.arange(num_labeled, len(badness)))),
        class_names=("x", "y"),
        labeled=labeled,
    )
    return pool, badness[num_labeled:]


def _shuffle_scores(seen: Detections) -> Detections:
    """The same with equal scores, so that only features and logits tell the images apart."""
    return replace(seen, scores=torch.full_like(seen.scores, 0.5))


def ask(pool: Candidates, seed: int = 0, **options) -> Selection:
    strategy = make_strategy("learning_loss", **options)
    return strategy.query(pool, budget=Budget(1e6), rng=np.random.default_rng(seed))


def predicted(pool: Candidates, selection: Selection) -> np.ndarray:
    scores = dict(zip(selection.image_ids, selection.scores, strict=True))
    return np.array([scores[image_id] for image_id in pool.image_ids])


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.argsort().argsort(), b.argsort().argsort())[0, 1])


def test_learns_which_images_are_bad() -> None:
    pool, badness = worlds(100)
    assert rank_correlation(predicted(pool, ask(pool)), badness) > 0.9


def test_a_few_labels_already_help() -> None:
    pool, badness = worlds(12)
    assert rank_correlation(predicted(pool, ask(pool)), badness) > 0.4


def test_more_steps_fit_closer_than_one() -> None:
    pool, badness = worlds(100)
    once, often = (rank_correlation(predicted(pool, ask(pool, steps=n)), badness) for n in (1, 200))
    assert often > once


def test_same_seed_same_answer_and_other_chunks_too() -> None:
    pool, _ = worlds(20, num_pool=60)
    first, again, other = ask(pool), ask(pool), ask(pool, seed=1)
    assert np.array_equal(first.scores, again.scores)
    assert not np.array_equal(first.scores, other.scores)
    assert ask(rechunked(pool, seed=1)).image_ids == first.image_ids


def test_the_global_generator_is_left_alone() -> None:
    pool, _ = worlds(5, num_pool=5)
    before = torch.get_rng_state()
    with torch.no_grad():
        ask(pool)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("num_labeled", [1, 3])
def test_nothing_to_tell_apart_draws_at_random(num_labeled: int, caplog) -> None:
    pool = pool_of([[(0, 0.5)]] * 12, features=np.ones((12, 4)), labeled=np.ones((num_labeled, 4)))
    with caplog.at_level(logging.WARNING):
        orders = {ask(pool, seed=seed).image_ids for seed in range(3)}
    assert len(orders) == 3
    assert f"learning_loss has {num_labeled} labelled images without two" in caplog.text


def test_needs_labels() -> None:
    message = "`learning_loss` needs labelled images.*use `entropy`"
    with pytest.raises(ConfigError, match=message):
        ask(pool_of([[(0, 0.5)]]))
    pool, _ = worlds(3, num_pool=2)
    nobody = replace(pool.labeled, annotations=pool.labeled.annotations.take([]))  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match=message):
        ask(replace(pool, labeled=nobody))


def test_works_without_any_features() -> None:
    known = detections_of([[(0, 0.9)], [(0, 0.2), (1, 0.6)]])
    labeled = Labeled(
        class_counts=np.array([2, 0, 0]),
        detections=lambda: known,
        annotations=Annotations.from_lists([OBJECT] * 2, [np.array([0])] * 2),
    )
    bare = Candidates.from_detections(
        ["a", "b", "c"],
        detections_of([[(0, 0.5)], [(0, 0.6), (1, 0.5)], []]),
        class_names=("x", "y", "z"),
        labeled=labeled,
    )
    assert len(ask(bare)) == 3


def test_features_that_are_not_numbers_are_refused() -> None:
    pool, _ = worlds(5, num_pool=3)
    _, seen = next(iter(pool.chunks()))
    assert seen.image_features is not None
    seen.image_features[1, 0] = torch.nan
    with pytest.raises(DataError, match=r"must be a number.*image '0001'; 1 of 3"):
        ask(pool)
    pool, _ = worlds(5, num_pool=3)
    assert pool.labeled.detections is not None
    known = pool.labeled.detections()
    assert known.image_features is not None
    known.image_features[0, 0] = torch.inf
    with pytest.raises(DataError, match="features of the labelled images must be finite"):
        ask(pool)


def test_an_outlier_does_not_run_away() -> None:
    """A feature a thousand deviations out counts as five."""
    pool, _ = worlds(30, num_pool=4)
    _, seen = next(iter(pool.chunks()))
    assert seen.image_features is not None
    seen.image_features[0] *= 1e3
    seen.image_features[1] = seen.image_features[0] * 10
    scores = predicted(pool, ask(pool))
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)


@pytest.mark.parametrize("steps", [0, 1.5, True])
def test_steps_are_checked(steps) -> None:
    with pytest.raises(ConfigError, match="steps must be an integer >= 1"):
        make_strategy("learning_loss", steps=steps)
