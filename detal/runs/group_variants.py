"""Gains of groups of candidates from short semi-supervised trainings.

    <folder>/groups/groups.json         which images each variant is trained on; written first
    <folder>/groups/control-0/          the round's detector, trained on with the labels alone
        point.json                      what it reached; written last
    <folder>/groups/group-0/            the same with the images of a group, and pseudo-labels
        point.json
    <folder>/groups.json                the table (`detal.reward.GroupGains`)
    <folder>/groups.png                 its picture

A killed build goes on with the variants that have no point.

MGRAL trains on candidates with a consistency loss (CSD: predictions for an image and its mirror
image must agree). Here the detector's own confident boxes are labels instead: that works with every
trainer and detector, as all it needs is a dataset, and groups are told apart by what is in them,
not only by how steady the detector is about it. In CSD's own experiments most of the gain may have
come with the loader and not with the loss; what going on to train brings by itself, and its noise,
the controls show here. Pseudo-labels confirm the detector's mistakes: they must be more often right
than wrong, after calibration on the reference set, and an image without any is left out, for it
need not be empty.

Shapes: P candidates, G groups.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detal.datasets import Dataset
from detal.errors import ConfigError
from detal.files import read_own, write_json
from detal.reward import GroupGains
from detal.runs.pseudo_labels import Teacher, joined
from detal.runs.scoring import ProgressCallback
from detal.runs.table_view import draw_groups
from detal.runs.training import train_detector
from detal.runs.variants import Variants, measure, remove_scratch
from detal.seeding import generator
from detal.strategies import Candidates
from detal.strategies.clustering import assign, fit_centres
from detal.strategies.variant_table import unit_features
from detal.structures import Budget

__all__ = ["GroupPool", "build_groups", "group_candidates", "images_of"]

log = logging.getLogger(__name__)

Integers = NDArray[np.int64]

_FEWEST_GROUPS, _MOST_GROUPS = 4, 12
_PART_OF_THE_STEPS = 4


@dataclass(frozen=True, eq=False)
class GroupPool:
    """The candidates that groups are made of.

    Attributes:
        candidates: P images, as the round's detector sees them.
        images: The same images, in that order, with their files.
        batch_images: Images that a batch has, about.
    """

    candidates: Candidates
    images: Dataset
    batch_images: int

    def digest(self) -> str:
        """What the candidates are: their ids, and what the detector sees in them.

        Raises:
            ConfigError: If the detector gives no image features.
        """
        features = self.candidates.require_features("a table of candidate groups")
        content = hashlib.blake2b("\x1f".join(self.candidates.image_ids).encode(), digest_size=16)
        content.update(np.ascontiguousarray(features).data)
        return content.hexdigest()


def images_of(budget: Budget, candidates: Candidates) -> int:
    """Images that a budget buys of candidates on average, at least 1."""
    costs = budget.costs(candidates.expected_boxes)
    return max(round(budget.amount / max(float(costs.mean()), 1e-9)), 1) if len(costs) else 1


def build_groups(
    variants: Variants,
    pool: GroupPool,
    folder: Path,
    *,
    origin: Mapping[str, Any],
    report: ProgressCallback,
) -> GroupGains:
    """Train and measure what is not done yet, write the table and its picture.

    Args:
        variants: What to train; ``detector.weights`` are the round's own.
        pool: What to group.
        folder: Where it goes.
        origin: See `Variants.origin`.
        report: Called with the variants that are done and all of them.

    Raises:
        ConfigError: If the detector gives no image features, or the folder's groups are of other
            candidates.
    """
    made, seen = folder / "groups" / "groups.json", pool.digest()
    if not made.exists():
        write_json(made, {**group_candidates(variants, pool), "candidates": seen})
    groups = read_own(made)
    if groups["candidates"] != seen:
        raise ConfigError(f"{made} holds groups of other candidates: choose another output")
    points = _points(variants, pool, groups, folder / "groups", report)
    controls = variants.tables.groups.controls
    table = GroupGains(
        class_names=variants.labeled.class_names,
        centres=np.array(groups["centres"], dtype=np.float32),
        images=np.array(groups["images"], dtype=np.int64),
        trained=np.array([len(ids) for ids in groups["image_ids"]], dtype=np.int64),
        pseudo_boxes=np.array([point["pseudo_boxes"] for point in points[controls:]], np.int64),
        labeled=np.array(groups["labeled"], dtype=np.int64),
        group_ap=np.array([point["ap"] for point in points[controls:]], dtype=np.float64),
        control_ap=np.array([point["ap"] for point in points[:controls]], dtype=np.float64),
        made_of={
            **variants.record(origin),
            "candidates": {"images": len(pool.candidates), "digest": seen},
            "groups": variants.tables.groups.model_dump(mode="json"),
            "steps": _steps(variants),
            "seconds": [point["seconds"] for point in points],
        },
    )
    table.save(folder)
    draw_groups(folder)
    return table


def _steps(variants: Variants) -> int:
    asked = variants.tables.groups.steps
    return asked or max(variants.training.steps // _PART_OF_THE_STEPS, 1)


def group_candidates(variants: Variants, pool: GroupPool) -> dict[str, Any]:
    """Centres, sizes and the images that each variant is trained on, as JSON holds it."""
    settings, candidates = variants.tables.groups, pool.candidates
    features = unit_features(candidates.require_features("a table of candidate groups"))
    usable = candidates.map(_teacher(variants, pool).counts) > 0
    if not usable.any():
        log.warning(
            "no detection is sure enough to be a pseudo-label, so no group can be told from "
            "another: lower tables.groups.min_score (%g)",
            settings.min_score,
        )
    rng = generator(variants.seed, "groups")
    most = settings.images or pool.batch_images
    number = settings.number or int(
        np.clip(len(candidates) // max(most, 1), _FEWEST_GROUPS, _MOST_GROUPS)
    )
    centres = fit_centres(features, k=number, rng=rng)
    nearest, _ = assign(features, centres)
    kept = np.unique(nearest)
    centres, group = centres[kept], np.searchsorted(kept, nearest)
    chosen = []
    for label in range(len(centres)):
        rows = rng.permutation(np.flatnonzero((group == label) & usable))[:most]
        chosen.append(candidates.image_ids[np.sort(rows)].tolist())
    known = candidates.labeled.image_features
    of_labeled = np.zeros(0, int) if known is None else assign(unit_features(known), centres)[0]
    return {
        "centres": centres.astype(np.float64).tolist(),
        "images": np.bincount(group, minlength=len(centres)).tolist(),
        "labeled": np.bincount(of_labeled, minlength=len(centres)).tolist(),
        "image_ids": chosen,
    }


def _points(
    variants: Variants,
    pool: GroupPool,
    groups: dict[str, Any],
    folder: Path,
    report: ProgressCallback,
) -> list[dict[str, Any]]:
    """What each control and each variant reached; measured as far as needed."""
    teacher = _teacher(variants, pool)
    number = variants.tables.groups.controls
    units: list[tuple[str, list[str], int]] = [
        *((f"control-{i}", [], variants.seed + i) for i in range(number)),
        *((f"group-{i}", ids, variants.seed) for i, ids in enumerate(groups["image_ids"])),
    ]
    points = []
    for i, (name, ids, seed) in enumerate(units):
        report(i, len(units))
        path = folder / name / "point.json"
        if not path.exists():
            rows = pool.images.index_of(ids)
            own = teacher.label(pool.candidates.take(rows))
            point: dict[str, Any] = {"ap": [None] * variants.num_classes, "seconds": 0.0}
            if ids or i < number:
                dataset = joined(variants.labeled, pool.images, rows, own)
                point = _measured(variants, dataset, path.parent, seed=seed)
            write_json(path, {**point, "pseudo_boxes": len(own.boxes), "image_ids": ids})
        points.append(read_own(path))
    report(len(units), len(units))
    return points


def _teacher(variants: Variants, pool: GroupPool) -> Teacher:
    return Teacher.of(
        pool.candidates,
        min_score=variants.tables.groups.min_score,
        class_names=variants.labeled.class_names,
    )


def _measured(variants: Variants, dataset: Dataset, folder: Path, *, seed: int) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    trained = train_detector(
        variants.training.model_copy(update={"steps": _steps(variants)}),
        dataset,
        output=folder / "train",
        seed=seed,
        device=variants.device,
        start=Path(str(variants.detector.weights)),
    )
    fingerprint, ap = measure(variants, trained.weights, store=folder / "store")
    remove_scratch(folder)
    return {"ap": ap, "seconds": round(trained.seconds, 1), "fingerprint": fingerprint}
