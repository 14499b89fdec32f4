"""Which objects are trusted, by hand."""

import numpy as np
import pytest

from detal.errors import ConfigError, DataError
from detal.structures import Annotations
from detal.trustset import ObjectScores, TrustSetOptions, build_trust_set, category_sizes

ALL = TrustSetOptions(share=1.0, nearness=0.0)


def scores_of(total, found=None) -> ObjectScores:
    total = np.array(total, dtype=np.float64)
    return ObjectScores(
        class_part=total,
        box_part=np.zeros(len(total)),
        found=np.ones(len(total)) if found is None else np.array(found),
        honest=np.zeros(len(total), dtype=bool),
        background=np.zeros(1),
    )


def objects_of(labels, crowd=None) -> Annotations:
    boxes = np.tile([0.0, 0, 1, 1], (len(labels), 1))
    flags = None if crowd is None else [np.array(crowd)]
    return Annotations.from_lists([boxes], [np.array(labels)], is_crowd=flags)


@pytest.mark.parametrize(
    ("available", "total", "weights", "expected"),
    [
        pytest.param([10, 10], 6, [1, 1], [3, 3], id="even"),
        pytest.param([10, 1, 4], 9, [1, 1, 1], [4, 1, 4], id="what-one-cannot-take"),
        pytest.param([9, 9], 6, [2, 1], [4, 2], id="by-weight"),
        pytest.param([5, 5], 4, [0, 1], [0, 4], id="no-weight"),
        pytest.param([5, 5], 99, [1, 1], [5, 5], id="more-than-there-is"),
        pytest.param([5, 0], 3, [1, 1], [3, 0], id="none-of-one"),
        pytest.param([100, 100, 2], 10, [10, 10, 0.4], [5, 4, 1], id="the-empty-one-first"),
        pytest.param([5, 5], 0, [1, 1], [0, 0], id="nothing"),
        pytest.param([], 3, [], [], id="no-categories"),
    ],
)
def test_sizes(available, total, weights, expected) -> None:
    sizes = category_sizes(np.array(available, dtype=np.int64), total, np.array(weights, float))
    assert sizes.tolist() == expected


def test_best_of_each_category() -> None:
    truth = objects_of([0, 0, 0, 0, 1, 1])
    scores = scores_of([0.1, 0.9, 0.5, 0.7, 0.2, 0.3])
    made = build_trust_set(
        scores, truth, num_classes=3, options=TrustSetOptions(share=0.5, nearness=0)
    )
    assert made.sizes.tolist() == [2, 1, 0]
    assert np.flatnonzero(made.member).tolist() == [1, 3, 5]
    assert not made.redundant.any()


def test_balances_differ() -> None:
    truth = objects_of([0] * 16 + [1] * 4)
    scores = scores_of(np.linspace(0, 1, 20))

    def sizes(balance, slopes=None) -> list[int]:
        options = TrustSetOptions(share=0.3, balance=balance)
        made = build_trust_set(scores, truth, num_classes=2, options=options, slopes=slopes)
        return list(made.sizes.tolist())

    assert sizes("uniform") == [3, 3]
    assert sizes("sqrt") == [4, 2]
    assert sizes("slope", np.array([1.0, 5.0])) == [2, 4]


def test_copies_are_passed_over_and_the_next_best_comes_in() -> None:
    truth = objects_of([0, 0, 0, 0, 0])
    scores = scores_of([0.9, 0.8, 0.7, 0.6, 0.1])
    angles = np.array([0.0, 0.01, 1.0, 2.0, 3.0])
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    options = TrustSetOptions(share=0.6, nearness=0.5)
    made = build_trust_set(scores, truth, num_classes=1, options=options, features=features)
    assert np.flatnonzero(made.member).tolist() == [0, 2, 3]
    assert np.flatnonzero(made.redundant).tolist() == [1]
    features[1] = np.nan  # what has no feature resembles nothing
    made = build_trust_set(scores, truth, num_classes=1, options=options, features=features)
    assert np.flatnonzero(made.member).tolist() == [0, 1, 2]


def test_crowds_what_nobody_found_and_what_is_distrusted_stay_out() -> None:
    truth = objects_of([0, 0, 0, 0], crowd=[True, False, False, False])
    made = build_trust_set(
        scores_of([2, 2, 2, 0.1], found=[1, 0, 1, 0.5]),
        truth,
        num_classes=1,
        options=ALL,
        distrusted=np.array([False, False, True, False]),
    )
    assert np.flatnonzero(made.member).tolist() == [3]


def test_nothing_labelled() -> None:
    made = build_trust_set(scores_of([]), objects_of([]), num_classes=2, options=ALL)
    assert made.sizes.tolist() == [0, 0]
    assert len(made.member) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 0}, r"share of the TrustSet must be in \(0, 1\], got 0"),
        ({"balance": "even"}, "balance of the TrustSet"),
        ({"nearness": -1}, "nearness must be a number >= 0"),
    ],
    ids=["share", "balance", "nearness"],
)
def test_options_out_of_range(options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        TrustSetOptions(**options)


def test_mistakes() -> None:
    slope = TrustSetOptions(balance="slope")
    with pytest.raises(ConfigError, match="needs the slopes"):
        build_trust_set(scores_of([1]), objects_of([0]), num_classes=1, options=slope)
    with pytest.raises(DataError, match="of the 2 annotated objects, got 1"):
        build_trust_set(scores_of([1]), objects_of([0, 0]), num_classes=1, options=ALL)
