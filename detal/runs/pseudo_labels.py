"""Candidates labelled by the detector itself.

Shapes: B images, N detections, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from detal.datasets import IMAGE_COLUMNS, Dataset
from detal.features import Calibration
from detal.runs.pool import in_detector_order
from detal.strategies import Candidates
from detal.strategies.calibrated import reference_calibration
from detal.structures import Annotations, Detections

__all__ = ["Teacher", "joined"]


@dataclass(frozen=True, eq=False)
class Teacher:
    """Turns the detections that are likely right into labels.

    Attributes:
        calibration: What scores are worth.
        min_score: Calibrated probability from which a detection is a label.
        detector_names: C classes, as the detector counts them.
        class_names: Classes of the labelled set; others are not labelled.
    """

    calibration: Calibration
    min_score: float
    detector_names: tuple[str, ...]
    class_names: tuple[str, ...]

    @staticmethod
    def of(candidates: Candidates, *, min_score: float, class_names: tuple[str, ...]) -> Teacher:
        """Calibrated on the reference set of the candidates, if there is one."""
        names = candidates.class_names
        calibration = reference_calibration(candidates) or Calibration.identity(len(names))
        return Teacher(calibration, min_score, names, class_names)

    def kept(self, seen: Detections) -> Tensor:
        """(N,) bool: the detections that are labels."""
        own = self.calibration(seen.probs()).gather(1, seen.labels[:, None])[:, 0]
        known = torch.tensor([name in self.class_names for name in self.detector_names])
        return (own >= self.min_score) & known.to(own.device)[seen.labels]

    def counts(self, seen: Detections) -> Tensor:
        """(B,) labels of each image."""
        zeros = torch.zeros(len(seen), dtype=torch.float64, device=seen.labels.device)
        return zeros.index_add_(0, seen.image_index, self.kept(seen).double())

    def label(self, seen: Detections) -> Annotations:
        """The labels of B images, in the order of ``class_names``."""
        cut = seen.offsets[1:-1].cpu().numpy()
        kept, boxes, labels = (
            np.split(values.cpu().numpy(), cut)[: len(seen)]
            for values in (self.kept(seen), seen.boxes, seen.labels)
        )
        found = Annotations.from_lists(
            [b[k] for b, k in zip(boxes, kept, strict=True)],
            [c[k] for c, k in zip(labels, kept, strict=True)],
        )
        return in_detector_order(found, self.detector_names, self.class_names)


def joined(
    labeled: Dataset, images: Dataset, rows: Sequence[int] | NDArray[np.int64], own: Annotations
) -> Dataset:
    """The labelled images, and the images ``rows`` (K,) of another set with annotations ``own``.

    Image ids are numbered anew: those of the two sets may clash.
    """
    columns = list(IMAGE_COLUMNS)
    table = pl.concat([labeled.images.select(columns), images.take(rows).images.select(columns)])
    ids = pl.Series("image_id", [str(i) for i in range(len(table))], dtype=pl.String)
    truth = [] if labeled.annotations is None else [labeled.annotations]
    return Dataset(
        name=f"{labeled.name} with pseudo-labels",
        images=table.with_columns(ids),
        class_names=labeled.class_names,
        category_ids=labeled.category_ids,
        annotations=Annotations.concat([*truth, own]),
    )
