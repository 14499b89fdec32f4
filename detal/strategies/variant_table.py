"""Greedy on the variant table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detal.errors import ConfigError, DataError
from detal.features.expected_objects import Informativeness, expected_objects
from detal.reward import GroupGains, VariantTable
from detal.strategies.calibrated import reference_calibration
from detal.strategies.candidates import Candidates
from detal.strategies.clustering import assign
from detal.strategies.fill import Order
from detal.strategies.strategy import MeasureSelector, Needs
from detal.strategies.table_greedy import greedy
from detal.structures import Budget

__all__ = [
    "candidate_amounts",
    "measured_groups",
    "nearest_groups",
    "unit_features",
    "variant_greedy",
    "variant_table",
]


def variant_greedy(
    *, informativeness: Informativeness = "entropy", table: str | None = None
) -> MeasureSelector:
    """Images of the groups on which a short training raised mAP most, per cost.

    The candidates are clustered by image feature; for each group a variant of the detector is
    trained for a few steps on the labelled images and the group's, with pseudo-labels, and measured
    on the reference set. A batch brings what its groups brought, with diminishing returns
    (`detal.reward.variant_table`); differences that controls show to be noise are taken off. In a
    group, images that are expected to teach more come first. In the spirit of MGRAL's look-up
    tables (Liang et al., arXiv 2310.08387), which are not public: the groups, the pseudo-labels and
    the composition are ours. Needs image features, a labelled and a reference set, and how the
    detector was trained. Cost: about fifteen short trainings a round, then one pass over the store
    and a lazy greedy with O(G C) per pick for G groups and C classes. Failure mode: pseudo-labels
    confirm what the detector believes, so what it does not find in a group counts for nothing; on a
    small reference set most differences are noise, all groups count alike, and what is left is
    `curve_greedy` without classes.

    Args:
        informativeness: See `curve_greedy`.
        table: Folder that ``detal tables build`` wrote for a pool, with this detector; otherwise
            the run itself measures the groups.
    """
    if informativeness not in ("entropy", "none"):
        raise ConfigError(f"informativeness must be entropy or none, got {informativeness!r}")
    read = None if table is None else GroupGains.load(Path(table))

    def select(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
        if len(candidates) == 0:
            return
        gains = measured_groups(read, candidates)
        made = variant_table(gains, candidates, informativeness=informativeness)
        yield from greedy(made, candidates, budget, rng)

    return MeasureSelector(select=select, needs=Needs(tables=("groups",) if read is None else ()))


def measured_groups(read: GroupGains | None, candidates: Candidates) -> GroupGains:
    """``read``, or else what the run measured.

    Raises:
        ConfigError: If there is neither.
    """
    gains = candidates.tables.groups if read is None else read
    if gains is None:
        raise ConfigError(
            "the variant table needs gains of groups of candidates: name a folder that `detal "
            "tables build` wrote for a pool as `table`, or use the curve table"
        )
    return gains


def variant_table(
    gains: GroupGains, candidates: Candidates, *, informativeness: Informativeness = "entropy"
) -> VariantTable:
    """The table for candidates, whether or not they are those that the groups were made of.

    Raises:
        ConfigError: If the detector gives no image features.
        DataError: If features or scores are not finite, or of another detector.
    """
    features = candidates.require_features("variant_greedy")
    known = candidates.labeled.image_features
    return VariantTable(
        gains,
        groups=nearest_groups(gains, features),
        amounts=candidate_amounts(candidates, informativeness),
        class_names=candidates.class_names,
        labeled=None
        if known is None
        else np.bincount(nearest_groups(gains, known), minlength=len(gains)),
    )


def nearest_groups(gains: GroupGains, features: NDArray[np.float32]) -> NDArray[np.int64]:
    """(n,) the group of each image by its features (n, D).

    Raises:
        DataError: If they are of another length than the table's.
    """
    if features.shape[1] != gains.centres.shape[1]:
        raise DataError(
            f"a table of groups must be of the same detector: its features have "
            f"{gains.centres.shape[1]} numbers, those of the candidates {features.shape[1]}"
        )
    return assign(unit_features(features), gains.centres)[0]


def candidate_amounts(
    candidates: Candidates, informativeness: Informativeness
) -> NDArray[np.float64]:
    """(P,) objects that each candidate is expected to teach, of any class.

    Raises:
        DataError: If one is not finite, naming the image.
    """
    objects = expected_objects(
        candidates.chunks(),
        num_images=len(candidates),
        informativeness=informativeness,
        calibrate=reference_calibration(candidates),
    )
    image = np.repeat(np.arange(len(objects)), np.diff(objects.offsets))
    amounts = np.bincount(image, objects.amounts, minlength=len(objects))
    candidates.refuse(~np.isfinite(amounts), "scores must be finite")
    return np.asarray(amounts, dtype=np.float64)


def unit_features(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features (n, D) of length 1; those of length 0 stay."""
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.where(norms > 0, norms, 1), dtype=np.float32)
