"""From a config to objects; nothing below this layer sees a config."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from detal.config import BudgetConfig, DatasetConfig, DetectorConfig, ManifestConfig
from detal.datasets import Dataset, open_dataset
from detal.detectors import (
    Detector,
    FeaturesOnly,
    load_predictions,
    load_torchvision,
    load_yolo,
)
from detal.errors import ConfigError
from detal.manifests import HandOver, ImagePrefix
from detal.structures import Budget

__all__ = ["build_budget", "build_dataset", "build_detector", "build_hand_over"]


def build_dataset(config: DatasetConfig) -> Dataset:
    """Open a dataset.

    Raises:
        DataError: If it cannot be read at all.
    """
    return open_dataset(
        Path(config.path),
        format=config.format,
        images_root=None if config.images is None else Path(config.images),
        split=config.split,
        metadata=None if config.metadata is None else Path(config.metadata),
    )


def build_budget(config: BudgetConfig) -> Budget:
    """The budget in the words of the strategies."""
    return Budget(
        amount=config.amount,
        unit=config.unit,
        seconds_per_image=config.seconds_per_image,
        seconds_per_box=config.seconds_per_box,
    )


def build_hand_over(config: ManifestConfig) -> HandOver:
    """Which formats a manifest has, and how they name the images.

    Raises:
        ConfigError: If the prefix is none.
    """
    return HandOver(
        formats=config.formats,
        mode=config.image_files,
        prefix=None if config.image_prefix is None else ImagePrefix.parse(config.image_prefix),
    )


def build_detector(
    config: DetectorConfig,
    *,
    device: str,
    class_names: tuple[str, ...],
    category_ids: tuple[int, ...],
    image_id_of: Mapping[str, str],
) -> Detector:
    """Load the detector.

    Args:
        config: Which one, and its thresholds.
        device: ``auto``, ``cpu``, ``cuda[:i]`` or ``mps``.
        class_names: Classes of the datasets, for detectors that name none themselves.
        category_ids: Their category ids, for predictions read from a file.
        image_id_of: Image id of each image path, for predictions read from a file.

    Raises:
        ConfigError: If the config leaves out what the detector needs.
        DetectorError: If it cannot be loaded.
    """
    names = config.class_names or class_names
    if config.dropout_samples and config.type != "yolo":
        raise ConfigError(
            f"detector.dropout_samples must be 0 for a {config.type} detector: only YOLO's last "
            "layer can be given dropout; `committee` takes further checkpoints of any detector"
        )
    builders: dict[str, Callable[[], Detector]] = {
        "yolo": lambda: _build_yolo(config, device=device),
        "torchvision": lambda: _build_torchvision(config, device=device, class_names=names),
        "predictions": lambda: _build_predictions(
            config, class_names=names, category_ids=category_ids, image_id_of=image_id_of
        ),
    }
    detector = builders[config.type]()
    if config.features_only:
        return FeaturesOnly(detector, class_names=names or ("object",))
    return detector


def _build_yolo(config: DetectorConfig, *, device: str) -> Detector:
    if config.weights is None:
        raise ConfigError("detector.weights must name a YOLO checkpoint, for example best.pt")
    return load_yolo(
        config.weights,
        architecture=config.architecture,
        class_names=None if config.features_only else config.class_names,
        device=device,
        image_size=config.image_size,
        # No score is greater than 1: no time is lost on boxes that nobody reads.
        score_threshold=1.0 if config.features_only else config.score_threshold,
        nms_iou=0.7 if config.nms_iou is None else config.nms_iou,
        max_detections=config.max_detections,
        dropout_samples=config.dropout_samples,
        new_head=config.features_only,
        half=config.half,
        head=config.head,
        download=config.download,
        trust_checkpoint=config.trust_checkpoint,
    )


def _build_torchvision(
    config: DetectorConfig, *, device: str, class_names: tuple[str, ...]
) -> Detector:
    if config.architecture is None:
        raise ConfigError(
            "detector.architecture must name a torchvision model, for example "
            "fasterrcnn_resnet50_fpn"
        )
    if not class_names:
        raise ConfigError(
            "detector.class_names must list the classes in label order: neither the labelled set "
            "nor the pool names any"
        )
    if config.weights is None:
        raise ConfigError("detector.weights must name the checkpoint of the torchvision model")
    return load_torchvision(
        config.architecture,
        weights=Path(config.weights),
        class_names=class_names,
        device=device,
        image_size=config.image_size,
        score_threshold=config.score_threshold,
        nms_iou=config.nms_iou,
        max_detections=config.max_detections,
        half=config.half,
    )


def _build_predictions(
    config: DetectorConfig,
    *,
    class_names: tuple[str, ...],
    category_ids: tuple[int, ...],
    image_id_of: Mapping[str, str],
) -> Detector:
    if config.weights is None:
        raise ConfigError("detector.weights must name the COCO results file of the predictions")
    if not class_names or len(class_names) != len(category_ids):
        raise ConfigError(
            "predictions name categories by id: the pool or the labelled set must list its "
            "categories (COCO JSON or data.yaml)"
        )
    return load_predictions(
        Path(config.weights),
        image_id_of=image_id_of,
        class_names=class_names,
        category_ids=category_ids,
        score_threshold=config.score_threshold,
        max_detections=config.max_detections,
    )
