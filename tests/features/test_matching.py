from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from detal.errors import ConfigError, DataError
from detal.features import match_detections
from detal.features.matching import Matches
from detal.structures import Annotations, Detections

Boxes = list[list[float]]


def seen_of(images: list[Boxes], labels: list[list[int]]) -> Detections:
    """Sigmoid detections of three classes with descending scores."""
    boxes = torch.tensor([box for image in images for box in image]).reshape(-1, 4)
    counts = torch.tensor([0, *(len(image) for image in images)])
    scores = torch.cat([torch.linspace(0.9, 0.1, len(image)) for image in images])
    flat = torch.tensor([label for image in labels for label in image], dtype=torch.int64)
    return Detections(
        offsets=counts.cumsum(0),
        boxes=boxes,
        scores=scores,
        labels=flat,
        logits=torch.zeros(len(boxes), 3),
        score_kind="sigmoid",
    )


def truth_of(images: list[Boxes], labels: list[list[int]], crowd: list[bool] | None = None):
    return Annotations.from_lists(
        [np.array(image) for image in images],
        [np.array(image) for image in labels],
        is_crowd=None if crowd is None else [np.array(crowd)],
    )


A, A_HALF, B, FAR = [0.0, 0, 10, 10], [0.0, 0, 10, 6], [4.0, 0, 14, 10], [50.0, 50, 60, 60]
WIDE = [0.0, 0, 100, 100]


@pytest.mark.parametrize(
    ("boxes", "labels", "objects", "classes", "aware", "truth", "missed"),
    [
        pytest.param([A], [0], [A], [0], True, [0], [False], id="exact"),
        pytest.param([A], [1], [A], [0], True, [-1], [True], id="other-class"),
        pytest.param([A], [1], [A], [0], False, [0], [False], id="agnostic"),
        pytest.param([FAR], [0], [A], [0], True, [-1], [True], id="elsewhere"),
        # Both fit; the better score chooses first, even if its IoU is the lower one.
        pytest.param([A_HALF, A], [0, 0], [A], [0], True, [0, -1], [False], id="duplicate"),
        # The first takes A, which the second would have preferred; it has to take B (IoU 3/7).
        pytest.param([A, A], [0, 0], [A, B], [0, 0], True, [0, -1], [False, True], id="below"),
        pytest.param([], [], [A], [0], True, [], [True], id="nothing-seen"),
        pytest.param([A], [0], [], [], True, [-1], [], id="nothing-there"),
        pytest.param([], [], [], [], True, [], [], id="empty-image"),
    ],
)
def test_one_image(boxes, labels, objects, classes, aware, truth, missed) -> None:
    matches = match_detections(
        seen_of([boxes], [labels]), truth_of([objects], [classes]), class_aware=aware
    )
    assert matches.truth.tolist() == truth
    assert matches.missed.tolist() == missed
    assert matches.found.tolist() == [row >= 0 for row in truth]
    assert matches.label.tolist() == [classes[row] if row >= 0 else -1 for row in truth]
    assert not matches.ignored.any()


def test_overlap_and_both_directions() -> None:
    matches = match_detections(
        seen_of([[FAR], [A_HALF, FAR]], [[0], [0, 0]]),
        truth_of([[], [FAR, A]], [[], [0, 0]]),
    )
    assert matches.truth.tolist() == [-1, 1, 0]
    assert matches.iou.tolist() == pytest.approx([0, 0.6, 1])
    assert matches.detection.tolist() == [2, 1]


def test_a_displaced_detection_asks_on() -> None:
    """At a lower threshold the loser of A takes B, from one that scores less."""
    matches = match_detections(
        seen_of([[A, A, B]], [[0, 0, 0]]), truth_of([[A, B]], [[0, 0]]), iou_threshold=0.4
    )
    assert matches.truth.tolist() == [0, 1, -1]


@pytest.mark.parametrize(
    ("label", "aware", "ignored"),
    [(0, True, True), (1, True, False), (1, False, True)],
    ids=["own-class", "other-class", "agnostic"],
)
def test_crowds_are_nobodys_object(label: int, aware: bool, ignored: bool) -> None:
    crowd = truth_of([[WIDE, A]], [[0, 2]], crowd=[True, False])
    matches = match_detections(seen_of([[FAR]], [[label]]), crowd, class_aware=aware)
    assert matches.truth.tolist() == [-1]
    assert matches.ignored.tolist() == [ignored]
    assert matches.missed.tolist() == [False, True]


def test_an_object_on_a_crowd_can_be_found() -> None:
    crowd = truth_of([[WIDE, A]], [[0, 0]], crowd=[True, False])
    matches = match_detections(seen_of([[A]], [[0]]), crowd)
    assert matches.truth.tolist() == [1]
    assert not matches.ignored.any()


def test_errors() -> None:
    with pytest.raises(ConfigError, match=r"iou_threshold must be in \(0, 1\], got 0"):
        match_detections(seen_of([[]], [[]]), truth_of([[]], [[]]), iou_threshold=0)
    with pytest.raises(DataError, match="the same images, got 1 and 2"):
        match_detections(seen_of([[]], [[]]), truth_of([[], []], [[], []]))


@pytest.mark.parametrize("aware", [True, False])
@pytest.mark.parametrize("pairs_at_once", [7, 1_000_000])
def test_like_taking_turns(aware: bool, pairs_at_once: int, monkeypatch) -> None:
    monkeypatch.setattr("detal.features.matching._PAIRS_AT_ONCE", pairs_at_once)
    rng = np.random.default_rng(0)
    seen, truth = _random_world(rng, images=40)
    matches = match_detections(seen, truth, class_aware=aware, iou_threshold=0.3)
    assert matches.truth.tolist() == _in_turn(seen, truth, aware=aware, threshold=0.3)
    _check_consistent(matches)
    assert 30 < int(matches.found.sum()) < len(matches.truth) - 30


def _random_world(rng: np.random.Generator, *, images: int) -> tuple[Detections, Annotations]:
    def boxes(count: int) -> Boxes:
        corner = rng.uniform(0, 12, size=(count, 2))
        far = corner + rng.uniform(8, 20, size=(count, 2))
        return [[float(side) for side in box] for box in np.hstack([corner, far])]

    counts = rng.integers(0, 9, size=(images, 2))
    seen = seen_of(
        [boxes(n) for n in counts[:, 0]], [rng.integers(3, size=n).tolist() for n in counts[:, 0]]
    )
    truth = truth_of(
        [boxes(n) for n in counts[:, 1]], [rng.integers(3, size=n).tolist() for n in counts[:, 1]]
    )
    return seen, truth


def _in_turn(seen: Detections, truth: Annotations, *, aware: bool, threshold: float) -> list[int]:
    chosen: list[int] = []
    for row, image in enumerate(seen.image_index.tolist()):
        best, best_iou = -1, threshold
        for other in range(int(truth.offsets[image]), int(truth.offsets[image + 1])):
            iou = float(box_iou(seen.boxes[row, None], torch.from_numpy(truth.boxes[other, None])))
            fits = not aware or int(seen.labels[row]) == int(truth.labels[other])
            if fits and other not in chosen and iou > best_iou:
                best, best_iou = other, iou
        chosen.append(best)
    return chosen


def _check_consistent(matches: Matches) -> None:
    rows = matches.found.nonzero()[:, 0]
    assert torch.equal(matches.detection[matches.truth[rows]], rows)
    assert torch.equal(matches.missed, matches.detection < 0)
    assert int((matches.detection >= 0).sum()) == len(rows)
