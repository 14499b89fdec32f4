"""Labels that the judges contradict: a wrong class, a shifted box, a missing box.

As in confident learning (Northcutt, Jiang & Chuang, JAIR 2021) labels are doubted where confident
predictions, best out of sample, disagree with them; how boxes accuse each other is ours. Shapes: B
images, M objects, N detections, C classes, J judges, A accusations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import batched_nms, box_iou

from detal.features import Matches, fit_calibration, match_detections
from detal.features.matching import overlapping_pairs
from detal.structures import Annotations, Detections
from detal.trustset.informativeness import Judge, judging_weights, score_objects

__all__ = ["Suspicion", "SuspicionKind", "distrusted", "find_suspicious"]

SuspicionKind = Literal["wrong class", "shifted box", "missing box", "never learned"]
Floats = NDArray[np.float64]

_TOUCHES = 0.1
_TIGHT = 0.6
_SAME_PLACE = 0.5
_COVERED = 0.4
_NEVER_LEARNED_SCORE = 0.5
_FEWEST_TRAINED = 2


@dataclass(frozen=True)
class Suspicion:
    """One label to look at again.

    Attributes:
        kind: What seems to be wrong; ``never learned``: no judge finds the object, not even
            those (two or more) that were trained on it.
        image: 0..B-1.
        object: Row of the object, 0..M-1, or -1 for a missing box.
        box: xyxy in pixels that the judges propose (of a wrong class: the label's own).
        label: Class that the judges propose.
        score: In [0, 1], higher = more suspicious: mean over the judges of how confident they are,
            less how far they support the label.
        judges: How many judges said so, of those that had a say.
        out_of: How many had a say.
        honest: True where those were not trained on the image.
    """

    kind: SuspicionKind
    image: int
    object: int
    box: tuple[float, float, float, float]
    label: int
    score: float
    judges: int
    out_of: int
    honest: bool


@dataclass(frozen=True, eq=False)
class _Accusations:
    """What one judge says against labels; rows of the judge's detections.

    Attributes:
        row: (A,) detection.
        object: (A,) object accused, -1 for a missing box.
        label: (A,) class proposed.
        value: (A,) strength in (0, 1].
    """

    row: Tensor
    object: Tensor
    label: Tensor
    value: Tensor


def find_suspicious(
    judges: Sequence[Judge], annotations: Annotations, *, threshold: float = 0.7
) -> list[Suspicion]:
    """Suspicious labels, the most suspicious first.

    A judge's predictions that agree with no label (matched with their class) accuse:

    * *wrong class*: the prediction sits on an object (IoU >= 0.6) but says another class;
    * *shifted box*: it says the object's class, and overlaps it but badly (0.1 <= IoU < 0.6);
    * *missing box*: it overlaps no object of its class by 0.1 and none at all by 0.4.

    Strength is how often detections of that score and class agree with a label (`fit_calibration`
    on these very labels: a weak detector accuses weakly), less the same of the best prediction of
    the object's own class that fits its box. The score is the mean over the judges that count on
    the image (`judging_weights`: those that were not trained on it, where there are any), 0 for
    those that say nothing; so an accusation must be repeated. Where every judge was trained on the
    image, they count all the same, but a detector that learned a wrong label by heart defends it:
    expect to find less there. Objects that no judge finds though two or more were trained on them
    come last. Cost: two matchings and the pairs of overlapping boxes per judge.

    Args:
        judges: Detectors of the same classes.
        annotations: Ground truth of their images, in their label order.
        threshold: Least score, in (0, 1].
    """
    weights = judging_weights(judges)
    on_objects: list[_Accusations] = []
    missing: list[_Accusations] = []
    for judge in judges:
        accused, lacking = _accusations(judge.detections, annotations)
        on_objects.append(accused)
        missing.append(lacking)
    found = _against_objects(judges, on_objects, annotations, weights)
    found += _missing_boxes(judges, missing, weights, threshold)
    listed = [suspicion for suspicion in found if suspicion.score >= threshold]
    listed.sort(key=lambda s: (-s.score, s.image, s.object))
    return listed + _never_learned(judges, annotations, {s.object for s in listed})


def distrusted(suspicions: Sequence[Suspicion], *, num_objects: int) -> NDArray[np.bool_]:
    """(M,) True for the objects that are suspected of anything."""
    result = np.zeros(num_objects, dtype=bool)
    result[[s.object for s in suspicions if s.object >= 0]] = True
    return result


def _accusations(seen: Detections, annotations: Annotations) -> tuple[_Accusations, _Accusations]:
    """Against objects, and of missing boxes."""
    matches = match_detections(seen, annotations)
    confidence = _confidence(seen, matches)
    lonely = ~matches.found & ~matches.ignored
    rows, objects, iou = overlapping_pairs(seen, annotations, iou_threshold=_TOUCHES)
    labels = torch.from_numpy(annotations.labels).to(rows.device)
    crowd = torch.from_numpy(annotations.is_crowd).to(rows.device)[objects]
    same = seen.labels[rows] == labels[objects]
    defence = torch.zeros(len(labels), dtype=torch.float64, device=rows.device)
    fits = same & (iou >= _TIGHT) & ~crowd
    defence.scatter_reduce_(0, objects[fits], confidence[rows[fits]], reduce="amax")
    # A prediction that fits an object of its class well says nothing against that one's neighbours.
    placed = torch.zeros_like(lonely)
    placed[rows[same & (iou >= _TIGHT)]] = True
    against = (lonely & ~placed)[rows] & ~crowd & torch.where(same, iou < _TIGHT, iou >= _TIGHT)
    rows_against, accused = rows[against], objects[against]
    value = confidence[rows_against] - defence[accused]
    kept = value > 0
    covered = torch.zeros_like(lonely)
    covered[rows[same | (iou >= _COVERED) | crowd]] = True
    absent = (lonely & ~covered).nonzero()[:, 0]
    return (
        _Accusations(
            rows_against[kept], accused[kept], seen.labels[rows_against[kept]], value[kept]
        ),
        _Accusations(absent, torch.full_like(absent, -1), seen.labels[absent], confidence[absent]),
    )


def _confidence(seen: Detections, matches: Matches) -> Tensor:
    """(N,) float64 how often detections of such a score and class agree with a label."""
    calibrate = fit_calibration(seen, matches)
    own = seen.labels[:, None]
    return calibrate(seen.probs()).gather(1, own)[:, 0].double()


def _against_objects(
    judges: Sequence[Judge],
    accusations: Sequence[_Accusations],
    annotations: Annotations,
    weights: Floats,
) -> list[Suspicion]:
    """For each object its strongest accusation, if there is any."""
    num_classes = max(judge.detections.num_classes for judge in judges)
    image = annotations.image_index
    charge, value, who, box = _strongest_of_each(judges, accusations, num_classes)
    counted = weights[who, image[charge // num_classes]]
    unique, place = np.unique(charge, return_inverse=True)
    score = np.bincount(place, weights=value * counted, minlength=len(unique))
    objects = unique // num_classes
    # The strongest charge against each object comes last, so that it is the one that stays.
    order = np.argsort(score, kind="stable")
    best = dict(zip(objects[order].tolist(), order.tolist(), strict=True))
    result = []
    for obj, row in sorted(best.items()):
        start, stop = np.searchsorted(place, [row, row + 1])
        said = start + np.flatnonzero(counted[start:stop] > 0)
        label = int(unique[row] % num_classes)
        wrong = label != int(annotations.labels[obj])
        if len(said):
            proposed = annotations.boxes[obj] if wrong else box[said[value[said].argmax()]]
            result.append(
                Suspicion(
                    kind="wrong class" if wrong else "shifted box",
                    image=int(image[obj]),
                    object=obj,
                    box=_box(proposed),
                    label=label,
                    score=float(score[row]),
                    judges=len(said),
                    out_of=_counted(weights, int(image[obj])),
                    honest=_honest(judges, int(image[obj])),
                )
            )
    return result


def _strongest_of_each(
    judges: Sequence[Judge], accusations: Sequence[_Accusations], num_classes: int
) -> tuple[NDArray[np.int64], Floats, NDArray[np.int64], Floats]:
    """Charge (object x class), value, judge and box of the strongest of each judge, by charge."""
    pairs = list(zip(judges, accusations, strict=True))
    charge = np.concatenate(
        [(said.object * num_classes + said.label).cpu().numpy() for _, said in pairs]
    )
    value = np.concatenate([said.value.cpu().numpy() for _, said in pairs])
    box = np.concatenate(
        [judge.detections.boxes[said.row].double().cpu().numpy() for judge, said in pairs]
    )
    who = np.repeat(np.arange(len(pairs)), [len(said.row) for _, said in pairs])
    order = np.lexsort((-value, who, charge))
    first = np.ones(len(order), dtype=bool)
    first[1:] = (np.diff(charge[order]) != 0) | (np.diff(who[order]) != 0)
    kept = order[first]
    return charge[kept], value[kept], who[kept], box[kept]


def _missing_boxes(
    judges: Sequence[Judge],
    accusations: Sequence[_Accusations],
    weights: Floats,
    threshold: float,
) -> list[Suspicion]:
    """One suspicion for each place where judges see an object of one class and no label is."""
    pairs = [(judge.detections, said) for judge, said in zip(judges, accusations, strict=True)]
    box = torch.cat([seen.boxes[said.row].float() for seen, said in pairs])
    image = torch.cat([seen.image_index[said.row] for seen, said in pairs])
    label = torch.cat([said.label for _, said in pairs])
    value = torch.cat([said.value for _, said in pairs])
    who = np.repeat(np.arange(len(pairs)), [len(said.row) for _, said in pairs])
    group = image * max(seen.num_classes for seen, _ in pairs) + label
    by_group = group.argsort(stable=True)
    places = batched_nms(box, value.float(), group, _SAME_PLACE)
    result = []
    # A mean over judges is never above the strongest of them.
    for row in places[value[places] >= threshold].tolist():
        start, stop = torch.searchsorted(group[by_group], group[row] + torch.tensor([0, 1]))
        near = by_group[int(start) : int(stop)]
        near = near[box_iou(box[row][None], box[near])[0] >= _SAME_PLACE].cpu()
        strongest = np.zeros(len(judges))
        np.maximum.at(strongest, who[near.numpy()], value[near].cpu().numpy())
        counted = weights[:, int(image[row])]
        result.append(
            Suspicion(
                kind="missing box",
                image=int(image[row]),
                object=-1,
                box=_box(box[row].cpu().numpy()),
                label=int(label[row]),
                score=float(strongest @ counted),
                judges=int(((strongest > 0) & (counted > 0)).sum()),
                out_of=_counted(weights, int(image[row])),
                honest=_honest(judges, int(image[row])),
            )
        )
    return result


def _never_learned(
    judges: Sequence[Judge], annotations: Annotations, known: set[int]
) -> list[Suspicion]:
    """Objects that no judge finds, two or more of them trained on the image; by their row."""
    everyone = [Judge(judge.detections) for judge in judges]
    trained = np.stack([~judge.honest for judge in judges]).sum(axis=0) >= _FEWEST_TRAINED
    image = annotations.image_index
    missed = score_objects(everyone, annotations).found == 0
    rows = np.flatnonzero(missed & trained[image] & ~annotations.is_crowd)
    return [
        Suspicion(
            kind="never learned",
            image=int(image[row]),
            object=row,
            box=_box(annotations.boxes[row]),
            label=int(annotations.labels[row]),
            score=_NEVER_LEARNED_SCORE,
            judges=len(judges),
            out_of=len(judges),
            honest=False,
        )
        for row in rows.tolist()
        if row not in known
    ]


def _counted(weights: Floats, image: int) -> int:
    """How many judges had a say on an image."""
    return int((weights[:, image] > 0).sum())


def _honest(judges: Sequence[Judge], image: int) -> bool:
    """Whether those that had a say were not trained on the image."""
    return any(bool(judge.honest[image]) for judge in judges)


def _box(values: NDArray[np.floating]) -> tuple[float, float, float, float]:
    left, top, right, bottom = (float(value) for value in values)
    return left, top, right, bottom
