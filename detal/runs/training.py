"""Train a detector as a config says."""

from __future__ import annotations

from pathlib import Path

from detal.config import TrainingConfig
from detal.datasets import Dataset
from detal.manifests import write_yolo_dataset
from detal.training import TrainResult, train_torchvision, train_yolo

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
    """
    output.mkdir(parents=True, exist_ok=True)
    if config.type == "torchvision":
        return train_torchvision(
            dataset,
            architecture=config.init,
            output=output,
            steps=config.steps,
            image_size=config.image_size,
            batch_size=config.batch_size,
            seed=seed,
            device=device,
            **config.extra,
        )
    data = output / "data"
    if not data.exists():
        write_yolo_dataset(data, dataset)
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
