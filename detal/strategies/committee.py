"""Strategies that ask several detectors, or one whose last layer is thinned out at random."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from detal.errors import ConfigError
from detal.features import Aggregation, EmptyPolicy, entropy
from detal.features.pairing import Partners, absent_logits, mean_entropy_gap, partners
from detal.strategies.candidates import Candidates
from detal.strategies.fill import Order
from detal.strategies.passes import map_passes
from detal.strategies.scored import ToImage, check_choice, highest_first
from detal.strategies.strategy import MeasureSelector, Needs
from detal.structures import Budget, Detections

__all__ = ["bald", "committee"]

Disagreement = Literal["kl", "vote_entropy", "box"]

_EARLIER_ROUNDS = 3
_MEMBER = "member:"
_WORDS = {"kl": "divergence from the consensus", "vote_entropy": "vote entropy", "box": "box doubt"}


def committee(
    *,
    members: Sequence[str] = (),
    disagreement: Disagreement = "kl",
    min_iou: float = 0.5,
    aggregation: Aggregation = "sum",
    k: int = 5,
    empty: EmptyPolicy = "score",
    empty_score: float = 0.0,
) -> MeasureSelector:
    """Images about whose boxes several checkpoints disagree (query by committee).

    Seung et al. 1992; vote entropy after Dagan & Engelson 1995, divergence from the consensus after
    McCallum & Nigam 1998; with checkpoints of differently trained detectors it is a deep ensemble.
    The detector itself is one of the committee, and every member is asked about its boxes: its
    answer is its best-overlapping box, or "nothing there" (1 % in every class) below ``min_iou``.
    In a simulation the checkpoints of the three rounds before stand in for missing members; they
    differ by what they were trained on. A committee of one (the first round) cannot disagree: then
    the entropy of its boxes decides.

    Cost: one more forward pass over the whole pool, and one more decoding, per member. Failure
    mode: members trained alike share their errors; weak early checkpoints disagree about
    everything; what only other members see is not counted.

    Args:
        members: Further checkpoints of the same classes; paths are relative to the config.
        disagreement: ``kl``: mean divergence of the members' class scores from their mean, which is
            the mutual information of BALD; ``vote_entropy``: of the classes they name, "nothing"
            where a class has less than half; ``box``: one minus the mean overlap with the other
            members' boxes, times the score.
        min_iou: Overlap that makes two boxes speak of the same thing, in (0, 1].
        aggregation: From boxes to the image: ``sum``, ``mean``, ``max`` or ``top_k_mean``.
        k: Boxes in ``top_k_mean``.
        empty: Images without detections come ``first``, ``last`` or get ``empty_score``.
        empty_score: See ``empty``.
    """
    paths = tuple([members] if isinstance(members, str) else members)
    if len(set(paths)) != len(paths):
        raise ConfigError(f"members must be different checkpoints, got {list(paths)}")
    if not 0 < min_iou <= 1:
        raise ConfigError(f"min_iou must be in (0, 1], got {min_iou}")
    check_choice("disagreement", disagreement, get_args(Disagreement))
    to_image = ToImage(aggregation, k, empty, empty_score)

    def measure(detections: Detections, others: Sequence[Detections]) -> Tensor:
        if not others:
            return to_image(entropy(detections), detections)
        answers = [_Answers(detections, other, min_iou=min_iou) for other in others]
        return to_image(_MEASURES[disagreement](detections, answers), detections)

    def select(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
        if not len(candidates):
            return
        names = _members(candidates, len(paths))
        what = _WORDS[disagreement] if names else "entropy (a committee of one)"
        values = map_passes(candidates, names, measure)
        yield from highest_first(values, rng, name=f"{to_image.label} {what}")

    needs = Needs(members=paths, earlier_rounds=_EARLIER_ROUNDS)
    return MeasureSelector(select=select, needs=needs)


def _members(candidates: Candidates, count: int) -> list[str]:
    """The passes of the ``count`` named members, or all there are if none was named."""
    if count:
        return [f"{_MEMBER}{i}" for i in range(count)]
    found = [name for name in candidates.passes if name.startswith(_MEMBER)]
    return sorted(found, key=lambda name: int(name.removeprefix(_MEMBER)))


class _Answers:
    """What a member says about each of the detector's boxes."""

    def __init__(self, detections: Detections, other: Detections, *, min_iou: float) -> None:
        self.partners: Partners = partners(detections, other)
        row, iou = self.partners
        self.seen = (row >= 0) & ~(iou < min_iou)
        softmax = detections.score_kind == "softmax"
        self.logits = absent_logits(detections.logits, softmax=softmax)
        self.logits[self.seen] = other.logits[row[self.seen]].float()


def _divergence(detections: Detections, answers: Sequence[_Answers]) -> Tensor:
    passes = [detections.logits, *(answer.logits for answer in answers)]
    return mean_entropy_gap(passes, softmax=detections.score_kind == "softmax")


def _vote_entropy(detections: Detections, answers: Sequence[_Answers]) -> Tensor:
    """(N,) in [0, ln members]."""
    passes = [detections.logits.float(), *(answer.logits for answer in answers)]
    votes = torch.stack([_vote(logits, detections) for logits in passes])
    # Share of the members that vote as each of them does: its mean log is minus the entropy.
    share = (votes[:, None] == votes[None]).float().mean(dim=1)
    # NaN would vanish in a vote.
    broken = torch.stack([logits.isnan().any(dim=1) for logits in passes]).any(dim=0)
    return (-share.log().mean(dim=0)).masked_fill(broken, math.nan)


def _vote(logits: Tensor, detections: Detections) -> Tensor:
    """(N,) the most probable class, or C: nothing."""
    if detections.score_kind == "softmax":
        return logits.argmax(dim=1)
    best, label = logits.max(dim=1)
    return torch.where(best > 0, label, detections.num_classes)


def _box_doubt(detections: Detections, answers: Sequence[_Answers]) -> Tensor:
    overlap = torch.stack([answer.partners.iou for answer in answers]).mean(dim=0)
    return (1 - overlap).clamp_min(0) * detections.scores


_MEASURES = {"kl": _divergence, "vote_entropy": _vote_entropy, "box": _box_doubt}


def bald(
    *,
    aggregation: Aggregation = "sum",
    k: int = 5,
    empty: EmptyPolicy = "score",
    empty_score: float = 0.0,
) -> MeasureSelector:
    """Images whose boxes get other classes when the last layer's inputs are dropped at random.

    BALD (Houlsby et al. 2011; with MC dropout Gal et al., ICML 2017): the mutual information
    between a box's classes and the weights, here summed over YOLO's independent classes. YOLO has
    no dropout, so it is given some: a fifth of the inputs of the last classification convolution,
    ``detector.dropout_samples`` times, the same masks for all boxes. The network was not trained
    with it, and all but one layer stay as they are, so this is a narrow view of what the model does
    not know; a committee is the wider one. Boxes themselves stay.

    Cost: no further pass; the last layer runs ``dropout_samples`` times for the kept boxes. Failure
    mode: takes crowded images when summed; redundant batches (BatchBALD's joint choice is not
    attempted: use it in `staged` with a strategy that spreads).

    Args:
        aggregation: From boxes to the image: ``sum``, ``mean``, ``max`` or ``top_k_mean``.
        k: Boxes in ``top_k_mean``.
        empty: Images without detections come ``first``, ``last`` or get ``empty_score``.
        empty_score: See ``empty``.
    """
    to_image = ToImage(aggregation, k, empty, empty_score)

    def select(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
        values = candidates.map(lambda seen: to_image(_mutual_information(seen), seen))
        yield from highest_first(values, rng, name=f"{to_image.label} mutual information")

    needs = Needs(dropout=True)
    return MeasureSelector(select=select, box_measure=_mutual_information, needs=needs)


def _mutual_information(detections: Detections) -> Tensor:
    if detections.num_boxes and detections.mutual_information is None:
        raise ConfigError(
            "`bald` needs dropout, and this detector was run without: set "
            "detector.dropout_samples=20 (YOLO only), or use `committee` or `entropy`"
        )
    if detections.mutual_information is None:
        return detections.scores
    return detections.mutual_information
