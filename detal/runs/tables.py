"""Build the table of category curves: train variants, measure them, fit.

    <output>/build.json             what the table is made of; another one is refused
    <output>/variants/25/           the variant trained on 25 % of the labelled images
        weights.pt                  its checkpoint
        early/20.pt                 those of its early steps, if asked for
        point.json                  what it was trained on and what it reached; written last
    <output>/curves.json            the table (`detal.reward.FittedCurves`)
    <output>/curves.png             its picture

A killed build goes on with the variants that have no point.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from detal.config import DatasetConfig, TablesConfig
from detal.datasets import Dataset
from detal.errors import ConfigError, DataError
from detal.evaluation import Predictions, batch_class_ap, build_match_table
from detal.reward import FittedCurves
from detal.runs.building import build_dataset, build_detector
from detal.runs.nested import nested_subsets
from detal.runs.pool import in_detector_order
from detal.runs.provenance import content_hashes, dataset_digest, versions
from detal.runs.scoring import ProgressCallback, StartProgress, open_store, score_into_store
from detal.runs.table_view import draw_table
from detal.runs.training import detector_config, train_detector
from detal.seeding import generator
from detal.structures import Annotations
from detal.training import EARLY_FOLDER

__all__ = ["build_table"]

log = logging.getLogger(__name__)

# What may change between a build and the one that goes on with it.
_FREE_KEYS = {"output", "device"}
# The metric counts boxes that a user would never see.
_SCORE_THRESHOLD = 0.001
_BATCH_SIZE = 16


@dataclass(frozen=True, eq=False)
class _Build:
    """One build.

    Attributes:
        config: What to build.
        labeled: All labelled images.
        truth: Their objects.
        reference: The images that are measured on.
        measured_on: Their objects.
        made_of: The part of ``build.json`` that names the data.
    """

    config: TablesConfig
    labeled: Dataset
    truth: Annotations
    reference: Dataset
    measured_on: Annotations
    made_of: dict[str, Any]

    @property
    def output(self) -> Path:
        return Path(self.config.output)


def build_table(config: TablesConfig, *, progress: StartProgress | None = None) -> FittedCurves:
    """Train and measure what is not done yet, fit the curves, write the table and its picture.

    Args:
        config: What to build.
        progress: Given a title, returns what is called with (done, total) variants.

    Raises:
        ConfigError: If the folder belongs to another build, or another run works in it.
        DataError: If a dataset cannot be used, or labelled images are in the reference set.
    """
    build = _open(config)
    report = (progress or (lambda title: lambda done, total: None))("training variants")
    build.output.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(build.output / ".lock", timeout=0):
            _claim(build)
            points = _points(build, report)
            table = _fit(build, points)
            table.save(build.output)
            draw_table(build.output)
    except Timeout:
        raise ConfigError(f"another run works in {build.output}: wait or stop it") from None
    return table


def _open(config: TablesConfig) -> _Build:
    (labeled, truth), (reference, measured_on) = (
        _annotated(config.labeled, "labelled"),
        _annotated(config.reference, "reference"),
    )
    unknown = sorted(set(reference.class_names) - set(labeled.class_names))
    if unknown:
        raise DataError(f"the labelled set must know the classes of the reference set: {unknown}")
    hashes, held_out = (content_hashes(d.images["path"].to_list()) for d in (labeled, reference))
    forbidden = set(held_out)
    shared = [i for i, h in zip(labeled.image_ids, hashes, strict=True) if h in forbidden]
    if shared:
        raise DataError(
            f"no labelled image may be in the reference set, {len(shared)} are: "
            f"{', '.join(map(str, shared[:5]))}"
        )
    made_of = {
        "labeled": {"images": len(labeled), "digest": dataset_digest(labeled, hashes)},
        "reference": {"images": len(reference), "digest": dataset_digest(reference, held_out)},
        "weights": _own_weights(config),
    }
    return _Build(config, labeled, truth, reference, measured_on, made_of)


def _annotated(config: DatasetConfig, name: str) -> tuple[Dataset, Annotations]:
    dataset = build_dataset(config)
    if dataset.annotations is None:
        raise DataError(f"the {name} set must have annotations, found none: {config.path}")
    return dataset, dataset.annotations


def _own_weights(config: TablesConfig) -> str | None:
    """A hash of the round's own checkpoint, if one is given."""
    weights = config.detector.weights
    if weights is None:
        return None
    if not Path(weights).is_file():
        raise ConfigError(f"detector.weights must be a file, found none: {weights}")
    if config.tables.steps not in (None, config.training.steps):
        log.warning(
            "the variants are trained for %d steps and the detector was for %d: the curves come "
            "out steeper than they are; leave out detector.weights to train all alike",
            config.tables.steps,
            config.training.steps,
        )
    return content_hashes([weights])[0]


def _claim(build: _Build) -> None:
    """Write what the table is made of, or check it against what is there."""
    config = build.config.model_dump(mode="json")
    mine = {**{k: v for k, v in config.items() if k not in _FREE_KEYS}, "data": build.made_of}
    path = build.output / "build.json"
    if path.exists():
        theirs = json.loads(path.read_text(encoding="utf-8"))
        changed = [key for key in mine if mine[key] != theirs.get(key)]
        if changed:
            raise ConfigError(
                f"{build.output} holds a table with another {', '.join(changed)}: choose another "
                "output"
            )
    elif [entry for entry in build.output.iterdir() if entry.name != ".lock"]:
        raise ConfigError(f"output must be a new folder or a table's own, got {build.output}")
    _write_json(path, mine)


def _points(build: _Build, report: ProgressCallback) -> list[dict[str, Any]]:
    """What each variant was trained on and reached, smallest first; measured as far as needed."""
    config = build.config
    subsets = nested_subsets(
        build.truth,
        config.tables.shares,
        num_classes=len(build.labeled.class_names),
        rng=generator(config.seed, "tables"),
    )
    everything = np.arange(len(build.labeled))
    variants = list(zip((*config.tables.shares, 1.0), (*subsets, everything), strict=True))
    points = []
    for number, (share, rows) in enumerate(variants):
        report(number, len(variants))
        folder = build.output / "variants" / f"{100 * share:g}"
        path = folder / "point.json"
        if not path.exists():
            _write_json(path, _measured_variant(build, share, rows, folder))
        points.append(json.loads(path.read_text(encoding="utf-8")))
    report(len(variants), len(variants))
    return points


def _measured_variant(
    build: _Build, share: float, rows: NDArray[np.int64], folder: Path
) -> dict[str, Any]:
    config = build.config
    folder.mkdir(parents=True, exist_ok=True)
    ids = build.labeled.image_ids[rows].tolist()
    point: dict[str, Any] = {"share": share, "images": len(rows), "image_ids": ids}
    if share == 1.0 and config.detector.weights is not None:
        weights = Path(config.detector.weights)
        point |= {"weights": str(weights)}
    else:
        steps = config.tables.steps or config.training.steps
        trained = train_detector(
            config.training.model_copy(update={"steps": steps}),
            build.labeled.take(rows),
            output=folder / "train",
            seed=config.seed,
            device=config.device,
            keep_steps=config.tables.early_steps,
        )
        weights = folder / "weights.pt"
        shutil.copyfile(trained.weights, weights)
        if config.tables.early_steps:
            early = trained.weights.parent / EARLY_FOLDER
            shutil.copytree(early, folder / EARLY_FOLDER, dirs_exist_ok=True)
        point |= {"steps": trained.steps, "seconds": round(trained.seconds, 1)}
    fingerprint, ap = _measure(build, weights, store=folder / "store")
    for scratch in ("train", "store"):
        shutil.rmtree(folder / scratch, ignore_errors=True)
    counts = build.truth.take(rows).class_counts(len(build.labeled.class_names))
    return {**point, "fingerprint": fingerprint, "counts": counts.tolist(), "ap": ap}


def _measure(build: _Build, weights: Path, *, store: Path) -> tuple[str, list[float | None]]:
    """Fingerprint of a detector and its (C,) AP on the reference set, None without ground truth."""
    config, labeled = build.config, build.labeled
    detector = build_detector(
        detector_config(
            config.training, config.detector, weights, score_threshold=_SCORE_THRESHOLD
        ),
        device=config.device,
        class_names=labeled.class_names,
        category_ids=labeled.category_ids,
        image_id_of={},
    )
    stored, _ = score_into_store(
        open_store(store, detector),
        detector,
        build.reference.images["path"].to_list(),
        shard_size=1024,
        batch_size=_BATCH_SIZE,
        threads=None,
        progress=lambda done, total: None,
    )
    readable = np.flatnonzero(stored.images["error"].is_null().to_numpy())
    table = build_match_table(
        in_detector_order(
            build.measured_on.take(readable), build.reference.class_names, detector.class_names
        ),
        Predictions.from_detections(stored.detections(readable)),
        num_classes=len(detector.class_names),
    )
    ap = batch_class_ap(table, np.ones((1, len(readable)), dtype=np.int64))[0].mean(axis=1)
    by_name = dict(zip(detector.class_names, ap.tolist(), strict=True))
    values = [by_name.get(name, float("nan")) for name in labeled.class_names]
    return detector.fingerprint, [None if np.isnan(value) else value for value in values]


def _fit(build: _Build, points: list[dict[str, Any]]) -> FittedCurves:
    config = build.config.model_dump(mode="json")
    names = build.labeled.class_names
    return FittedCurves.fit(
        names,
        counts=np.array([point["counts"] for point in points], dtype=np.float64),
        ap=np.array([point["ap"] for point in points], dtype=np.float64),
        labeled_counts=build.truth.class_counts(len(names)).astype(np.float64),
        made_of={
            "labeled": {**config["labeled"], **build.made_of["labeled"]},
            "reference": {**config["reference"], **build.made_of["reference"]},
            "training": config["training"],
            "seed": build.config.seed,
            "variants": [
                {k: v for k, v in point.items() if k not in ("counts", "ap", "image_ids")}
                for point in points
            ],
            "versions": versions(),
        },
    )


def _write_json(path: Path, value: Any) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)
