"""The detectors that judge labelled objects: one's own, a table's variants, or those of folds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detal.config import DetectorConfig, TrainingConfig, TrustSetConfig
from detal.datasets import Dataset
from detal.detectors import Detector
from detal.errors import ConfigError
from detal.files import read_own
from detal.runs.pool import ScoredDataset
from detal.runs.scoring import StartProgress, open_store, score_into_store
from detal.runs.training import detector_config, train_detector
from detal.seeding import generator
from detal.training import EARLY_FOLDER
from detal.trustset import Judge

__all__ = ["Panel", "find_panel", "score_with"]

Load = Callable[[DetectorConfig], Detector]


@dataclass(frozen=True, eq=False)
class Panel:
    """Who judges.

    Attributes:
        scoring: Judges of informativeness: early checkpoints where there are any.
        doubting: Judges of labels: the last checkpoints.
        source: Where they come from, in words.
    """

    scoring: tuple[Judge, ...]
    doubting: tuple[Judge, ...]
    source: str


@dataclass(frozen=True)
class _Trained:
    """A checkpoint and the images it was trained on."""

    weights: Path
    saw: NDArray[np.bool_]
    early: tuple[Path, ...]


def score_with(
    detector: Detector,
    dataset: Dataset,
    config: TrustSetConfig,
    progress: StartProgress,
    title: str,
) -> ScoredDataset:
    """What a detector says about a dataset, from the store where it is known."""
    store = Path(config.store) if config.store else Path(config.output).parent / "detal_store"
    stored, _ = score_into_store(
        open_store(store, detector),
        detector,
        dataset.images["path"].to_list(),
        shard_size=1024,
        batch_size=config.batch_size,
        threads=config.threads,
        progress=progress(title),
    )
    return ScoredDataset(dataset=dataset, stored=stored)


def find_panel(
    config: TrustSetConfig, own: Judge, labeled: Dataset, load: Load, progress: StartProgress
) -> Panel:
    """The judges that the config names, or the detector itself.

    Args:
        config: The run.
        own: What the round's own detector says about the readable labelled images.
        labeled: These images.
        load: Loads a detector of the same classes.
        progress: See `StartProgress`.

    Raises:
        ConfigError: If the table holds no variants, or they have other classes.
    """
    trained: list[_Trained] = []
    training = config.training
    if config.table is not None:
        trained, training = _variants(Path(config.table), labeled)
    source = "" if config.table is None else f"{len(trained)} variants of {config.table}"
    if config.folds and config.training is not None:
        trained += _folds(config, config.training, labeled, progress)
        source += f"{' and ' if source else ''}{config.folds} folds"
    if not trained or training is None:
        return Panel((own,), (own,), "the detector itself, which may know the labels by heart")

    def judge(weights: Path, saw: NDArray[np.bool_]) -> Judge:
        detector = load(detector_config(training, config.detector, weights))
        title = f"scoring the labelled set with {weights.parent.name}/{weights.name}"
        scored = score_with(detector, labeled, config, progress, title)
        return Judge(scored.stored.detections(np.arange(len(labeled))), saw)

    last = tuple(judge(one.weights, one.saw) for one in trained)
    early = tuple(judge(weights, one.saw) for one in trained for weights in one.early)
    return Panel(early or last, (*last, own), source + (", early checkpoints" if early else ""))


def _variants(table: Path, labeled: Dataset) -> tuple[list[_Trained], TrainingConfig]:
    """The variants of a table that are on disk, and how they were trained."""
    result = []
    for point in sorted(table.glob("variants/*/point.json")):
        record = read_own(point)
        weights = point.parent / "weights.pt"
        if "image_ids" in record and weights.is_file():
            saw = np.isin(labeled.image_ids.astype(str), record["image_ids"])
            early = sorted((point.parent / EARLY_FOLDER).glob("*.pt"), key=lambda p: int(p.stem))
            result.append(_Trained(weights, saw, tuple(early)))
    if not result:
        raise ConfigError(
            f"table must be a folder of `detal tables build` with variants that tell what they "
            f"were trained on, found none in {table}: build it anew"
        )
    build = read_own(table / "build.json")
    return result, TrainingConfig.model_validate(build["training"])


def _folds(
    config: TrustSetConfig, training: TrainingConfig, labeled: Dataset, progress: StartProgress
) -> list[_Trained]:
    """Train one detector for each part of the images, on all the others."""
    part = generator(config.seed, "folds").permutation(len(labeled)) % config.folds
    report = progress("training folds")
    result = []
    for number in range(config.folds):
        report(number, config.folds)
        saw = part != number
        trained = train_detector(
            training,
            labeled.take(np.flatnonzero(saw)),
            output=Path(f"{config.output}.folds") / str(number),
            seed=config.seed,
            device=config.device,
        )
        result.append(_Trained(trained.weights, saw, ()))
    report(config.folds, config.folds)
    return result
