"""What two passes say about the same places."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from detal.features import pairing
from detal.features.pairing import (
    absent_logits,
    box_change,
    evenly_spaced,
    jensen_shannon,
    matched_consistency,
    mean_entropy_gap,
    partners,
    symmetric_kl,
)
from detal.structures import Detections, ScoreKind

Image = Sequence[tuple[Sequence[float], Sequence[float]]]


def seen(*images: Image, score_kind: ScoreKind = "sigmoid", num_classes: int = 2) -> Detections:
    """Images of (box, logits) pairs."""
    flat = [pair for image in images for pair in image]
    logits = torch.tensor([list(pair[1]) for pair in flat], dtype=torch.float32)
    logits = logits.reshape(len(flat), num_classes + (score_kind == "softmax"))
    probs = logits.sigmoid() if score_kind == "sigmoid" else logits.softmax(dim=1)[:, :-1]
    best = probs.max(dim=1) if len(flat) else (torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    return Detections(
        offsets=torch.tensor([0, *np.cumsum([len(image) for image in images])]),
        boxes=torch.tensor([list(pair[0]) for pair in flat]).float().reshape(-1, 4),
        scores=best[0],
        labels=best[1],
        logits=logits,
        score_kind=score_kind,
    )


def random_seen(
    seed: int, counts: Sequence[int], *, score_kind: ScoreKind = "sigmoid", num_classes: int = 4
) -> Detections:
    rng = np.random.default_rng(seed)

    def image(count: int) -> Image:
        corners = rng.uniform(0, 60, size=(count, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(5, 40, size=(count, 2))], axis=1)
        logits = rng.normal(-1, 2, size=(count, num_classes + (score_kind == "softmax")))
        return list(zip(boxes.tolist(), logits.tolist(), strict=True))

    return seen(*map(image, counts), score_kind=score_kind, num_classes=num_classes)


class TestPartners:
    def test_by_hand(self):
        first = seen(
            [((0, 0, 10, 10), (0, 0)), ((50, 50, 60, 60), (0, 0))], [((0, 0, 4, 4), (0, 0))]
        )
        other = seen(
            [((90, 90, 95, 95), (0, 0)), ((0, 5, 10, 10), (0, 0)), ((0, 0, 10, 5), (0, 0))], []
        )
        row, iou = partners(first, other)
        # Two boxes cover half of the first: the earlier. Nothing overlaps the second: the first.
        assert row.tolist() == [1, 0, -1]
        assert iou.tolist() == [0.5, 0, 0]

    @pytest.mark.parametrize("block", [1, 7, 1_000_000])
    def test_as_one_image_at_a_time(self, block, monkeypatch):
        monkeypatch.setattr(pairing, "_PAIRS_AT_ONCE", block)
        first, other = random_seen(0, [3, 0, 5, 1, 4]), random_seen(1, [4, 2, 0, 6, 3])
        row, iou = partners(first, other)
        for i in range(5):
            ours = first.boxes[first.offsets[i] : first.offsets[i + 1]]
            theirs = other.boxes[other.offsets[i] : other.offsets[i + 1]]
            part = slice(int(first.offsets[i]), int(first.offsets[i + 1]))
            if len(theirs) == 0:
                assert row[part].tolist() == [-1] * len(ours)
                continue
            table = box_iou(ours, theirs)
            best = table.max(dim=1).values if len(ours) else torch.zeros(0)
            torch.testing.assert_close(iou[part], best)
            chosen = row[part] - other.offsets[i]
            torch.testing.assert_close(table[torch.arange(len(ours)), chosen], best)

    def test_nothing(self):
        row, iou = partners(seen([], []), random_seen(0, [2, 0]))
        assert len(row) == len(iou) == 0

    def test_boxes_without_area_and_nan(self):
        flat = seen([((5, 5, 5, 5), (0, 0))])
        assert partners(flat, flat).iou.tolist() == [0]
        broken = seen([((0, 0, math.nan, 5), (0, 0))])
        row, iou = partners(broken, flat)
        assert row.tolist() == [0]
        assert iou.isnan().all()


@pytest.mark.parametrize("count", [0, 1, 2, 5, 49, 50, 51, 99, 300])
@pytest.mark.parametrize("most", [2, 5, 50])
def test_evenly_spaced_as_numpy_spaces_them(count, most):
    detections = random_seen(0, [3, count, 0])
    kept = evenly_spaced(detections, most=most)
    ranks = np.arange(count)
    if count > most:
        ranks = np.round(np.linspace(0, count - 1, most)).astype(int)
    assert kept.counts.tolist() == [min(3, most), len(ranks), 0]
    start = int(detections.offsets[1])
    first = int(kept.offsets[1])
    torch.testing.assert_close(kept.boxes[first:], detections.boxes[start + torch.tensor(ranks)])


def test_jensen_shannon():
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(5), size=(2, 6))
    m = (p + q) / 2
    expected = ((p * np.log(p / m)).sum(axis=1) + (q * np.log(q / m)).sum(axis=1)) / 2
    found = jensen_shannon(torch.tensor(p), torch.tensor(q))
    torch.testing.assert_close(found, torch.tensor(expected))
    apart = jensen_shannon(torch.tensor([[1.0, 0.0]]), torch.tensor([0.0, 1.0]))
    assert apart.tolist() == pytest.approx([math.log(2)])
    assert jensen_shannon(torch.tensor(p), torch.tensor(p)).abs().max() < 1e-12


class TestMatchedConsistency:
    def test_by_hand(self):
        """Half overlap; p = (0.8, 0.2) of sum 1, q = (0.5, 0.5)."""
        first = seen([((0, 0, 10, 10), (math.log(4), -math.log(4)))])
        other = seen([((0, 5, 10, 10), (0.0, 0.0))])
        entropy_m = -(0.65 * math.log(0.65) + 0.35 * math.log(0.35))
        entropy_p = -(0.8 * math.log(0.8) + 0.2 * math.log(0.2))
        js = entropy_m - (entropy_p + math.log(2)) / 2
        expected = 0.5 + (1 - js) * (0.8 + 0.5) / 2
        assert matched_consistency(first, other).tolist() == pytest.approx([expected], abs=1e-6)

    @pytest.mark.parametrize("score_kind", ["sigmoid", "softmax"])
    def test_perfect_agreement_of_a_sure_box(self, score_kind):
        logits = (20.0, -20) if score_kind == "sigmoid" else (20.0, -20, -20)
        box = seen([((0, 0, 10, 10), logits)], score_kind=score_kind)
        assert matched_consistency(box, box).tolist() == pytest.approx([2.0])

    def test_background_is_part_of_the_divergence_but_not_of_the_maximum(self):
        sure = seen([((0, 0, 9, 9), (0.0, -20, 20))], score_kind="softmax")
        assert matched_consistency(sure, sure).tolist() == pytest.approx([1.0])

    def test_nothing_in_the_other_pass(self):
        assert matched_consistency(seen([((0, 0, 9, 9), (1, 1))]), seen([])).tolist() == [0]


class TestSymmetricKl:
    def test_bernoulli_by_hand(self):
        a, b = torch.tensor([[0.0, -2.0]]), torch.tensor([[1.0, -2.0]])
        p, q = 0.5, 1 / (1 + math.exp(-1))
        forth = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
        back = q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p))
        found = symmetric_kl(a, b, softmax=False)
        assert found.tolist() == pytest.approx([(forth + back) / 2], rel=1e-5)

    def test_categorical(self):
        rng = np.random.default_rng(0)
        p, q = rng.dirichlet(np.ones(4), size=(2, 5))
        expected = ((p * np.log(p / q)).sum(1) + (q * np.log(q / p)).sum(1)) / 2
        found = symmetric_kl(torch.tensor(p).log(), torch.tensor(q).log() + 3, softmax=True)
        np.testing.assert_allclose(found, expected, rtol=1e-4)

    @pytest.mark.parametrize("softmax", [True, False])
    def test_finite_for_the_largest_stored_logits(self, softmax):
        a, b = torch.tensor([[65504.0, -65504.0]]), torch.tensor([[-65504.0, 65504.0]])
        assert 0 < float(symmetric_kl(a, b, softmax=softmax)) < 40
        assert float(symmetric_kl(a, a, softmax=softmax)) == 0


class TestAbsent:
    def test_sigmoid(self):
        found = absent_logits(torch.tensor([[3.0, -10.0]]), softmax=False)
        assert found.sigmoid()[0].tolist() == pytest.approx([0.01, 1 / (1 + math.exp(10))])

    def test_softmax(self):
        logits = torch.tensor([[0.6, 0.3, 0.1], [0.001, 0.002, 0.997]]).log() + 2
        found = absent_logits(logits, softmax=True).exp()
        expected = torch.tensor([[0.01 * 0.6 / 0.9, 0.01 * 0.3 / 0.9, 0.99], [0.001, 0.002, 0.997]])
        torch.testing.assert_close(found, expected)


def test_box_change_by_hand():
    boxes = torch.tensor([[0.0, 0, 10, 20], [0, 0, 10, 10]])
    others = torch.tensor([[5.0, 0, 15, 20], [0, 0, 20, 10]])
    expected = [0.25 / 4, (0.25 + math.log(2) ** 2) / 4]
    assert box_change(boxes, others).tolist() == pytest.approx(expected)


class TestMeanEntropyGap:
    @pytest.mark.parametrize("softmax", [True, False])
    def test_is_the_mean_divergence_from_the_consensus(self, softmax):
        logits = [torch.randn(6, 4, generator=torch.manual_seed(i)).double() for i in range(3)]
        probs = [x.softmax(1) if softmax else x.sigmoid() for x in logits]
        mean = torch.stack(probs).mean(dim=0)
        parts = [p * (p / mean).log() for p in probs]
        if not softmax:
            parts += [(1 - p) * ((1 - p) / (1 - mean)).log() for p in probs]
        expected = torch.stack(parts).sum(dim=(0, 2)) / 3
        found = mean_entropy_gap([x.float() for x in logits], softmax=softmax)
        torch.testing.assert_close(found, expected.float(), atol=1e-5, rtol=1e-4)

    def test_one_member_agrees_with_itself(self):
        assert mean_entropy_gap([torch.randn(5, 3)], softmax=False).max() < 1e-6
