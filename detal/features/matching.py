"""Which detections of labelled images found which objects.

The evaluation matches over many IoU thresholds to make AP; this is the plain matching that measures
and training targets need, on packed tensors. N detections, M ground-truth boxes, B images.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from detal.errors import ConfigError, DataError
from detal.structures import Annotations, Detections

__all__ = ["Matches", "match_detections", "overlapping_pairs"]

_PAIRS_AT_ONCE = 1_000_000


@dataclass(frozen=True, eq=False)
class Matches:
    """A one-to-one matching of detections and objects, on the device of the detections.

    Attributes:
        truth: (N,) int64 row of the object that each detection found, or -1.
        label: (N,) int64 class of that object, or -1: background.
        iou: (N,) float32 IoU with that object, 0 without one.
        ignored: (N,) bool, True for a detection without an object that lies on a crowd: it is
            neither right nor wrong.
        detection: (M,) int64 row of the detection that found each object, or -1.
        missed: (M,) bool, True for an object that no detection found; False for crowds, which are
            nobody's object.
    """

    truth: Tensor
    label: Tensor
    iou: Tensor
    ignored: Tensor
    detection: Tensor
    missed: Tensor

    @property
    def found(self) -> Tensor:
        """(N,) bool, True for a detection that found an object."""
        return self.truth >= 0


def match_detections(
    detections: Detections,
    annotations: Annotations,
    *,
    iou_threshold: float = 0.5,
    class_aware: bool = True,
) -> Matches:
    """Match as COCO does: detections choose by descending score, each the free object it fits best.

    Of equal scores the earlier detection chooses first, of equal IoU it takes the earlier object.
    Crowds cannot be found; a detection that found nothing and of which at least ``iou_threshold``
    lies within one crowd (of its class, if ``class_aware``) is ignored. Cost: the IoU of each
    detection with each object of its image, a million pairs at a time.

    Args:
        detections: Of B images, scores descending within each image.
        annotations: Of the same B images, in the detector's label order.
        iou_threshold: Least overlap, in (0, 1].
        class_aware: Whether a detection can only find objects of its own class.

    Raises:
        ConfigError: If the threshold is out of range.
        DataError: If the two are not of equally many images.
    """
    if not 0 < iou_threshold <= 1:
        raise ConfigError(f"iou_threshold must be in (0, 1], got {iou_threshold}")
    if len(detections) != len(annotations):
        raise DataError(
            f"detections and annotations must be of the same images, got {len(detections)} and "
            f"{len(annotations)}"
        )
    device = detections.boxes.device
    crowd = torch.from_numpy(annotations.is_crowd).to(device)
    labels = torch.from_numpy(annotations.labels).to(device)
    boxes = torch.from_numpy(annotations.boxes).to(device)
    found, truth, overlap = _close_pairs(
        detections, annotations, boxes, labels if class_aware else None, crowd, iou_threshold
    )
    on_crowd = crowd[truth]
    ignored = torch.zeros(detections.num_boxes, dtype=torch.bool, device=device)
    ignored[found[on_crowd]] = True
    pair = _serve(found, truth, overlap, len(boxes), taking=~on_crowd)
    rows, objects = found[pair], truth[pair]
    truth_of = torch.full((detections.num_boxes,), -1, device=device)
    truth_of[rows] = objects
    detection_of = torch.full((len(boxes),), -1, device=device)
    detection_of[objects] = rows
    iou = torch.zeros(detections.num_boxes, device=device)
    iou[rows] = overlap[pair]
    return Matches(
        truth=truth_of,
        label=torch.where(truth_of >= 0, torch.cat([labels, labels.new_zeros(1)])[truth_of], -1),
        iou=iou,
        ignored=ignored & (truth_of < 0),
        detection=detection_of,
        missed=(detection_of < 0) & ~crowd,
    )


def overlapping_pairs(
    detections: Detections, annotations: Annotations, *, iou_threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    """All pairs of a detection and an object of one image that overlap, whatever their classes.

    Returns:
        Rows of the detections, rows of the objects and IoU (for crowds: the share of the detection
        inside) of the pairs with at least ``iou_threshold``, each (R,), by detection.
    """
    device = detections.boxes.device
    crowd = torch.from_numpy(annotations.is_crowd).to(device)
    boxes = torch.from_numpy(annotations.boxes).to(device)
    return _close_pairs(detections, annotations, boxes, None, crowd, iou_threshold)


def _close_pairs(
    detections: Detections,
    annotations: Annotations,
    boxes: Tensor,
    labels: Tensor | None,
    crowd: Tensor,
    threshold: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Detections, objects and overlaps (each (R,)) of the pairs that may match, by detection."""
    offsets = torch.from_numpy(annotations.offsets).to(boxes.device)
    image = detections.image_index
    first, number = offsets[image], offsets.diff()[image]
    empty = image.new_zeros(0)
    parts = [(empty, empty, boxes.new_zeros(0))]
    for begin, end in _blocks(number):
        n = number[begin:end]
        found = torch.arange(begin, end, device=boxes.device).repeat_interleave(n)
        place = torch.arange(len(found), device=boxes.device)
        truth = place + (first[begin:end] - (n.cumsum(0) - n)).repeat_interleave(n)
        overlap = _overlap(detections.boxes[found].float(), boxes[truth], crowd[truth])
        close = overlap >= threshold
        if labels is not None:
            close &= detections.labels[found] == labels[truth]
        parts.append((found[close], truth[close], overlap[close]))
    found, truth, overlap = (torch.cat(column) for column in zip(*parts, strict=True))
    return found, truth, overlap


def _blocks(number: Tensor) -> Iterator[tuple[int, int]]:
    """Ranges of detections with about ``_PAIRS_AT_ONCE`` pairs each."""
    block = number.cumsum(0) // _PAIRS_AT_ONCE
    edges = [0, *(block.diff().nonzero()[:, 0] + 1).tolist(), len(number)]
    yield from itertools.pairwise(edges)


def _overlap(found: Tensor, truth: Tensor, crowd: Tensor) -> Tensor:
    """(R,) IoU of box pairs (R, 4); for crowds the share of the detection that lies inside."""
    low, high = torch.maximum(found[:, :2], truth[:, :2]), torch.minimum(found[:, 2:], truth[:, 2:])
    common = (high - low).clamp_min(0).prod(dim=1)
    area = (found[:, 2:] - found[:, :2]).prod(dim=1)
    union = area + (truth[:, 2:] - truth[:, :2]).prod(dim=1) - common
    whole = torch.where(crowd, area, union)
    return torch.where(common > 0, common / whole, 0.0)


def _serve(
    found: Tensor, truth: Tensor, overlap: Tensor, num_objects: int, *, taking: Tensor
) -> Tensor:
    """The pairs in which each detection in turn takes its best free object.

    All detections ask at once for their best object, and objects turn away all but the first in
    turn; those ask on. As all objects agree on the turns, that ends where taking turns does (the
    stable matching is unique), after a few rounds for any number of images.
    """
    order = overlap.argsort(descending=True, stable=True)
    order = order[found[order].argsort(stable=True)]
    pairs = order[taking[order]]
    while True:
        rows = found[pairs]
        lead = torch.ones_like(rows, dtype=torch.bool)
        lead[1:] = rows[1:] != rows[:-1]
        asking = pairs[lead]
        objects = truth[asking]
        winner = torch.full((num_objects,), torch.iinfo(torch.int64).max, device=found.device)
        winner = winner.scatter_reduce(0, objects, found[asking], reduce="amin")
        lost = winner[objects] != found[asking]
        if not bool(lost.any()):
            return asking
        keep = torch.ones_like(lead)
        keep[lead.nonzero()[:, 0][lost]] = False
        pairs = pairs[keep]
