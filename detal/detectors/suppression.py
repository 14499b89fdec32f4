"""Non-maximum suppression over a whole batch at once, and what it tells about each kept box.

Candidates of all images are packed: n candidates with an image (not decreasing) and a label each.
Boxes of different images or classes never suppress each other. The suppression itself is
torchvision's; there is no time limit after which images go without boxes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import nms

__all__ = ["cluster_spread", "suppress", "top_per_image"]

# Greedy suppression costs candidates x kept boxes per call and, on CUDA, candidates^2 / 8 bytes.
_CHUNK_CPU = 4_096
_CHUNK_CUDA = 32_768
_PAIRS = 2_000_000


def suppress(
    boxes: Tensor,
    scores: Tensor,
    *,
    images: Tensor,
    labels: Tensor,
    iou_threshold: float,
    max_detections: int,
) -> Tensor:
    """Class-aware greedy suppression of every image of a batch.

    Args:
        boxes: (n, 4) xyxy.
        scores: (n,)
        images: (n,) int64, not decreasing.
        labels: (n,) int64, >= 0.
        iou_threshold: A box is dropped if it overlaps a better one of its class by more.
        max_detections: Boxes kept per image.

    Returns:
        (k,) int64 rows of the kept boxes, by image and then highest score first.
    """
    if not len(boxes):
        return images.new_zeros(0)
    if boxes.device.type == "mps":  # it has no float64
        keep = suppress(
            boxes.cpu(),
            scores.cpu(),
            images=images.cpu(),
            labels=labels.cpu(),
            iou_threshold=iou_threshold,
            max_detections=max_detections,
        )
        return keep.to(boxes.device)
    # An offset per image and class makes the groups disjoint; float64 keeps the boxes exact.
    low, high = boxes.aminmax()
    group = images * (labels.max() + 1) + labels
    shifted = (boxes - low).double() + (group * (high - low + 1).double())[:, None]
    parts = [
        start + nms(shifted[start:stop], scores[start:stop].double(), iou_threshold)
        for start, stop in _image_chunks(images)
    ]
    return top_per_image(torch.cat(parts), scores, images=images, limit=max_detections)


def top_per_image(rows: Tensor, scores: Tensor, *, images: Tensor, limit: int) -> Tensor:
    """The best ``limit`` of ``rows`` in each image, by image and then highest score first.

    Args:
        rows: (m,) rows of ``scores`` and ``images`` to choose from.
        scores: (n,)
        images: (n,) int64.
        limit: Rows kept per image.
    """
    rows = rows[scores[rows].argsort(descending=True, stable=True)]
    rows = rows[images[rows].argsort(stable=True)]
    image = images[rows]
    rank = torch.arange(len(rows), device=rows.device) - torch.searchsorted(image, image)
    return rows[rank < limit]


def cluster_spread(
    boxes: Tensor,
    scores: Tensor,
    *,
    images: Tensor,
    labels: Tensor,
    keep: Tensor,
    iou_threshold: float,
) -> Tensor:
    """How much the boxes that suppression merged into each kept one disagree about its sides.

    A cluster is a kept box and the candidates it suppressed: those of its image and class whose
    best kept box that overlaps them by more than the threshold it is.

    Args:
        boxes: (n, 4) xyxy.
        scores: (n,)
        images: (n,) int64.
        labels: (n,) int64.
        keep: (k,) rows that `suppress` kept.
        iou_threshold: The one `suppress` was given.

    Returns:
        (k, 4) score-weighted standard deviation of left, top, right, bottom in the boxes' unit;
        zero for a lone box.
    """
    member, owner = _members(
        boxes, images=images, labels=labels, keep=keep, iou_threshold=iou_threshold
    )
    member = torch.cat([keep, member])
    owner = torch.cat([torch.arange(len(keep), device=keep.device), owner])
    sides = boxes[member].float()
    weight = scores[member].float()[:, None]
    zeros = sides.new_zeros(len(keep), 4)
    total = zeros[:, :1].index_add(0, owner, weight).clamp_min(torch.finfo(torch.float32).tiny)
    mean = zeros.index_add(0, owner, weight * sides) / total
    variance = zeros.index_add(0, owner, weight * (sides - mean[owner]).square()) / total
    lone = torch.bincount(owner, minlength=len(keep)) == 1
    return variance.sqrt().masked_fill(lone[:, None], 0.0)


def _members(
    boxes: Tensor, *, images: Tensor, labels: Tensor, keep: Tensor, iou_threshold: float
) -> tuple[Tensor, Tensor]:
    """Suppressed rows (m,) and the position in ``keep`` (m,) of the box that suppressed each."""
    none = keep.new_zeros(0)
    if len(keep) == 0 or len(keep) == len(boxes):
        return none, none
    _, group = torch.unique(images * (labels.max() + 1) + labels, return_inverse=True)
    by_group = group[keep].argsort(stable=True)  # best first within each group
    kept_group = group[keep][by_group]
    suppressed = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
    suppressed[keep] = False
    rows = suppressed.nonzero()[:, 0]
    first = torch.searchsorted(kept_group, group[rows])
    count = torch.searchsorted(kept_group, group[rows], right=True) - first
    owner = torch.full_like(rows, -1)
    for start, stop in _even_chunks(count, _PAIRS):
        part = slice(start, stop)
        pair = torch.repeat_interleave(torch.arange(stop - start, device=rows.device), count[part])
        begin = count[part].cumsum(0) - count[part]
        rival = first[part][pair] + torch.arange(len(pair), device=rows.device) - begin[pair]
        hit = _iou(boxes[rows[part]][pair], boxes[keep[by_group]][rival]) > iou_threshold
        best = torch.full((stop - start,), len(keep), device=rows.device)
        best = best.scatter_reduce(0, pair[hit], rival[hit], "amin")
        owner[part] = torch.where(best < len(keep), best, -1)
    found = owner >= 0
    return rows[found], by_group[owner[found]]


def _iou(a: Tensor, b: Tensor) -> Tensor:
    """(n,) overlap of the boxes in equal rows."""
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    overlap = (high - low).clamp_min(0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - overlap
    return overlap / union


def _image_chunks(images: Tensor) -> list[tuple[int, int]]:
    """Row ranges that end at image borders and, where an image allows it, hold few candidates."""
    limit = _CHUNK_CUDA if images.is_cuda else _CHUNK_CPU
    if len(images) <= limit:
        return [(0, len(images))]
    _, counts = torch.unique_consecutive(images, return_counts=True)
    return [
        (int(start), int(stop))
        for start, stop in _borders(counts.cumsum(0).tolist(), limit)
        if stop > start
    ]


def _even_chunks(counts: Tensor, limit: int) -> list[tuple[int, int]]:
    """Ranges of entries whose counts sum to about ``limit`` at most."""
    if not len(counts):
        return []
    ends = counts.cumsum(0)
    if int(ends[-1]) <= limit:
        return [(0, len(counts))]
    cuts = torch.arange(limit, int(ends[-1]), limit, device=ends.device)
    edges = torch.unique_consecutive(torch.searchsorted(ends, cuts)).tolist()
    return [(a, b) for a, b in zip([0, *edges], [*edges, len(counts)], strict=True) if b > a]


def _borders(ends: list[int], limit: int) -> list[tuple[int, int]]:
    """Greedy ranges over sorted ``ends``: as many as fit into ``limit``, at least one each."""
    ranges, start, last = [], 0, 0
    for end in ends:
        if end - start > limit and last > start:
            ranges.append((start, last))
            start = last
        last = end
    return [*ranges, (start, last)]
