"""Category curves from variants trained on nested parts of the labelled set.

    <folder>/variants/25/           the variant trained on 25 % of the labelled images
        weights.pt                  its checkpoint
        early/20.pt                 those of its early steps, if asked for
        point.json                  what it was trained on and what it reached; written last
    <folder>/curves.json            the table (`detal.reward.FittedCurves`)
    <folder>/curves.png             its picture

A killed build goes on with the variants that have no point.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detal.files import read_own, write_json
from detal.reward import FittedCurves
from detal.runs.nested import nested_subsets
from detal.runs.scoring import ProgressCallback
from detal.runs.table_view import draw_curves
from detal.runs.training import train_detector
from detal.runs.variants import Variants, measure, remove_scratch
from detal.seeding import generator
from detal.training import EARLY_FOLDER

__all__ = ["build_curves", "whole_set_weights"]

log = logging.getLogger(__name__)

_NOT_IN_TABLE = ("counts", "ap", "image_ids")


def build_curves(
    variants: Variants, folder: Path, *, origin: Mapping[str, Any], report: ProgressCallback
) -> FittedCurves:
    """Train and measure what is not done yet, fit the curves, write the table and its picture.

    Args:
        variants: What to train; all of ``labeled`` is the largest part.
        folder: Where it goes.
        origin: See `Variants.origin`.
        report: Called with the variants that are done and all of them.
    """
    steps, own_steps = variants.tables.steps, variants.training.steps
    if variants.detector.weights is not None and steps not in (None, own_steps):
        log.warning(
            "the variants are trained for %d steps and the detector was for %d: the curves come "
            "out steeper than they are; leave out detector.weights to train all alike",
            steps,
            own_steps,
        )
    points = _points(variants, folder, report)
    table = FittedCurves.fit(
        variants.labeled.class_names,
        counts=np.array([point["counts"] for point in points], dtype=np.float64),
        ap=np.array([point["ap"] for point in points], dtype=np.float64),
        labeled_counts=variants.truth.class_counts(variants.num_classes).astype(np.float64),
        made_of={
            **variants.record(origin),
            "variants": [
                {k: v for k, v in point.items() if k not in _NOT_IN_TABLE} for point in points
            ],
        },
    )
    table.save(folder)
    draw_curves(folder)
    return table


def whole_set_weights(variants: Variants, folder: Path) -> Path:
    """The checkpoint of the round's own detector, once `build_curves` is through."""
    own = variants.detector.weights
    return folder / "variants" / "100" / "weights.pt" if own is None else Path(own)


def _points(variants: Variants, folder: Path, report: ProgressCallback) -> list[dict[str, Any]]:
    """What each variant was trained on and reached, smallest first; measured as far as needed."""
    shares = variants.tables.shares
    subsets = nested_subsets(
        variants.truth,
        shares,
        num_classes=variants.num_classes,
        rng=generator(variants.seed, "tables"),
    )
    parts = list(zip((*shares, 1.0), (*subsets, np.arange(len(variants.labeled))), strict=True))
    points = []
    for number, (share, rows) in enumerate(parts):
        report(number, len(parts))
        own = folder / "variants" / f"{100 * share:g}"
        path = own / "point.json"
        if not path.exists():
            write_json(path, _measured_variant(variants, share, rows, own))
        points.append(read_own(path))
    report(len(parts), len(parts))
    return points


def _measured_variant(
    variants: Variants, share: float, rows: NDArray[np.int64], folder: Path
) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    ids = variants.labeled.image_ids[rows].tolist()
    point: dict[str, Any] = {"share": share, "images": len(rows), "image_ids": ids}
    if share == 1.0 and variants.detector.weights is not None:
        weights = Path(variants.detector.weights)
        point |= {"weights": str(weights)}
    else:
        early_steps = variants.tables.early_steps
        steps = variants.tables.steps or variants.training.steps
        trained = train_detector(
            variants.training.model_copy(update={"steps": steps}),
            variants.labeled.take(rows),
            output=folder / "train",
            seed=variants.seed,
            device=variants.device,
            keep_steps=early_steps,
        )
        weights = folder / "weights.pt"
        shutil.copyfile(trained.weights, weights)
        if early_steps:
            early = trained.weights.parent / EARLY_FOLDER
            shutil.copytree(early, folder / EARLY_FOLDER, dirs_exist_ok=True)
        point |= {"steps": trained.steps, "seconds": round(trained.seconds, 1)}
    fingerprint, ap = measure(variants, weights, store=folder / "store")
    remove_scratch(folder)
    counts = variants.truth.take(rows).class_counts(variants.num_classes)
    return {**point, "fingerprint": fingerprint, "counts": counts.tolist(), "ap": ap}
