"""Train a detector as a config says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detal.config import DetectorConfig, TrainingConfig
from detal.datasets import Dataset
from detal.detectors import build_torchvision
from detal.detectors.weights import read_state_dict
from detal.errors import ConfigError
from detal.manifests import staged_folder, write_yolo_dataset
from detal.training import TorchvisionTraining, TrainResult, train_torchvision, train_yolo

__all__ = ["detector_config", "train_detector"]


def train_detector(
    config: TrainingConfig,
    dataset: Dataset,
    *,
    output: Path,
    seed: int,
    device: str,
    keep_steps: Sequence[int] = (),
    start: Path | None = None,
) -> TrainResult:
    """Train a detector on a labelled dataset.

    Args:
        config: How.
        dataset: All of its images are trained on.
        output: Scratch folder of the training; goes on where a killed one stopped.
        seed: Of weights, order and augmentation.
        device: ``auto``, ``cpu``, ``cuda[:i]`` or ``mps``.
        keep_steps: Early steps, ascending, whose weights are kept: in the folder of
            ``TrainResult.weights`` (`detal.training.early_weights`).
        start: Checkpoint of the same kind and classes to go on from, in place of ``config``'s
            ``init`` and ``backbone``.

    Raises:
        ConfigError: If the trainer does not know a setting.
    """
    train = _train_yolo if config.type == "yolo" else _train_torchvision
    return train(config, dataset, output, seed, device, tuple(keep_steps), start)


def detector_config(
    training: TrainingConfig,
    detector: DetectorConfig,
    weights: Path,
    *,
    score_threshold: float | None = None,
) -> DetectorConfig:
    """How a detector that `train_detector` trained is loaded.

    Args:
        training: How it was trained.
        detector: Everything else.
        weights: Its checkpoint.
        score_threshold: In place of the detector's, unless it is None.
    """
    changes: dict[str, Any] = {
        "type": training.type,
        "weights": str(weights),
        "image_size": training.image_size,
    }
    if training.type == "torchvision":
        changes["architecture"] = training.init
    if score_threshold is not None:
        changes["score_threshold"] = score_threshold
    return detector.model_copy(update=changes)


def _train_yolo(
    config: TrainingConfig,
    dataset: Dataset,
    output: Path,
    seed: int,
    device: str,
    keep_steps: tuple[int, ...],
    start: Path | None,
) -> TrainResult:
    data = output / "data"
    if not data.exists():
        with staged_folder(data) as folder:
            write_yolo_dataset(folder, dataset)
    return train_yolo(
        data_yaml=data / "data.yaml",
        output=output / "run",
        init=config.init if start is None else start,
        backbone=None if start or config.backbone is None else Path(config.backbone),
        steps=config.steps,
        image_size=config.image_size,
        batch_size=config.batch_size,
        seed=seed,
        device=device,
        keep_steps=keep_steps,
        extra=config.extra,
        trust_checkpoint=config.trust_checkpoint,
    )


def _train_torchvision(
    config: TrainingConfig,
    dataset: Dataset,
    output: Path,
    seed: int,
    device: str,
    keep_steps: tuple[int, ...],
    start: Path | None,
) -> TrainResult:
    if config.backbone is not None:
        raise ConfigError("training.backbone works with YOLO only")
    try:
        training = TorchvisionTraining(
            steps=config.steps,
            batch_size=config.batch_size,
            seed=seed,
            keep_steps=keep_steps,
            **config.extra,
        )
    except TypeError as error:
        raise ConfigError(f"training.extra: {error}") from None
    model = build_torchvision(
        config.init, num_classes=len(dataset.class_names), image_size=config.image_size, seed=seed
    )
    if start is not None:
        model.load_state_dict(read_state_dict(start))
    return train_torchvision(model, dataset, output=output, training=training, device=device)
