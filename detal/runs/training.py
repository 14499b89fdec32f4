"""Train a detector as a config says."""

from __future__ import annotations

from pathlib import Path

from detal.config import TrainingConfig
from detal.datasets import Dataset
from detal.detectors import build_torchvision
from detal.errors import ConfigError
from detal.manifests import staged_folder, write_yolo_dataset
from detal.training import TorchvisionTraining, TrainResult, train_torchvision, train_yolo

__all__ = ["train_detector"]


def train_detector(
    config: TrainingConfig, dataset: Dataset, *, output: Path, seed: int, device: str
) -> TrainResult:
    """Train a detector on a labelled dataset.

    Args:
        config: How.
        dataset: All of its images are trained on.
        output: Scratch folder of the training; goes on where a killed one stopped.
        seed: Of weights, order and augmentation.
        device: ``auto``, ``cpu``, ``cuda[:i]`` or ``mps``.

    Raises:
        ConfigError: If the trainer does not know a setting.
    """
    train = _train_yolo if config.type == "yolo" else _train_torchvision
    return train(config, dataset, output, seed, device)


def _train_yolo(
    config: TrainingConfig, dataset: Dataset, output: Path, seed: int, device: str
) -> TrainResult:
    data = output / "data"
    if not data.exists():
        with staged_folder(data) as folder:
            write_yolo_dataset(folder, dataset)
    return train_yolo(
        data_yaml=data / "data.yaml",
        output=output / "run",
        init=config.init,
        backbone=None if config.backbone is None else Path(config.backbone),
        steps=config.steps,
        image_size=config.image_size,
        batch_size=config.batch_size,
        seed=seed,
        device=device,
        extra=config.extra,
    )


def _train_torchvision(
    config: TrainingConfig, dataset: Dataset, output: Path, seed: int, device: str
) -> TrainResult:
    if config.backbone is not None:
        raise ConfigError("training.backbone works with YOLO only")
    try:
        training = TorchvisionTraining(
            steps=config.steps, batch_size=config.batch_size, seed=seed, **config.extra
        )
    except TypeError as error:
        raise ConfigError(f"training.extra: {error}") from None
    model = build_torchvision(
        config.init, num_classes=len(dataset.class_names), image_size=config.image_size, seed=seed
    )
    return train_torchvision(model, dataset, output=output, training=training, device=device)
