"""Teach an agent to pick what a TrustSet would hold, where that is known: on the labelled images.

Shapes: L labelled images.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detal.agents import Episode, Policy, ReinforceConfig, RewardWeights, Seen, Trained, train
from detal.errors import DataError
from detal.features.expected_objects import expected_objects
from detal.reward import CategoryCurves, CurveTable, Novelty
from detal.strategies.agent_inputs import acquisition_scores
from detal.strategies.candidates import Labeled

__all__ = ["trust_policy"]


def trust_policy(
    labeled: Labeled,
    membership: NDArray[np.float64],
    *,
    class_names: tuple[str, ...],
    config: ReinforceConfig,
    rng: np.random.Generator,
    policy: Policy | None = None,
) -> Trained:
    """A policy that was trained on the labelled images to pick their TrustSet.

    In the spirit of BRAL-T (Cui et al., arXiv 2604.12303): membership needs labels, so a policy
    learns on the labelled set to tell members by what can be seen without labels, and is then used
    on the pool (``mgral`` with ``teacher: trustset``). It may pick half of the images; the reward
    is the mean membership of the picks, and warm start shows those of highest membership. The curve
    table that it sees counts nothing as labelled. A detector is surer of images it was trained on,
    so images that it was not trained on carry over better.

    Args:
        labeled: The images that are learned from.
        membership: (L,) 0..1, of the TrustSet; more than 0 for some.
        class_names: C names, in label order.
        config: Hyper-parameters.
        rng: Source of everything random.
        policy: One to go on with.

    Raises:
        DataError: If no labelled image is scored, or membership does not fit.
    """
    if labeled.detections is None:
        raise DataError("trust_policy needs labelled images and what the detector says about them")
    seen = labeled.detections()
    count = len(seen)
    values = np.asarray(membership, dtype=np.float64)
    if values.shape != (count,) or not ((values >= 0) & (values <= 1)).all() or not values.any():
        raise DataError(
            f"membership must be {count} numbers in [0, 1], one for each labelled image and some "
            f"> 0, got shape {values.shape}"
        )
    chunk = [(np.arange(count), seen)]
    table = CurveTable(
        CategoryCurves.prior(len(class_names)),
        counts=np.zeros(len(class_names), dtype=np.int64),
        objects=expected_objects(chunk, num_images=count, informativeness="entropy"),
        class_names=class_names,
        novelty=None
        if labeled.image_features is None
        else Novelty(labeled.image_features, None, rng),
    )
    members = np.argsort(-values, kind="stable")[: min(int((values > 0).sum()), (count + 1) // 2)]
    episode = Episode(
        table=table,
        seen=Seen(
            costs=np.ones(count),
            objects=expected_objects(chunk, num_images=count),
            num_classes=len(class_names),
            image_features=labeled.image_features,
            acquisition=acquisition_scores(seen),
        ),
        budget=float(len(members)),
        greedy=members,
        weights=RewardWeights(table=0.0, trust=1.0),
        trust=values,
    )
    return train(episode, config=config, rng=rng, policy=policy)
