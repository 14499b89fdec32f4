"""Nested subsets of labelled images in which every class keeps its share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detal.errors import DataError
from detal.structures import Annotations

__all__ = ["nested_subsets"]


def nested_subsets(
    annotations: Annotations,
    shares: Sequence[float],
    *,
    num_classes: int,
    rng: np.random.Generator,
) -> list[NDArray[np.int64]]:
    """Subsets of the images, each within the next, with about their share of every class.

    The images between one subset and the next are chosen by iterative stratification (Sechidis,
    Tsoumakas & Vlahavas, ECML 2011), counting objects instead of images: the class with the fewest
    objects left is dealt out first, each image to where most objects of that class are still
    wanted. O(C^2 + M + P log P) for P images with M objects.

    Args:
        annotations: Ground truth of P images; crowds do not count.
        shares: Of the subsets, rising, in (0, 1).
        num_classes: C.
        rng: Breaks ties.

    Returns:
        For each share, the rows of its images, ascending.

    Raises:
        DataError: If there are too few images to make the subsets differ.
    """
    parts = np.diff([0.0, *shares, 1.0])
    part_of = _dealt(annotations, parts, num_classes=num_classes, rng=rng)
    subsets = [np.flatnonzero(part_of <= i) for i in range(len(shares))]
    sizes = [0, *(len(subset) for subset in subsets), len(part_of)]
    if len(set(sizes)) < len(sizes):
        raise DataError(
            f"the shares {list(shares)} of the labelled set must be different images, and its "
            f"{len(part_of)} images give subsets of {sizes[1:-1]}: label more, or take fewer shares"
        )
    return subsets


def _dealt(
    annotations: Annotations,
    parts: NDArray[np.float64],
    *,
    num_classes: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """(P,) the part that each image goes to."""
    real = ~annotations.is_crowd
    labels, image_of = annotations.labels[real], annotations.image_index[real]
    by_class = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[by_class], np.arange(num_classes + 1))
    offsets = np.searchsorted(image_of, np.arange(len(annotations) + 1))
    left = np.bincount(labels, minlength=num_classes)
    wanted, wanted_images = parts[:, None] * left, parts * len(annotations)
    part_of = np.full(len(annotations), -1, dtype=np.int64)

    def give(image: int, desire: NDArray[np.float64]) -> None:
        # Ties go to where most images are wanted, and then to any of them.
        best = np.lexsort((rng.permutation(len(parts)), -wanted_images, -desire))[0]
        own = labels[offsets[image] : offsets[image + 1]]
        np.subtract.at(wanted[best], own, 1)
        np.subtract.at(left, own, 1)
        wanted_images[best] -= 1
        part_of[image] = best

    while (left > 0).any():
        label = int(np.argmin(np.where(left > 0, left, left.sum() + 1)))
        images = np.unique(image_of[by_class[starts[label] : starts[label + 1]]])
        for image in rng.permutation(images[part_of[images] < 0]).tolist():
            give(image, wanted[:, label])
    for image in rng.permutation(np.flatnonzero(part_of < 0)).tolist():
        give(image, wanted_images)
    return part_of
