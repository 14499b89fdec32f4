"""What all arms of a study share: its datasets, and how it trains, scores and measures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detal.config import SimulateConfig
from detal.datasets import Dataset
from detal.detectors import Detector
from detal.errors import DataError
from detal.evaluation import CocoMetrics, Predictions, coco_metrics, rare_classes
from detal.loop.duplicates import thumbnails
from detal.runs.building import build_dataset, build_detector
from detal.runs.scoring import Scorer
from detal.runs.training import detector_config, train_detector
from detal.structures import Annotations
from detal.training import TrainResult

__all__ = ["Study", "detector_of", "measure", "open_study", "scorer_of", "train_on", "truth_of"]

# The metric counts boxes that a user would never see; COCO keeps 100 an image whatever the score.
_TEST_SCORE_THRESHOLD = 0.001


@dataclass(frozen=True, eq=False)
class Study:
    """What all arms of a study share.

    Attributes:
        config: The study.
        pool: Labelled images that play pool and oracle.
        test: Labelled images for the reported metrics.
        reference: Labelled images that arms may measure on, if there are any.
        rare: (C / 3,) classes with the fewest labels in the pool.
        thumbs: (P, T) unit vectors, for the near-duplicate rate.
    """

    config: SimulateConfig
    pool: Dataset
    test: Dataset
    reference: Dataset | None
    rare: NDArray[np.int64]
    thumbs: NDArray[np.float32]

    @property
    def truth(self) -> Annotations:
        """Ground truth of the pool."""
        return truth_of(self.pool)

    @property
    def boxes_per_image(self) -> NDArray[np.int64]:
        """(P,) true objects of each pool image."""
        return np.diff(self.truth.offsets)


def open_study(config: SimulateConfig) -> Study:
    """Read the datasets of a study.

    Raises:
        DataError: If a set has no annotations, or their classes differ.
    """
    pool, test = build_dataset(config.pool), build_dataset(config.test)
    _check_measured_on(test, pool, "test")
    reference = None if config.reference is None else build_dataset(config.reference)
    if reference is not None:
        _check_measured_on(reference, pool, "reference")
    counts = truth_of(pool).class_counts(len(pool.class_names))
    return Study(
        config=config,
        pool=pool,
        test=test,
        reference=reference,
        rare=rare_classes(counts),
        thumbs=thumbnails(pool.images["path"].to_list()),
    )


def _check_measured_on(dataset: Dataset, pool: Dataset, name: str) -> None:
    if pool.class_names != dataset.class_names:
        raise DataError(
            f"pool and {name} set must have the same classes in the same order, got "
            f"{list(pool.class_names)} and {list(dataset.class_names)}"
        )
    truth_of(dataset)


def truth_of(dataset: Dataset) -> Annotations:
    """Its annotations.

    Raises:
        DataError: If it has none.
    """
    if dataset.annotations is None:
        raise DataError(f"a simulation needs annotations, {dataset.name} has none")
    return dataset.annotations


def train_on(study: Study, dataset: Dataset, *, seed: int, output: Path) -> TrainResult:
    """Train on what is labelled; the seed depends on the arm's alone: same start, same draws."""
    config = study.config
    return train_detector(config.training, dataset, output=output, seed=seed, device=config.device)


def measure(study: Study, weights: Path, dataset: Dataset, *, store: Path) -> CocoMetrics:
    """COCO metrics of a round's detector on an annotated dataset."""
    detector = detector_of(study, weights, score_threshold=_TEST_SCORE_THRESHOLD)
    scored, _ = scorer_of(study, detector, store).score(dataset, title="")
    return coco_metrics(
        truth_of(dataset),
        Predictions.from_detections(scored.stored.detections(np.arange(len(dataset)))),
        class_names=dataset.class_names,
    )


def detector_of(study: Study, weights: Path, *, score_threshold: float | None) -> Detector:
    """The detector of a round; ``score_threshold`` in place of the study's, unless it is None."""
    config = study.config
    return build_detector(
        detector_config(config.training, config.detector, weights, score_threshold=score_threshold),
        device=config.device,
        class_names=study.pool.class_names,
        category_ids=study.pool.category_ids,
        image_id_of={},
    )


def scorer_of(study: Study, detector: Detector, root: Path) -> Scorer:
    """What scores datasets with it, on one thread."""
    return Scorer(
        detector=detector,
        root=root,
        shard_size=1024,
        batch_size=16,
        threads=1,
        start_progress=lambda title: lambda done, total: None,
        load_member=lambda weights: detector_of(study, Path(weights), score_threshold=None),
    )
