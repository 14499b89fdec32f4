"""Core-set over the objects that the detector sees, instead of over whole images.

Shapes: P candidates, N objects of all candidates, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detal.errors import ConfigError, DataError
from detal.strategies.candidates import Candidates
from detal.strategies.fill import Choice, Order
from detal.strategies.geometry import Metric, Space
from detal.structures import Detections

__all__ = ["farthest_objects_first"]

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _Objects:
    """Objects image by image.

    Attributes:
        features: (N, D).
        starts: (P + 1,) the objects of image p are rows ``starts[p]`` to ``starts[p + 1]``.
    """

    features: Floats
    starts: NDArray[np.int64]

    def of(self, image: int) -> Floats:
        return self.features[self.starts[image] : self.starts[image + 1]]

    def farthest(self, distance: Floats) -> Floats:
        """(P,) largest distance among the objects of each image; 0 for one without any."""
        result = np.zeros(len(self.starts) - 1, dtype=np.float32)
        filled = np.flatnonzero(np.diff(self.starts))
        if len(filled):
            result[filled] = np.maximum.reduceat(distance, self.starts[filled])
        return result


def farthest_objects_first(candidates: Candidates, metric: Metric, *, most: int) -> Order:
    """Images by the distance of their farthest object to the objects of what is labelled or picked.

    With nothing labelled it starts at the image whose farthest object is nearest to the mean.

    Args:
        candidates: The pool.
        metric: Between object features.
        most: Objects of each image that count: those of the highest scores.

    Raises:
        ConfigError: If the detector gives no object features.
        DataError: If one is not finite, naming the image.
    """
    objects = _collect(candidates, most=most)
    space = Space(objects.features, metric=metric)
    known = None
    if candidates.labeled.detections is not None:
        known, _ = _strongest(candidates.labeled.detections(), most=most)
    covered = known is not None and len(known) > 0
    empty = np.diff(objects.starts) == 0
    nearest = np.full(len(objects.features), np.inf, dtype=np.float32)
    key = np.zeros(len(candidates), dtype=np.float32)
    if known is not None and covered:
        nearest = space.distance_to_nearest(known)
        key = objects.farthest(nearest)
    elif len(nearest):
        key = -objects.farthest(space.distance_to_mean())
    key[empty] = np.finfo(np.float32).min
    for rank in range(1, len(candidates) + 1):
        index = int(key.argmax())
        seen = objects.of(index)
        taken = yield Choice(index, *_reason(key[index], rank, covered=covered, seen=len(seen)))
        key[index] = -np.inf
        if taken and len(seen):
            np.minimum(nearest, space.distance_to_nearest(seen), out=nearest)
            gone = np.isneginf(key)
            key = objects.farthest(nearest)
            key[empty] = np.finfo(np.float32).min
            key[gone] = -np.inf
            covered = True


def _reason(key: np.float32, rank: int, *, covered: bool, seen: int) -> tuple[float, str]:
    if not seen:
        return float("nan"), f"no object to cover, rank {rank}"
    if not covered:
        return float("nan"), "its objects are nearest to the mean, as nothing is labelled"
    what = f"an object {key:.3g} away from the nearest labelled or picked one"
    return float(key), f"{what}, rank {rank}"


def _collect(candidates: Candidates, *, most: int) -> _Objects:
    """Objects of all candidates, in their order, whatever the order of the chunks."""
    parts, images = [], []
    for index, detections in candidates.chunks():
        features, counts = _strongest(detections, most=most)
        bad = ~np.isfinite(features).all(axis=1)
        owner = np.repeat(index, counts)
        if bad.any():
            image = candidates.image_ids[owner[int(bad.argmax())]]
            raise DataError(f"object features must be finite (image {image!r})")
        parts.append(features)
        images.append(owner)
    image = np.concatenate(images)
    order = image.argsort(kind="stable")
    starts = np.searchsorted(image[order], np.arange(len(candidates) + 1))
    return _Objects(features=np.concatenate(parts)[order], starts=starts)


def _strongest(detections: Detections, *, most: int) -> tuple[Floats, NDArray[np.int64]]:
    """Features of the first ``most`` objects of each image (scores descend), and how many."""
    if detections.object_features is None:
        raise ConfigError(
            "core_set with level: objects needs object features, and this detector gives none: "
            "use a YOLO or torchvision detector with weights, or level: images"
        )
    counts = detections.counts.cpu().numpy()
    rank = np.arange(detections.num_boxes) - np.repeat(
        detections.offsets[:-1].cpu().numpy(), counts
    )
    features = detections.object_features.float().cpu().numpy()[rank < most]
    return features, np.minimum(counts, most)
