"""Last-layer gradients of boxes and images as factors, with what k-means++ asks of them.

Shapes: n images and N boxes that take part, C classes (and background), D features, m boxes of the
images that become centres.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detal.features.embeddings import class_gradients, require_object_features
from detal.structures import Detections

__all__ = ["Gradients", "Pooling", "Rows", "Sketch"]

Pooling = Literal["sum", "mean"]
Floats = NDArray[np.float32]
_WIDTH = 256
_BLOCK = 8192
_GRAM = 512
_ROUNDING = 1e-6


class Rows(NamedTuple):
    """Gradients of N boxes as factors: row j stands for ``residual[j] x feature[j]``.

    Attributes:
        residual: (N, C) float32.
        feature: (N, D) float32.
        labels: (N,) int64.
        scores: (N,) float32.
    """

    residual: Floats
    feature: Floats
    labels: NDArray[np.int64]
    scores: Floats

    def take(self, rows: slice | NDArray[Any]) -> Rows:
        """Some of the boxes."""
        return Rows(self.residual[rows], self.feature[rows], self.labels[rows], self.scores[rows])

    @staticmethod
    def concat(parts: Sequence[Rows]) -> Rows:
        """The boxes of all parts, in order; at least one part."""
        return Rows(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def inner(self, other: Rows) -> Floats:
        """(N, m) inner products with the m gradients ``other``."""
        return np.asarray((self.residual @ other.residual.T) * (self.feature @ other.feature.T))

    def squared_norms(self) -> NDArray[np.float64]:
        """(N,)."""
        residual, feature = (
            np.einsum("nd,nd->n", values, values, dtype=np.float64)
            for values in (self.residual, self.feature)
        )
        return np.asarray(residual * feature)


class Sketch:
    """From detections to factors of at most 256 columns.

    Wider factors are count sketches: columns 256 apart are added up, each with a random sign, which
    keeps inner products on average and takes one pass over the values.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._signs: dict[str, Floats] = {}

    def of(self, detections: Detections, pooling: Pooling | None) -> Rows:
        """Factors of each box; with ``mean`` divided by the number of boxes in its image."""
        residual = class_gradients(detections).cpu().numpy()
        feature = require_object_features(detections, purpose="badge").cpu().numpy()
        if pooling == "mean":
            counts = detections.counts.cpu().numpy()
            residual = residual / counts.repeat(counts)[:, None].astype(np.float32)
        return Rows(
            self._narrow(residual, "residual"),
            self._narrow(feature, "feature"),
            detections.labels.cpu().numpy(),
            detections.scores.float().cpu().numpy(),
        )

    def _narrow(self, values: Floats, which: str) -> Floats:
        width = values.shape[1]
        if width <= _WIDTH:
            return values
        if which not in self._signs:
            self._signs[which] = self._rng.choice(np.array([-1, 1], dtype=np.float32), width)
        result = np.zeros((len(values), _WIDTH), dtype=np.float32)
        for start in range(0, width, _WIDTH):
            columns = slice(start, min(start + _WIDTH, width))
            result[:, : columns.stop - start] += values[:, columns] * self._signs[which][columns]
        return result


class Gradients:
    """What is drawn from: the gradient of each box, or of each image as the sum of its boxes'.

    Attributes:
        rows: N boxes, by image.
        image: (N,) the image of each box, 0..n-1, ascending.
        item_image: The image of each item that may be drawn.
        nearest: Squared distance of each item to its nearest centre, 0 for items of images that
            were offered; None without centres.
    """

    def __init__(
        self, rows: Rows, image: NDArray[np.int64], sketch: Sketch, pooling: Pooling | None
    ) -> None:
        self.rows = rows
        self.image = image
        self._sketch = sketch
        self._pooling = pooling
        self._offsets = np.searchsorted(image, np.arange(int(image[-1]) + 2))
        self.item_image = image if pooling is None else np.arange(int(image[-1]) + 1)
        self.squared = rows.squared_norms() if pooling is None else _pooled_norms(rows, image)
        self.nearest: NDArray[np.float64] | None = None
        self._open = np.ones(len(self.squared), dtype=bool)

    @property
    def pooled(self) -> bool:
        """Whether images are drawn, not boxes."""
        return self._pooling is not None

    def boxes_of(self, image: int) -> slice:
        """The rows of one image."""
        return slice(int(self._offsets[image]), int(self._offsets[image + 1]))

    def draw(self, rng: np.random.Generator) -> int:
        """An item: the largest gradient without centres, else by squared distance; -1 if none."""
        if self.nearest is None:
            mass = np.where(self._open, self.squared, 0.0)
            return int(mass.argmax()) if mass.max() > 0 else -1
        cumulated = np.where(self._open, self.nearest, 0.0).cumsum()
        if cumulated[-1] <= 0:
            return -1
        draw = int(np.searchsorted(cumulated, rng.random() * cumulated[-1], side="right"))
        return min(draw, int(np.searchsorted(cumulated, cumulated[-1])))

    def close(self, image: int, *, taken: bool) -> None:
        """Draw nothing of ``image`` any more; if it was taken, it becomes a centre."""
        self._open[self.item_image == image] = False
        if taken:
            self._cover(self.rows.take(self.boxes_of(image)))

    def cover_all(self, detections: Detections) -> None:
        """Make the images with boxes of ``detections`` centres."""
        rows = self._sketch.of(detections, self._pooling)
        offsets = detections.offsets.tolist()
        if self._pooling is None:
            offsets = [*range(0, offsets[-1], _GRAM), offsets[-1]]
        for start, stop in itertools.pairwise(offsets):
            if stop > start:
                self._cover(rows.take(slice(start, stop)))

    def _cover(self, centre: Rows) -> None:
        """Add as centres the gradients ``centre``, or their sum where images are drawn."""
        distance = self._to_nearest(centre) if self._pooling is None else self._to_sum(centre)
        self.nearest = distance if self.nearest is None else np.minimum(self.nearest, distance)

    def _to_nearest(self, centre: Rows) -> NDArray[np.float64]:
        norms = centre.squared_norms()
        result = np.empty(len(self.squared))
        for block in self._blocks():
            both = self.squared[block, None] + norms
            distance = both - 2 * self.rows.take(block).inner(centre).astype(np.float64)
            distance[distance <= _ROUNDING * both] = 0.0
            result[block] = distance.min(axis=1)
        return result

    def _to_sum(self, centre: Rows) -> NDArray[np.float64]:
        inner = np.concatenate(
            [self.rows.take(block).inner(centre).sum(axis=1) for block in self._blocks()]
        )
        cross = np.bincount(self.image, inner, minlength=len(self.squared))
        both = self.squared + float(centre.inner(centre).sum(dtype=np.float64))
        distance = both - 2 * cross
        return np.where(distance <= _ROUNDING * both, 0.0, distance)

    def _blocks(self) -> Iterator[slice]:
        for start in range(0, len(self.image), _BLOCK):
            yield slice(start, min(start + _BLOCK, len(self.image)))


def _pooled_norms(rows: Rows, image: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n,) squared norm of the summed gradients of each image: the inner products within it."""
    sums = np.empty(len(image))
    start = 0
    while start < len(image):
        # Whole images, about ``_GRAM`` boxes of them.
        last = image[min(start + _GRAM, len(image)) - 1]
        stop = int(np.searchsorted(image, last, side="right"))
        part, own = rows.take(slice(start, stop)), image[start:stop]
        sums[start:stop] = (part.inner(part) * (own[:, None] == own)).sum(axis=1)
        start = stop
    return np.asarray(np.bincount(image, sums), dtype=np.float64)
