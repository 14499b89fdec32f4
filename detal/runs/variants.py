"""Variants of a round's detector: trained on other images, measured on the reference set."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detal.config import DetectorConfig, TrainingConfig, VariantsConfig
from detal.datasets import Dataset
from detal.errors import ConfigError, DataError
from detal.evaluation import Predictions, batch_class_ap, build_match_table
from detal.runs.building import build_detector
from detal.runs.pool import in_detector_order
from detal.runs.provenance import content_hashes, dataset_digest, versions
from detal.runs.scoring import open_store, score_into_store
from detal.runs.training import detector_config
from detal.structures import Annotations

__all__ = ["Variants", "measure", "remove_scratch"]

# The metric counts boxes that a user would never see.
_SCORE_THRESHOLD = 0.001
_BATCH_SIZE = 16


@dataclass(frozen=True, eq=False)
class Variants:
    """What the variants of one round have in common.

    Attributes:
        labeled: All labelled images.
        reference: The images that are measured on, none of them labelled.
        training: How the round's own detector was trained.
        tables: Which variants there are.
        detector: The round's own; without ``weights`` it is trained like a variant.
        seed: Of everything random.
        device: Where detectors train and score.
    """

    labeled: Dataset
    reference: Dataset
    training: TrainingConfig
    tables: VariantsConfig
    detector: DetectorConfig
    seed: int
    device: str

    @property
    def truth(self) -> Annotations:
        """Objects of the labelled images."""
        return _annotations(self.labeled, "labelled")

    @property
    def num_classes(self) -> int:
        """C, of the labelled set."""
        return len(self.labeled.class_names)

    def origin(self) -> dict[str, Any]:
        """What the data are, wherever their files lie: digests of sets and weights.

        Raises:
            ConfigError: If the round's own weights are no file.
            DataError: If a set has no annotations, the reference set knows a class that the
                labelled one does not, or holds a labelled image.
        """
        for dataset, name in ((self.labeled, "labelled"), (self.reference, "reference")):
            _annotations(dataset, name)
        unknown = sorted(set(self.reference.class_names) - set(self.labeled.class_names))
        if unknown:
            raise DataError(
                f"the labelled set must know the classes of the reference set: {unknown}"
            )
        hashes, held_out = (
            content_hashes(d.images["path"].to_list()) for d in (self.labeled, self.reference)
        )
        forbidden = set(held_out)
        ids = self.labeled.image_ids
        shared = [i for i, h in zip(ids, hashes, strict=True) if h in forbidden]
        if shared:
            raise DataError(
                f"no labelled image may be in the reference set, {len(shared)} are: "
                f"{', '.join(map(str, shared[:5]))}"
            )
        labeled, reference = self.labeled, self.reference
        return {
            "labeled": {"images": len(labeled), "digest": dataset_digest(labeled, hashes)},
            "reference": {"images": len(reference), "digest": dataset_digest(reference, held_out)},
            "weights": self._own_weights(),
        }

    def record(self, origin: Mapping[str, Any]) -> dict[str, Any]:
        """What a table says about where it comes from."""
        return {
            **origin,
            "training": self.training.model_dump(mode="json"),
            "seed": self.seed,
            "versions": versions(),
        }

    def _own_weights(self) -> str | None:
        """A hash of the round's own checkpoint, if one is given."""
        weights = self.detector.weights
        if weights is None:
            return None
        if not Path(weights).is_file():
            raise ConfigError(f"detector.weights must be a file, found none: {weights}")
        return content_hashes([weights])[0]


def _annotations(dataset: Dataset, name: str) -> Annotations:
    if dataset.annotations is None:
        raise DataError(f"the {name} set must have annotations, found none: {dataset.name}")
    return dataset.annotations


def measure(variants: Variants, weights: Path, *, store: Path) -> tuple[str, list[float | None]]:
    """Fingerprint of a detector and its (C,) AP on the reference set, None without ground truth.

    Args:
        variants: Names the reference set, and the classes.
        weights: Of the detector.
        store: Scratch folder for what it says.
    """
    labeled, reference = variants.labeled, variants.reference
    detector = build_detector(
        detector_config(
            variants.training, variants.detector, weights, score_threshold=_SCORE_THRESHOLD
        ),
        device=variants.device,
        class_names=labeled.class_names,
        category_ids=labeled.category_ids,
        image_id_of={},
    )
    stored, _ = score_into_store(
        open_store(store, detector),
        detector,
        reference.images["path"].to_list(),
        shard_size=1024,
        batch_size=_BATCH_SIZE,
        threads=None,
        progress=lambda done, total: None,
    )
    readable = np.flatnonzero(stored.images["error"].is_null().to_numpy())
    truth = _annotations(reference, "reference").take(readable)
    table = build_match_table(
        in_detector_order(truth, reference.class_names, detector.class_names),
        Predictions.from_detections(stored.detections(readable)),
        num_classes=len(detector.class_names),
    )
    ap = batch_class_ap(table, np.ones((1, len(readable)), dtype=np.int64))[0].mean(axis=1)
    by_name = dict(zip(detector.class_names, ap.tolist(), strict=True))
    values = [by_name.get(name, float("nan")) for name in labeled.class_names]
    return detector.fingerprint, [None if np.isnan(value) else value for value in values]


def remove_scratch(folder: Path) -> None:
    """Remove what a variant's training and measuring left beside its checkpoint."""
    for scratch in ("train", "store"):
        shutil.rmtree(folder / scratch, ignore_errors=True)
