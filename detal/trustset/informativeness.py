"""How much each labelled object still has to teach: EL2N through its matched prediction.

Paul, Ganguli & Dziugaite ("Deep learning on a data diet", NeurIPS 2021) score an example by the
length of (predicted probabilities - one-hot label), averaged over independent trainings at an early
step. In detection the prediction is the one that is matched to the object. Shapes: B images, M
objects, N detections, C classes, J judges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detal.errors import DataError
from detal.features import Matches, match_detections
from detal.structures import Annotations, Detections

__all__ = ["Judge", "ObjectScores", "judging_weights", "matched_features", "score_objects"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Judge:
    """What one detector says about the labelled images.

    Attributes:
        detections: Of all B images, in the order of the annotations.
        saw: (B,) True where the detector was trained on the image; None: on all of them, or nobody
            knows.
    """

    detections: Detections
    saw: Flags | None = None

    def __post_init__(self) -> None:
        if self.saw is not None and len(self.saw) != len(self.detections):
            raise DataError(
                f"saw must have one entry for each of {len(self.detections)} images, got "
                f"{len(self.saw)}"
            )

    @property
    def honest(self) -> Flags:
        """(B,) True where the detector is known not to have been trained on the image."""
        return np.zeros(len(self.detections), dtype=bool) if self.saw is None else ~self.saw


@dataclass(frozen=True, eq=False)
class ObjectScores:
    """Means over the judges of each image; crowds have zeros.

    Attributes:
        class_part: (M,) length of (class probabilities - one-hot label), in [0, sqrt(2)] for
            softmax: 0 right and sure, 1 missed (or as good as), more where it is surely another.
        box_part: (M,) 1 - IoU with the matched prediction, 1 for a missed object, in [0, 1].
        found: (M,) share of the judges that found it, whatever class they took it for.
        honest: (M,) True where only judges that were not trained on the image had a say.
        background: (B,) length of the class probabilities, summed over the predictions that found
            no object: what the image teaches about the background.
    """

    class_part: Floats
    box_part: Floats
    found: Floats
    honest: Flags
    background: Floats

    @property
    def total(self) -> Floats:
        """(M,) class part and box part, summed: higher = more informative."""
        return self.class_part + self.box_part


def judging_weights(judges: Sequence[Judge]) -> Floats:
    """(J, B) how much each judge counts on each image; every column sums to 1.

    A detector that learned an image by heart finds nothing wrong with it. So where at least one
    judge was not trained on an image, only such judges count there; elsewhere all do.

    Raises:
        DataError: If there are no judges, or not of equally many images.
    """
    if len({len(judge.detections) for judge in judges}) != 1:
        raise DataError(
            f"objects need at least one judge, all of the same images, got judges of "
            f"{[len(judge.detections) for judge in judges]} images"
        )
    honest = np.stack([judge.honest for judge in judges])
    counted = np.where(honest.any(axis=0), honest, np.ones_like(honest)).astype(np.float64)
    return np.asarray(counted / counted.sum(axis=0))


def score_objects(
    judges: Sequence[Judge], annotations: Annotations, *, iou_threshold: float = 0.5
) -> ObjectScores:
    """Score every labelled object by how wrong the judges are about it.

    Predictions are matched to objects whatever their class (`detal.features.match_detections`).
    Probabilities are those of the classes without background, for sigmoid and softmax scores alike,
    and all zero for a missed object. Cost: one matching per judge.

    Args:
        judges: Detectors of the same classes; early checkpoints score best (see the module).
        annotations: Ground truth of the B images, in the detectors' label order.
        iou_threshold: Least overlap of prediction and object, in (0, 1].

    Raises:
        DataError: If there are no judges, or they or the annotations are of other images.
    """
    weights = judging_weights(judges)
    image, crowd = annotations.image_index, annotations.is_crowd
    class_part, box_part, found = (np.zeros(len(crowd)) for _ in range(3))
    background = np.zeros(len(annotations))
    for judge, weight in zip(judges, weights, strict=True):
        seen = judge.detections
        matches = match_detections(
            seen, annotations, iou_threshold=iou_threshold, class_aware=False
        )
        wrong, apart = _residuals(seen, matches, annotations)
        class_part += weight[image] * wrong
        box_part += weight[image] * apart
        found += weight[image] * (matches.detection >= 0).cpu().numpy()
        background += weight * _background(seen, matches)
    honest = np.asarray(np.stack([judge.honest for judge in judges]).any(axis=0))
    return ObjectScores(
        class_part=np.where(crowd, 0.0, class_part),
        box_part=np.where(crowd, 0.0, box_part),
        found=found,
        honest=honest[image],
        background=background,
    )


def matched_features(
    detections: Detections, annotations: Annotations, *, iou_threshold: float = 0.5
) -> NDArray[np.float32] | None:
    """(M, D) object feature of the detection that found each object, NaN where none did.

    None without object features. Matching as in `score_objects`.
    """
    features = detections.object_features
    if features is None:
        return None
    found = match_detections(
        detections, annotations, iou_threshold=iou_threshold, class_aware=False
    ).detection.cpu()
    result = torch.full((len(found), features.shape[1]), torch.nan)
    result[found >= 0] = features.float().cpu()[found[found >= 0]]
    return result.numpy()


def _residuals(
    seen: Detections, matches: Matches, annotations: Annotations
) -> tuple[Floats, Floats]:
    """Class part and box part of each object (M,) under one judge."""
    objects = (matches.detection >= 0).nonzero()[:, 0]
    rows = matches.detection[objects]
    error = seen.probs(rows).double()
    labels = torch.from_numpy(annotations.labels).to(error.device)[objects]
    error[torch.arange(len(rows), device=error.device), labels] -= 1
    wrong, apart = (torch.ones(len(annotations.labels), dtype=torch.float64) for _ in range(2))
    wrong[objects.cpu()] = error.norm(dim=1).cpu()
    apart[objects.cpu()] = 1 - matches.iou[rows].double().cpu()
    return wrong.numpy(), apart.numpy()


def _background(seen: Detections, matches: Matches) -> Floats:
    """(B,) summed length of the probabilities of what found nothing and lies on no crowd."""
    rows = (~matches.found & ~matches.ignored).nonzero()[:, 0]
    length = seen.probs(rows).double().norm(dim=1)
    total: Tensor = torch.zeros(len(seen), dtype=torch.float64, device=length.device)
    return np.asarray(total.index_add_(0, seen.image_index[rows], length).cpu().numpy())
