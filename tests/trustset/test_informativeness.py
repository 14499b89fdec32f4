"""EL2N through matched predictions, by hand and against a plain loop."""

import numpy as np
import pytest
import torch

from detal.errors import DataError
from detal.trustset import Judge, judging_weights, matched_features, score_objects
from tests.trustset.factories import labels_of, seen_of

A, B, FAR = (0.0, 0.0, 10.0, 10.0), (50.0, 0.0, 60.0, 10.0), (80.0, 80.0, 90.0, 90.0)
HALF = (0.0, 0.0, 10.0, 5.0)  # IoU with A: one half


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
def test_parts_by_hand(kind) -> None:
    truth = labels_of([[(A, 0), (B, 1)], [(A, 1)], []])
    seen = seen_of(
        [[(A, [0.7, 0.1]), (FAR, [0.3, 0.4])], [(HALF, [0.6, 0.2])], [(A, [0.3, 0.0001])]],
        kind=kind,
    )
    scores = score_objects([Judge(seen)], truth)
    assert scores.class_part == pytest.approx([np.hypot(0.3, 0.1), 1, np.hypot(0.6, 0.8)])
    assert scores.box_part == pytest.approx([0, 1, 0.5])
    assert scores.found.tolist() == [1, 0, 1]
    assert scores.background == pytest.approx([0.5, 0, 0.3], abs=1e-6)
    assert scores.total == pytest.approx(scores.class_part + scores.box_part)
    assert not scores.honest.any()


def test_honest_judges_alone_count_where_there_are_any() -> None:
    truth = labels_of([[(A, 0)], [(A, 0)], [(A, 0)]])
    sure, doubtful, blind = (
        seen_of([[(A, [p, 0.0001])]] * 3) if p else seen_of([[]] * 3) for p in (0.9, 0.5, 0)
    )
    judges = [
        Judge(sure, np.array([True, True, True])),
        Judge(doubtful, np.array([True, False, True])),
        Judge(blind, np.array([True, False, False])),
    ]
    third, half = [1 / 3] * 3, [0, 0.5, 0.5]
    by_image = judging_weights(judges).T
    assert by_image == pytest.approx(np.array([third, half, [0, 0, 1]]))
    scores = score_objects(judges, truth)
    assert scores.class_part == pytest.approx([(0.1 + 0.5 + 1) / 3, 0.75, 1], abs=1e-4)
    assert scores.found == pytest.approx([2 / 3, 0.5, 0])
    assert scores.honest.tolist() == [False, True, True]


def test_crowds_have_zeros_and_forgive_what_lies_on_them() -> None:
    truth = labels_of([[(A, 0), (B, 0)]], crowd=[[True, False]])
    scores = score_objects([Judge(seen_of([[(A, [0.2, 0.9])]]))], truth)
    assert scores.class_part.tolist() == [0, 1]
    assert scores.box_part.tolist() == [0, 1]
    assert scores.background.tolist() == [0]


def test_no_images_and_mistakes() -> None:
    nothing = score_objects([Judge(seen_of([]))], labels_of([]))
    assert len(nothing.class_part) == len(nothing.background) == 0
    with pytest.raises(DataError, match="at least one judge"):
        score_objects([], labels_of([]))
    with pytest.raises(DataError, match=r"judges of \[1, 2\] images"):
        judging_weights([Judge(seen_of([[]])), Judge(seen_of([[], []]))])
    with pytest.raises(DataError, match="one entry for each of 1 images, got 2"):
        Judge(seen_of([[]]), np.array([True, False]))


def test_equals_a_plain_loop(rng: np.random.Generator) -> None:
    def box() -> tuple[float, float, float, float]:
        x, y, w, h = rng.uniform(0, 20, 4)
        return x, y, x + 5 + w, y + 5 + h

    truth = labels_of([[(box(), int(rng.integers(3))) for _ in range(4)] for _ in range(6)])
    seen = seen_of(
        [[(box(), rng.uniform(0.01, 0.9, 3).tolist()) for _ in range(7)] for _ in range(6)]
    )
    scores = score_objects([Judge(seen)], truth)
    for image in range(6):
        rows = range(int(truth.offsets[image]), int(truth.offsets[image + 1]))
        free = set(rows)
        wrong = dict.fromkeys(rows, (1.0, 1.0))
        for d in range(int(seen.offsets[image]), int(seen.offsets[image + 1])):
            overlap = {o: _iou(seen.boxes[d].tolist(), truth.boxes[o].tolist()) for o in free}
            best = max(overlap, key=overlap.__getitem__, default=None)
            if best is not None and overlap[best] >= 0.5:
                free.remove(best)
                target = np.eye(3)[truth.labels[best]]
                gap = seen.logits[d].sigmoid().numpy() - target
                wrong[best] = (float(np.linalg.norm(gap)), 1 - overlap[best])
        for o, (class_part, box_part) in wrong.items():
            assert scores.class_part[o] == pytest.approx(class_part, abs=1e-6)
            assert scores.box_part[o] == pytest.approx(box_part, abs=1e-6)


def _iou(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return common / (area - common)


def test_features_of_the_detection_that_found_each_object() -> None:
    truth = labels_of([[(B, 0), (A, 1)]])
    seen = seen_of([[(A, [0.7, 0.1])]])
    assert matched_features(seen, truth) is None
    object.__setattr__(seen, "object_features", torch.tensor([[1.0, 2.0]]))
    features = matched_features(seen, truth)
    assert features is not None
    assert np.isnan(features[0]).all()
    assert features[1].tolist() == [1, 2]
