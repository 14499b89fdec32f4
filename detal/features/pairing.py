"""What two passes over the same images say about the same places.

Pure functions over packed detections, on the device of the detections. Every box of the first pass,
the reference, is compared with the box of the other pass that overlaps it most, whatever their
classes. N reference boxes, B images, C classes; J = C for sigmoid scores, C + 1 for softmax scores.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from detal.structures import Detections

__all__ = [
    "Partners",
    "absent_logits",
    "box_change",
    "evenly_spaced",
    "jensen_shannon",
    "matched_consistency",
    "mean_entropy_gap",
    "partners",
    "symmetric_kl",
]

_PAIRS_AT_ONCE = 1_000_000
_TINY = 1e-9
# Probabilities are kept at least this far from 0, as in CSD's released code.
_LEAST_PROBABILITY = 1e-7
# What is left to a class where a detector says that there is nothing.
_ABSENT = 0.01


class Partners(NamedTuple):
    """For each reference box the best-overlapping box of the other pass.

    Attributes:
        row: (N,) int64 row of it, or -1 if the other pass found nothing in the image.
        iou: (N,) float32 overlap with it, 0 without one.
    """

    row: Tensor
    iou: Tensor


def partners(reference: Detections, other: Detections) -> Partners:
    """The box of ``other`` that overlaps each reference box most; of equal ones the earlier.

    As in CALD a partner need not overlap at all: then it is the first, best-scored box of the
    image. Cost: the IoU of each pair within an image, a million pairs at a time.
    """
    image = reference.image_index
    number, first = other.counts[image], other.offsets[:-1][image]
    row = torch.full_like(image, -1)
    iou = reference.boxes.new_zeros(len(image), dtype=torch.float32)
    for begin, end in _blocks(number):
        n = number[begin:end]
        pair = torch.arange(end - begin, device=n.device).repeat_interleave(n)
        shift = (first[begin:end] - (n.cumsum(0) - n)).repeat_interleave(n)
        rival = torch.arange(len(pair), device=n.device) + shift
        overlap = _iou(reference.boxes[begin:end][pair], other.boxes[rival])
        best = iou[begin:end].scatter_reduce(0, pair, overlap, "amax")
        winner = torch.full_like(n, other.num_boxes)
        wins = (overlap == best[pair]) | overlap.isnan()
        winner = winner.scatter_reduce(0, pair[wins], rival[wins], "amin")
        iou[begin:end] = best
        row[begin:end] = torch.where(winner < other.num_boxes, winner, -1)
    return Partners(row=row, iou=iou)


def _blocks(number: Tensor) -> Iterator[tuple[int, int]]:
    """Ranges of boxes with about ``_PAIRS_AT_ONCE`` pairs each."""
    block = number.cumsum(0) // _PAIRS_AT_ONCE
    edges = [0, *(block.diff().nonzero()[:, 0] + 1).tolist(), len(number)]
    yield from itertools.pairwise(edges)


def _iou(a: Tensor, b: Tensor) -> Tensor:
    """(R,) overlap of the boxes in equal rows (R, 4); NaN stays NaN."""
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    common = (high - low).clamp_min(0).prod(dim=1)
    union = (a[:, 2:] - a[:, :2]).prod(dim=1) + (b[:, 2:] - b[:, :2]).prod(dim=1) - common
    return common / union.clamp_min(_TINY)


def evenly_spaced(detections: Detections, *, most: int) -> Detections:
    """At most ``most`` (>= 2) boxes of each image, at even distances in the order of scores.

    The first and the last are among them; spreads and features are left out.
    """
    counts = detections.counts.clamp_max(most)
    offsets = torch.zeros_like(detections.offsets)
    offsets[1:] = counts.cumsum(0)
    image = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    rank = torch.arange(int(offsets[-1]), device=counts.device) - offsets[image]
    stretch = (detections.counts - 1).double() / (counts - 1).clamp_min(1)
    rows = detections.offsets[image] + (rank * stretch[image]).round().long()
    return Detections(
        offsets=offsets,
        boxes=detections.boxes[rows],
        scores=detections.scores[rows],
        labels=detections.labels[rows],
        logits=detections.logits[rows],
        score_kind=detections.score_kind,
    )


def matched_consistency(reference: Detections, other: Detections) -> Tensor:
    """(N,) CALD's m of each reference box: overlap plus agreement about the class, in [0, 2].

    ``IoU + (1 - JS) (max p + max q) / 2``, with the class probabilities p and q of box and partner
    (without background in the maximum) and the Jensen-Shannon divergence of their distributions. 0
    where the other pass found nothing in the image.
    """
    row, iou = partners(reference, other)
    found = row >= 0
    divergence = jensen_shannon(_distribution(reference)[found], _distribution(other)[row[found]])
    best = reference.probs().amax(dim=1)[found] + other.probs().amax(dim=1)[row[found]]
    matched = torch.zeros_like(iou)
    matched[found] = iou[found] + (1 - divergence) * best / 2
    return matched


def _distribution(detections: Detections) -> Tensor:
    """(N, J) that sums to one: with background for softmax, sigmoid scores over their sum."""
    logits = detections.logits.float()
    if detections.score_kind == "softmax":
        return logits.softmax(dim=1)
    probs = logits.sigmoid()
    return probs / probs.sum(dim=1, keepdim=True).clamp_min(_TINY)


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """(n,) divergence in nats, in [0, ln 2], of distributions (n, J) and (n, J) or (J,)."""
    gap = _entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2
    return gap.clamp(0, math.log(2))


def _entropy(probs: Tensor) -> Tensor:
    entropy: Tensor = torch.special.entr(probs)
    return entropy.sum(dim=-1)


def symmetric_kl(logits: Tensor, others: Tensor, *, softmax: bool) -> Tensor:
    """(n,) half of the sum of the two Kullback-Leibler divergences, in nats.

    Softmax: of the distributions over classes and background. Sigmoid: the sum over the classes of
    that of their two outcomes.

    Args:
        logits: (n, J)
        others: (n, J)
        softmax: How logits become probabilities.
    """
    least = math.log(_LEAST_PROBABILITY)
    if softmax:
        a, b = logits.float().log_softmax(dim=1), others.float().log_softmax(dim=1)
        a, b = a.clamp_min(least), b.clamp_min(least)
        return ((a.exp() - b.exp()) * (a - b)).sum(dim=1) / 2
    a, b = logits.float().clamp(least, -least), others.float().clamp(least, -least)
    return ((a.sigmoid() - b.sigmoid()) * (a - b)).sum(dim=1) / 2


def absent_logits(logits: Tensor, *, softmax: bool) -> Tensor:
    """(n, J) what a pass would say that sees nothing at these boxes: no class above 1 %.

    Sigmoid: each class at 1 % at most; softmax: all classes together at 1 % at most, background the
    rest.
    """
    logits = logits.float()
    if not softmax:
        return logits.clamp_max(math.log(_ABSENT / (1 - _ABSENT)))
    logs = logits.log_softmax(dim=1)
    some = logs[:, :-1].exp().sum(dim=1, keepdim=True)
    left = some.clamp_max(_ABSENT)
    classes = logs[:, :-1] + (left / some.clamp_min(_TINY)).log()
    return torch.cat([classes, (1 - left).log()], dim=1)


def box_change(boxes: Tensor, others: Tensor) -> Tensor:
    """(n,) mean square of the moves of centre and the log ratios of sides, relative to the box.

    The four numbers are those that box regression predicts, so this is CSD's localisation term with
    the box in the place of the anchor.

    Args:
        boxes: (n, 4) xyxy.
        others: (n, 4) xyxy.
    """
    size = (boxes[:, 2:] - boxes[:, :2]).clamp_min(_TINY)
    other = (others[:, 2:] - others[:, :2]).clamp_min(_TINY)
    move = (others[:, :2] + others[:, 2:] - boxes[:, :2] - boxes[:, 2:]) / 2 / size
    return torch.cat([move, (other / size).log()], dim=1).square().mean(dim=1)


def mean_entropy_gap(passes: list[Tensor], *, softmax: bool) -> Tensor:
    """(n,) entropy of the mean of several predictions less the mean of their entropies, in nats.

    It is the mean Kullback-Leibler divergence of the predictions from their consensus. Softmax: of
    the distributions over classes and background; sigmoid: summed over the classes.

    Args:
        passes: One (n, J) of logits per prediction, at least one.
        softmax: How logits become probabilities.
    """
    mean = torch.zeros_like(passes[0], dtype=torch.float32)
    each = mean.new_zeros(len(mean))
    for logits in passes:
        probs = logits.float().softmax(dim=1) if softmax else logits.float().sigmoid()
        mean += probs / len(passes)
        each += _spread_of(probs, softmax=softmax) / len(passes)
    return (_spread_of(mean, softmax=softmax) - each).clamp_min(0)


def _spread_of(probs: Tensor, *, softmax: bool) -> Tensor:
    return _entropy(probs) if softmax else _entropy(probs) + _entropy(1 - probs)
