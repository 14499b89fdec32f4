"""Planted errors are found, right labels are left alone."""

import numpy as np
import pytest

from detal.trustset import Judge, distrusted, find_suspicious
from tests.trustset.factories import labels_of, seen_of

A, B, C = (0.0, 0.0, 20.0, 20.0), (50.0, 0.0, 70.0, 20.0), (0.0, 50.0, 20.0, 70.0)
SHIFTED = (10.0, 0.0, 30.0, 20.0)  # IoU with A: one third
SURE, WEAK = [0.95, 0.01], [0.2, 0.01]
GOOD = [[(A, SURE), (B, [0.01, 0.95]), (C, WEAK)] for _ in range(40)]
RIGHT = [[(A, 0), (B, 1)] for _ in range(40)]


def judge(first, *, honest: bool = True) -> Judge:
    """A judge of 41 images, right with all but weak detections on the last 40."""
    return Judge(seen_of([first, *GOOD]), np.full(41, not honest))


def find(first, labels, *, judges=None, **options):
    return find_suspicious(judges or [judge(first)], labels_of([labels, *RIGHT]), **options)


def test_right_labels_are_left_alone() -> None:
    assert find([(A, SURE), (B, [0.01, 0.95])], [(A, 0), (B, 1)]) == []


@pytest.mark.parametrize(
    ("labels", "kind", "obj", "box", "label"),
    [
        pytest.param([(A, 1)], "wrong class", 0, A, 0, id="wrong-class"),
        pytest.param([(SHIFTED, 0)], "shifted box", 0, A, 0, id="shifted-box"),
        pytest.param([], "missing box", -1, A, 0, id="missing-box"),
        pytest.param([(C, 0)], "missing box", -1, A, 0, id="missing-beside-another"),
    ],
)
def test_each_kind(labels, kind, obj, box, label) -> None:
    (one,) = find([(A, SURE)], labels)
    assert (one.kind, one.image, one.object, one.label) == (kind, 0, obj, label)
    assert one.box == pytest.approx(box)
    assert 0.7 <= one.score < 1
    assert (one.judges, one.out_of, one.honest) == (1, 1, True)


def test_a_weak_contradiction_is_none_and_a_defended_label_stands() -> None:
    assert find([(A, WEAK)], [(A, 1)]) == []
    both = [(A, SURE), (A, [0.01, 0.94])]  # two classes for one object: the label is one of them
    assert find(both, [(A, 1)]) == []


def test_neighbours_are_not_accused_by_what_fits_another_object() -> None:
    close = (0.0, 0.0, 20.0, 19.0)
    assert find([(A, SURE)], [(A, 0), (close, 1)]) == []


def test_an_accusation_must_be_repeated() -> None:
    blind, sees = judge([]), judge([(A, SURE)])
    assert find(None, [], judges=[blind, sees]) == []
    (one,) = find(None, [], judges=[blind, sees], threshold=0.4)
    (two,) = find(None, [], judges=[sees, sees])
    assert (one.judges, one.out_of) == (1, 2)
    assert (two.judges, two.out_of) == (2, 2)
    assert one.score == pytest.approx(two.score / 2)


def test_who_was_trained_on_the_image_has_no_say_beside_others() -> None:
    learned = judge([(A, [0.01, 0.95])], honest=False)
    (one,) = find(None, [(A, 1)], judges=[learned, judge([(A, SURE)])])
    assert (one.kind, one.out_of, one.honest) == ("wrong class", 1, True)
    assert find(None, [(A, 1)], judges=[learned]) == []


def test_never_learned_comes_last_and_takes_two() -> None:
    misses = judge([(B, [0.01, 0.95])], honest=False)
    labels = [(A, 0), (B, 1)]
    assert find(None, labels, judges=[misses]) == []
    (one,) = find(None, labels, judges=[misses, misses])
    assert (one.kind, one.object, one.box, one.honest) == ("never learned", 0, A, False)
    out = distrusted([one], num_objects=3)
    assert out.tolist() == [True, False, False]
    assert distrusted([], num_objects=2).tolist() == [False, False]


def test_crowds_neither_accuse_nor_are_accused() -> None:
    truth = labels_of([[(A, 1)], *RIGHT], crowd=[[True], *[[False, False]] * 40])
    assert find_suspicious([judge([(A, SURE)])], truth) == []


def test_nothing_to_look_at() -> None:
    assert find_suspicious([Judge(seen_of([]))], labels_of([])) == []
    assert find_suspicious([Judge(seen_of([[]]))], labels_of([[]])) == []
