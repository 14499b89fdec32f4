"""Folders of runs as `detal select` writes them, without scoring anything."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from detal.config import SelectConfig
from detal.manifests import staged_folder, write_manifest_files
from detal.runs.kept import FOLDER, describe, write_kept
from detal.strategies import Candidates
from detal.structures import Budget, Detections
from tests.features.factories import Box, detections_of
from tests.manifests.factories import batch_of, dataset_of, write_image

CLASSES = ("cat", "dog", "owl")
# Two pictures in three have boxes; the reserve is the last quarter.
BOXES: tuple[tuple[Box, ...], ...] = (((0, 0.9), (1, 0.5)), ((2, 0.8),), ())


def write_run(
    folder: Path,
    *,
    count: int = 6,
    reserve: int = 3,
    class_names: Sequence[str] = CLASSES,
    names: Sequence[str] | None = None,
    reasons: Sequence[str] | None = None,
    features: bool = True,
    budget: float | None = None,
    strategy: str = "entropy",
) -> Path:
    """A run of ``count`` images with ``reserve`` more to come; each image costs 1."""
    total = count + reserve
    files = list(names or (f"{i:04d}.png" for i in range(total)))
    paths = [write_image(folder.parent / "pool" / name, seed=i % 5) for i, name in enumerate(files)]
    dataset = dataset_of(paths, ids=[f"id{i:04d}" for i in range(total)])
    boxes = [list(BOXES[i % len(BOXES)]) for i in range(total)]
    batches = [
        batch_of(
            dataset,
            boxes[part],
            ids=[f"id{i:04d}" for i in range(total)[part]],
            class_names=class_names,
            reasons=reasons and reasons[part],
        )
        for part in (slice(0, count), slice(count, total))
    ]
    amount = Budget(amount=budget or float(count))
    batches = [
        replace(batch, selection=replace(batch.selection, budget=amount)) for batch in batches
    ]
    seen = detections_of(
        boxes,
        num_classes=len(class_names),
        size=64,
        features=np.random.default_rng(0).normal(size=(total, 4)) if features else None,
    )
    candidates = Candidates.from_detections(
        [f"id{i:04d}" for i in range(total)], seen, class_names=tuple(class_names)
    )
    kept = describe(
        candidates,
        batches[0].selection,
        batches[1].selection,
        detections=Detections.concat([seen.take(range(count)), seen.take(range(count, total))]),
    )
    config = SelectConfig.model_validate(
        {"pool": {"path": "/pool"}, "output": str(folder), "strategy": strategy}
        | {"budget": {"amount": amount.amount}}
    )
    with staged_folder(folder) as staged:
        write_manifest_files(staged, batches[0], run=_record(config, class_names, count, total))
        write_kept(staged, kept, batches[1])
    return folder


def as_older(folder: Path) -> Path:
    """The same run as a detal wrote it that kept nothing for reports."""
    shutil.rmtree(folder / FOLDER)
    return folder


def _record(
    config: SelectConfig, class_names: Sequence[str], count: int, total: int
) -> dict[str, object]:
    return {
        "config": config.model_dump(mode="json"),
        "strategy": {"name": config.strategy.name, "aggregation": "sum"},
        "detector": {"class_names": list(class_names), "fingerprint": "f00d"},
        "counts": {"candidates": total, "selected": count, "labeled": 0},
        "spent": float(count),
        "passed_over": {"near_duplicate": 2, "group": 0, "cost": 0},
        "versions": {"detal": "0.1.0"},
    }
