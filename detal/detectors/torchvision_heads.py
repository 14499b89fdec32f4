"""torchvision's three kinds of detectors, run up to their candidates with all values kept.

The networks are torchvision's own modules; what follows them is written over the whole batch and
keeps, for each candidate, the row it came from, so that class logits and features can be had.
Images of one batch are padded to one size by torchvision's transform.

Shapes: B images, Q rows (proposals or anchors of all images), n candidates, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["Candidates", "dense_candidates", "ssd_candidates", "two_stage_candidates"]


class Candidates(NamedTuple):
    """Boxes before suppression, by image.

    Attributes:
        images: (n,) int64, not decreasing.
        rows: (n,) row of ``logits`` each came from; one row may give several classes.
        labels: (n,) int64 in 0..C-1.
        scores: (n,)
        boxes: (n, 4) xyxy in network pixels, clipped to the resized image.
        logits: (Q, C) for sigmoid scores, (Q, C + 1) with background last for softmax.
        object_features: Gives (k, D) for chosen rows (k,).
        maps: Feature maps (B, F, h, w) for the image features.
        tightness: (n,) IoU of each box with its proposal, for detectors in two stages.
    """

    images: Tensor
    rows: Tensor
    labels: Tensor
    scores: Tensor
    boxes: Tensor
    logits: Tensor
    object_features: Callable[[Tensor], Tensor]
    maps: list[Tensor]
    tightness: Tensor | None = None


def two_stage_candidates(model: Any, batch: Any, score_threshold: float) -> Candidates:
    """Faster R-CNN: every class of every proposal that scores above the threshold.

    Args:
        model: A ``FasterRCNN``.
        batch: The ``ImageList`` of its transform.
        score_threshold: Scores must be greater.
    """
    maps = _maps(model.backbone(batch.tensors))
    proposals, _ = model.rpn(batch, maps)
    heads = model.roi_heads
    pooled = heads.box_roi_pool(maps, proposals, batch.image_sizes)
    features = heads.box_head(pooled)
    logits, regression = (value.float() for value in heads.box_predictor(features))
    counts = torch.tensor([len(p) for p in proposals], device=logits.device)
    image_of_row = torch.arange(len(counts), device=logits.device).repeat_interleave(counts)
    scores = logits.softmax(dim=1)[:, 1:]
    rows, labels = (scores > score_threshold).nonzero(as_tuple=True)
    sides = regression.unflatten(1, (-1, 4))[rows, labels + 1]
    origin = torch.cat(proposals)[rows].float()
    boxes = heads.box_coder.decode_single(sides, origin)
    boxes = _clip(boxes, image_of_row[rows], batch.image_sizes)
    large = ((boxes[:, 2:] - boxes[:, :2]) >= 1e-2).all(dim=1)
    rows, labels, boxes, origin = rows[large], labels[large], boxes[large], origin[large]
    return Candidates(
        images=image_of_row[rows],
        rows=rows,
        labels=labels,
        scores=scores[rows, labels],
        boxes=boxes,
        logits=background_last(logits),
        object_features=lambda chosen: features[chosen].flatten(1).float(),
        maps=list(maps.values()),
        tightness=_row_iou(boxes, origin),
    )


def dense_candidates(model: Any, batch: Any, score_threshold: float) -> Candidates:
    """RetinaNet and FCOS: the best (anchor, class) pairs of each level above the threshold.

    FCOS scores are the square root of class probability times centerness, so they are lower than
    the class probability its logits give.

    Args:
        model: A ``RetinaNet`` or ``FCOS``.
        batch: The ``ImageList`` of its transform.
        score_threshold: Scores must be greater.
    """
    maps = list(_maps(model.backbone(batch.tensors)).values())
    head = model.head.classification_head
    inputs = [head.conv(level) for level in maps]
    logits = [_per_anchor(head.cls_logits(x), head.num_classes) for x in inputs]
    regression: Any = model.head.regression_head(maps)
    scores = [level.sigmoid() for level in logits]
    if isinstance(regression, tuple):  # FCOS: sides and centerness
        regression, centerness = regression
        parts = centerness.float().sigmoid().split([level.shape[1] for level in logits], dim=1)
        scores = [(s * c).sqrt() for s, c in zip(scores, parts, strict=True)]
    decode = getattr(model.box_coder, "decode_single", None) or model.box_coder.decode
    image, anchor, label, score = _best_pairs(scores, score_threshold, model.topk_candidates)
    anchors = model.anchor_generator(batch, maps)[0]
    boxes = decode(regression.float()[image, anchor], anchors[anchor])
    flat = torch.cat(logits, dim=1)
    rows = image * flat.shape[1] + anchor
    return Candidates(
        images=image,
        rows=rows,
        labels=label,
        scores=score,
        boxes=_clip(boxes, image, batch.image_sizes),
        logits=flat.flatten(0, 1),
        object_features=_level_rows(inputs, [level.shape[1] for level in logits]),
        maps=maps,
    )


def ssd_candidates(model: Any, batch: Any, score_threshold: float) -> Candidates:
    """SSD and SSDlite: the best anchors of each class above the threshold.

    Args:
        model: An ``SSD``.
        batch: The ``ImageList`` of its transform.
        score_threshold: Scores must be greater.
    """
    maps = list(_maps(model.backbone(batch.tensors)).values())
    head = model.head.classification_head
    inputs, outputs = [], []
    for module, level in zip(head.module_list, maps, strict=True):
        split = isinstance(module, nn.Sequential)
        inputs.append(module[:-1](level) if split else level)
        outputs.append(_per_anchor((module[-1] if split else module)(inputs[-1]), head.num_columns))
    logits = torch.cat(outputs, dim=1)
    scores = logits.softmax(dim=2)[:, :, 1:]
    count = min(model.topk_candidates, scores.shape[1])
    top, anchors = scores.topk(count, dim=1)  # (B, count, C)
    image, place, label = (top > score_threshold).nonzero(as_tuple=True)
    anchor = anchors[image, place, label]
    regression = model.head.regression_head(maps).float()
    defaults = model.anchor_generator(batch, maps)[0]
    boxes = model.box_coder.decode_single(regression[image, anchor], defaults[anchor])
    return Candidates(
        images=image,
        rows=image * logits.shape[1] + anchor,
        labels=label,
        scores=top[image, place, label],
        boxes=_clip(boxes, image, batch.image_sizes),
        logits=background_last(logits.flatten(0, 1)),
        object_features=_level_rows(inputs, [level.shape[1] for level in outputs]),
        maps=maps,
    )


def background_last(logits: Tensor) -> Tensor:
    """(Q, C + 1) with torchvision's background column 0 moved to the end."""
    return torch.cat([logits[:, 1:], logits[:, :1]], dim=1)


def _maps(features: Any) -> dict[str, Tensor]:
    return {"0": features} if isinstance(features, Tensor) else dict(features)


def _per_anchor(output: Tensor, columns: int) -> Tensor:
    """(B, a K, h, w) to (B, h w a, K), the order of torchvision's anchors."""
    b, _, h, w = output.shape
    return output.view(b, -1, columns, h, w).permute(0, 3, 4, 1, 2).reshape(b, -1, columns).float()


def _best_pairs(
    scores: list[Tensor], score_threshold: float, limit: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Image, anchor, class and score of the best ``limit`` pairs of each image and level."""
    found, start = [], 0
    for level in scores:
        top, place = level.flatten(1).topk(min(limit, level[0].numel()), dim=1)
        image, rank = (top > score_threshold).nonzero(as_tuple=True)
        pair = place[image, rank]
        columns = level.shape[2]
        anchor = torch.div(pair, columns, rounding_mode="floor") + start
        found.append((image, anchor, pair % columns, top[image, rank]))
        start += level.shape[1]
    image, anchor, label, score = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = image.argsort(stable=True)
    return image[order], anchor[order], label[order], score[order]


def _level_rows(inputs: list[Tensor], counts: list[int]) -> Callable[[Tensor], Tensor]:
    """Rows (k,) over images and anchors to their values in per-level maps, padded to one width."""
    total = sum(counts)
    width = max(level.shape[1] for level in inputs)

    def gather(rows: Tensor) -> Tensor:
        image, anchor = torch.div(rows, total, rounding_mode="floor"), rows % total
        out = inputs[0].new_zeros(len(rows), width)
        start = 0
        for level, count in zip(inputs, counts, strict=True):
            here = ((anchor >= start) & (anchor < start + count)).nonzero()[:, 0]
            per_place = count // math.prod(level.shape[2:])
            place = torch.div(anchor[here] - start, per_place, rounding_mode="floor")
            out[here, : level.shape[1]] = level.flatten(2)[image[here], :, place]
            start += count
        return out.float()

    return gather


def _row_iou(a: Tensor, b: Tensor) -> Tensor:
    """(n,) IoU of the boxes (n, 4) of equal rows."""
    size = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp_min(0)
    common = size.prod(dim=1)
    areas = [(box[:, 2:] - box[:, :2]).prod(dim=1) for box in (a, b)]
    return torch.where(common > 0, common / (areas[0] + areas[1] - common), 0.0)


def _clip(boxes: Tensor, images: Tensor, sizes_hw: list[tuple[int, int]]) -> Tensor:
    """Boxes clipped to the resized image each belongs to."""
    sizes = torch.tensor([[w, h, w, h] for h, w in sizes_hw], device=boxes.device)
    return torch.minimum(boxes.clamp_min(0), sizes.to(boxes.dtype)[images])
