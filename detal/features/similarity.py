"""How alike the objects of images are, by object features of one class.

Pure functions on packed boxes, on the device they lie on; ``image`` is the image of each box and
does not decrease. N boxes, B images, C classes, D features, S pairs of an image and a class in it.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["class_prototypes", "distinct_boxes", "matching_distances"]

_CELLS = 4_000_000
_NO_MATCH = 2.0


def distinct_boxes(
    values: Tensor, features: Tensor, labels: Tensor, image: Tensor, *, threshold: float
) -> Tensor:
    """Boxes left when each of highest value drops those of its image and class that look like it.

    The greedy suppression of ENMS (Wu et al., CVPR 2022), by feature in place of place. All images
    and classes go on at once: each round keeps one box of every image and class, so that there are
    as many rounds as the most boxes kept in one of them. Of equal values the earlier box wins.

    Args:
        values: (N,) what boxes are ranked by.
        features: (N, D); an all-zero one is like no other.
        labels: (N,) int64.
        image: (N,) int64.
        threshold: Cosine similarity above which a box is dropped.

    Returns:
        (N,) bool, True for the boxes kept.
    """
    unit = torch.nn.functional.normalize(features, dim=1)
    _, _, segment = _segments(labels, image)
    left = values.argsort(descending=True, stable=True)
    left = left[segment[left].argsort(stable=True)]
    kept = torch.zeros(len(values), dtype=torch.bool, device=values.device)
    while len(left):
        first = torch.ones_like(left, dtype=torch.bool)
        first[1:] = segment[left[1:]] != segment[left[:-1]]
        leaders = left[first]
        kept[leaders] = True
        leader = leaders[first.cumsum(0) - 1]
        alike = (unit[left] * unit[leader]).sum(dim=1) > threshold
        left = left[~(first | alike)]
    return kept


def class_prototypes(
    values: Tensor, features: Tensor, labels: Tensor, image: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean feature of the boxes of each image and class, weighted by their values.

    Where all values of a class in an image are 0 its boxes count equally.

    Args:
        values: (N,) >= 0.
        features: (N, D).
        labels: (N,) int64.
        image: (N,) int64.

    Returns:
        Image (S,), label (S,) and mean feature (S, D) scaled to length 1, by image, then label.
    """
    images, classes, segment = _segments(labels, image)
    total = values.new_zeros(len(images)).index_add_(0, segment, values)
    weight = torch.where(total[segment] > 0, values, 1.0)
    mean = features.new_zeros(len(images), features.shape[1])
    mean.index_add_(0, segment, weight[:, None] * features)
    return images, classes, torch.nn.functional.normalize(mean, dim=1)


def _segments(labels: Tensor, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Image (S,) and class (S,) of all distinct pairs, ascending, and the pair (N,) of each box."""
    width = int(labels.max()) + 1 if len(labels) else 1
    code, segment = torch.unique(image * width + labels, return_inverse=True)
    return code // width, code % width, segment


def matching_distances(
    features: Tensor, labels: Tensor, weights: Tensor, image: Tensor, *, num_images: int
) -> Tensor:
    """How badly the objects of each image find their like in each other image.

    PPAL's category-conditioned matching (Yang et al., CVPR 2024). From image a to image b it is the
    weighted mean, over the boxes of a, of 1 - the largest cosine similarity with a box of b of the
    same class, or of 2 if b has none; the distance is the mean of both directions. Ours, where the
    paper's is undefined: an image without boxes is at distance 2 from those with boxes and at 0
    from others without.

    Cost: O(D) for each pair of boxes of one class, in blocks, and four bytes for each pair of
    images.

    Args:
        features: (N, D).
        labels: (N,) int64.
        weights: (N,) > 0: scores.
        image: (N,) int64, ascending.
        num_images: B.

    Returns:
        (B, B) float32 in [0, 2], symmetric, 0 on the diagonal.
    """
    unit = torch.nn.functional.normalize(features, dim=1)
    total = weights.new_zeros(num_images).index_add_(0, image, weights)
    saved = weights.new_zeros(num_images, num_images)
    order = labels.argsort(stable=True)
    _, sizes = torch.unique_consecutive(labels[order], return_counts=True)
    for rows in torch.split(order, sizes.tolist()):
        images, local, counts = torch.unique_consecutive(
            image[rows], return_inverse=True, return_counts=True
        )
        matched = _matched(unit[rows], weights[rows], local, counts)
        saved[images[:, None], images] += matched
    directed = _NO_MATCH - saved / total.clamp_min(torch.finfo(total.dtype).tiny)[:, None]
    distance = ((directed + directed.T) / 2).clamp_(0, _NO_MATCH)
    empty = total == 0
    distance[empty[:, None] & empty] = 0.0
    return distance.fill_diagonal_(0.0)


def _matched(unit: Tensor, weights: Tensor, image: Tensor, counts: Tensor) -> Tensor:
    """Of one class: (b, b) summed weight times (1 + largest cosine), from each image to each."""
    # With images by descending number of boxes, those that have a j-th box come first.
    by_count = counts.argsort(descending=True, stable=True)
    starts = (counts.cumsum(0) - counts)[by_count]
    have = [int((counts > j).sum()) for j in range(int(counts.max()))]
    result = weights.new_zeros(len(counts), len(counts))
    every = torch.arange(len(unit), device=unit.device)
    for rows in torch.split(every, max(1, _CELLS // len(counts))):
        best = weights.new_full((len(rows), len(counts)), -1.0)
        for j, n in enumerate(have):
            similarity = unit[rows] @ unit[starts[:n] + j].T
            torch.maximum(best[:, :n], similarity, out=best[:, :n])
        result.index_add_(0, image[rows], weights[rows, None] * (1 + best))
    return result[:, by_count.argsort()]
