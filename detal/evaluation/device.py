"""The curves of `detal.evaluation.curves` on a torch device, for many sets of images at once.

The same algorithm with torch's operations; needs float64, so CPU and CUDA, not MPS. Running counts
are kept for every detection of every set: memory O(B K) for B sets of a block and K detections.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detal.evaluation.area_view import AreaView
from detal.evaluation.metrics import IOU_THRESHOLDS, RECALL_THRESHOLDS

__all__ = ["DeviceView", "device_ap", "device_recall", "device_view"]

_NUM_THRESHOLDS = len(IOU_THRESHOLDS)


@dataclass(frozen=True, eq=False)
class DeviceView:
    """The arrays of an `AreaView` as int64 tensors on one device."""

    image: Tensor
    starts: Tensor
    marked: Tensor
    marked_image: Tensor
    marked_starts: Tensor
    hits: Tensor
    ignored: Tensor
    tie_start: Tensor
    tie_length: Tensor
    truth_image: Tensor
    truth_starts: Tensor


class _Marked(NamedTuple):
    """`detal.evaluation.curves.Marked` as tensors."""

    rank: Tensor
    hits: Tensor
    ignored: Tensor
    starts: Tensor


def device_view(view: AreaView, device: str) -> DeviceView:
    """Copy a view to a device."""
    arrays = {f.name: getattr(view, f.name) for f in fields(DeviceView)}
    return DeviceView(
        **{name: torch.as_tensor(a.astype(np.int64), device=device) for name, a in arrays.items()}
    )


def device_ap(view: DeviceView, weights: NDArray[Any]) -> NDArray[np.float64]:
    """(B * C, T) AP for the ``weights`` (B, P)."""
    w = torch.as_tensor(weights.astype(np.int64), device=view.image.device)
    return np.asarray(_average_precision(_marked(view, w), _positives(view, w)).cpu().numpy())


def device_recall(view: DeviceView, weights: NDArray[Any]) -> NDArray[np.float64]:
    """(B * C, T) recall for the ``weights`` (B, P)."""
    w = torch.as_tensor(weights.astype(np.int64), device=view.image.device)
    marked, positives = _marked(view, w), _positives(view, w)
    total = _before(_unpacked(marked.hits).long())  # (T, m + 1)
    recall = total[:, marked.starts].diff(dim=1).T / positives.double()[:, None]
    recall[positives == 0] = torch.nan
    return np.asarray(recall.cpu().numpy())


def _positives(view: DeviceView, weights: Tensor) -> Tensor:
    """(B * C,) ground-truth boxes that count."""
    return _before(weights[:, view.truth_image])[:, view.truth_starts].diff(dim=1).flatten()


def _marked(view: DeviceView, weights: Tensor) -> _Marked:
    """The marked detections of all B * C curves."""
    device, width = weights.device, len(view.marked)
    copies = weights[:, view.marked_image].flatten()
    flat = torch.arange(len(copies), device=device).repeat_interleave(copies)  # in (B, H)
    owner = flat // max(width, 1)
    column = flat - owner * width
    sets = torch.arange(len(weights), device=device)[:, None]
    edges = (sets * width + view.marked_starts[:-1]).flatten()
    starts = torch.searchsorted(flat, torch.cat([edges, edges.new_tensor([len(copies)])]))
    counts = _before(weights[:, view.image])  # (B, K + 1)
    base = counts[:, view.starts[:-1]].flatten().repeat_interleave(starts.diff())
    # Copies of an image stand one after another: the copies of a run of ties are interleaved.
    copy = torch.arange(len(flat), device=device) - (copies.cumsum(0) - copies)[flat]
    tie_start = view.tie_start[column]
    place = counts[owner, tie_start] + copy * view.tie_length[column]
    place += view.marked[column] - tie_start
    # Sets one after another, as no place exceeds the largest count.
    order = torch.argsort(owner * (counts.max() + 1) + place)
    column = column[order]
    rank = (place - base + 1).double()
    return _Marked(rank[order], view.hits[column], view.ignored[column], starts)


def _average_precision(marked: _Marked, positives: Tensor) -> Tensor:
    """(G, T) COCO's 101-point AP; NaN in groups without ground truth."""
    device, m, groups = positives.device, len(marked.rank), len(positives)
    curves = _NUM_THRESHOLDS * groups
    at = _unpacked(marked.hits).flatten().nonzero().flatten()
    thresholds = torch.arange(_NUM_THRESHOLDS, device=device)[:, None]
    first = torch.searchsorted(at, (thresholds * m + marked.starts[:-1]).flatten())
    count = first.diff(append=first.new_tensor([len(at)]))
    curve = torch.arange(curves, device=device).repeat_interleave(count)
    true = (torch.arange(1, len(at) + 1, device=device) - first[curve]).double()
    precision = true / _counted_rank(marked).flatten()[at]
    lifted = precision + (curves - curve)
    best = lifted.flip(0).cummax(0).values.flip(0) if len(at) else lifted
    last = best.new_ones(len(at), dtype=torch.bool)
    last[:-1] = best[1:] != best[:-1]
    ends = last.nonzero().flatten()
    curve = curve[ends]
    recall = true[ends] / positives.repeat(_NUM_THRESHOLDS)[curve]
    levels = torch.as_tensor(RECALL_THRESHOLDS, device=device)
    share = torch.searchsorted(levels, recall, right=True)
    share[1:] -= torch.where(curve[1:] == curve[:-1], share[:-1].clone(), 0)
    total = precision.new_zeros(curves).index_add_(0, curve, precision[ends] * share)
    ap = total.reshape(_NUM_THRESHOLDS, groups).T / len(RECALL_THRESHOLDS)
    return torch.where(positives[:, None] > 0, ap, torch.nan)


def _counted_rank(marked: _Marked) -> Tensor:
    """(T, m) place among the detections of the group that are not ignored."""
    ignored = _before(_unpacked(marked.ignored).long())  # (T, m + 1)
    base = ignored[:, marked.starts[:-1]].repeat_interleave(marked.starts.diff(), dim=1)
    return marked.rank - (ignored[:, :-1] - base)


def _unpacked(bits: Tensor) -> Tensor:
    """(T, m) bool of (m,) words."""
    return (bits >> torch.arange(_NUM_THRESHOLDS, device=bits.device)[:, None]) & 1 == 1


def _before(counts: Tensor) -> Tensor:
    """(B, K + 1) sums of the columns before each of (B, K)."""
    total = counts.new_zeros((len(counts), counts.shape[1] + 1))
    total[:, 1:] = counts.cumsum(1)
    return total
