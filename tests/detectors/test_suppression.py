from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import batched_nms

from detal.detectors import suppression
from detal.detectors.suppression import cluster_spread, suppress, top_per_image


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


BOXES = torch.tensor(
    [
        [0.0, 0.0, 10.0, 10.0],
        [1.0, 0.0, 11.0, 10.0],  # overlaps row 0 by 9/11
        [50.0, 50.0, 60.0, 60.0],
        [0.0, 0.0, 10.0, 10.0],  # image 1
        [0.0, 0.0, 10.0, 10.0],  # image 1, another class
    ]
)
SCORES = torch.tensor([0.75, 0.25, 0.9, 0.5, 0.6])
IMAGES = ints(0, 0, 0, 1, 1)
LABELS = ints(0, 0, 0, 0, 1)


def test_suppress_by_hand():
    keep = suppress(
        BOXES, SCORES, images=IMAGES, labels=LABELS, iou_threshold=0.5, max_detections=9
    )
    assert keep.tolist() == [2, 0, 4, 3]


def test_limit_is_per_image():
    keep = suppress(
        BOXES, SCORES, images=IMAGES, labels=LABELS, iou_threshold=0.5, max_detections=1
    )
    assert keep.tolist() == [2, 4]


def test_cluster_spread_by_hand():
    """Left sides 0 (weight 3) and 1 (weight 1): mean 1/4, variance 3/16; the same on the right."""
    spread = cluster_spread(
        BOXES, SCORES, images=IMAGES, labels=LABELS, keep=ints(2, 0, 4, 3), iou_threshold=0.5
    )
    side = (3 / 16) ** 0.5
    expected = torch.tensor([[0.0] * 4, [side, 0.0, side, 0.0], [0.0] * 4, [0.0] * 4])
    torch.testing.assert_close(spread, expected)


def test_a_box_belongs_to_the_best_of_two():
    boxes = torch.tensor([[0.0, 0, 10, 10], [4.0, 0, 14, 10], [2.0, 0, 12, 10]])
    scores = torch.tensor([0.5, 0.9, 0.1])
    zeros = ints(0, 0, 0)
    keep = suppress(boxes, scores, images=zeros, labels=zeros, iou_threshold=0.5, max_detections=9)
    assert keep.tolist() == [1, 0]
    spread = cluster_spread(boxes, scores, images=zeros, labels=zeros, keep=keep, iou_threshold=0.5)
    # Row 2 overlaps both by 2/3; row 1 took it: left sides 4 and 2, weights 9 and 1.
    torch.testing.assert_close(spread[:, 0], torch.tensor([0.6, 0.0]))


@pytest.mark.parametrize("rows", [0, 1], ids=["empty", "one"])
def test_few_candidates(rows):
    groups: dict[str, Any] = {
        "images": IMAGES[:rows],
        "labels": LABELS[:rows],
        "iou_threshold": 0.5,
    }
    keep = suppress(BOXES[:rows], SCORES[:rows], max_detections=5, **groups)
    assert keep.tolist() == list(range(rows))
    assert cluster_spread(BOXES[:rows], SCORES[:rows], keep=keep, **groups).tolist() == (
        [[0.0] * 4] * rows
    )


def test_ties_keep_their_order():
    rows = top_per_image(torch.arange(4), torch.full((4,), 0.5), images=ints(0, 0, 0, 1), limit=2)
    assert rows.tolist() == [0, 1, 3]


@pytest.mark.parametrize("chunk", [1, 7, 10_000])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_equals_torchvision_image_by_image(seed, chunk):
    rng = torch.Generator().manual_seed(seed)
    n = int(torch.randint(1, 60, (1,), generator=rng))
    corner = torch.rand(n, 2, generator=rng) * 30
    boxes = torch.cat([corner, corner + 1 + torch.rand(n, 2, generator=rng) * 20], dim=1)
    scores = torch.rand(n, generator=rng)
    images = torch.randint(0, 5, (n,), generator=rng).sort().values
    labels = torch.randint(0, 3, (n,), generator=rng)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suppression, "_CHUNK_CPU", chunk)
        patch.setattr(suppression, "_PAIRS", chunk)
        keep = suppress(
            boxes, scores, images=images, labels=labels, iou_threshold=0.4, max_detections=6
        )
        spread = cluster_spread(
            boxes, scores, images=images, labels=labels, keep=keep, iou_threshold=0.4
        )
    whole = cluster_spread(
        boxes, scores, images=images, labels=labels, keep=keep, iou_threshold=0.4
    )
    torch.testing.assert_close(spread, whole)
    expected = []
    for image in range(5):
        rows = (images == image).nonzero()[:, 0]
        best = batched_nms(boxes[rows], scores[rows], labels[rows], 0.4)[:6]
        expected += rows[best].tolist()
    assert keep.tolist() == expected


def test_many_classes_stay_exact():
    """Offsets of thousands of groups must not cost the boxes their decimals."""
    n = 3_000
    near = torch.tensor([[0.0, 0.0, 10.0, 10.0], [4.9, 0.0, 14.9, 10.0]])  # IoU 51 / 149
    boxes = near.repeat(n, 1)
    scores = torch.linspace(0.9, 0.1, 2 * n)
    keep = suppress(
        boxes,
        scores,
        images=torch.zeros(2 * n, dtype=torch.int64),
        labels=torch.arange(n).repeat_interleave(2),
        iou_threshold=51 / 149 - 1e-5,
        max_detections=2 * n,
    )
    assert len(keep) == n
