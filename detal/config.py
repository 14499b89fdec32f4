"""Configuration: one YAML file per run, validated before any work starts.

Paths inside a file are relative to that file; paths in ``key=value`` overrides are relative to the
current folder. Every problem is reported at once.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from detal.errors import ConfigError

__all__ = [
    "BudgetConfig",
    "DatasetConfig",
    "DetectorConfig",
    "LabeledConfig",
    "SelectConfig",
    "dump_config",
    "load_config",
]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


PathText = Annotated[str, Field(min_length=1)]

_PATH_KEYS = {"path", "images", "metadata", "weights", "output", "store"}
# A section may be given as one value: `pool=images/` is `pool.path=images/`.
_SHORTHANDS = {
    "pool": "path",
    "labeled": "path",
    "detector": "weights",
    "strategy": "name",
    "budget": "amount",
}


class DatasetConfig(_Section):
    """A dataset on disk.

    Attributes:
        path: COCO JSON, YOLO ``data.yaml``, VOC folder, image folder, glob or list of paths.
        format: ``auto`` or the name of a reader.
        images: Image root, where the file does not tell.
        split: Split inside the dataset (YOLO ``train``/``val``/``test``, VOC ImageSets list).
        metadata: CSV with one row per image; its columns are joined on id or file name.
    """

    path: PathText
    format: Literal["auto", "coco", "voc", "yolo", "folder"] = "auto"
    images: PathText | None = None
    split: str | None = None
    metadata: PathText | None = None


class LabeledConfig(DatasetConfig):
    """The labelled images; none of them is selected again.

    Attributes:
        same_id: A pool image with the id of a labelled one counts as labelled. Switch it off where
            two datasets number their images independently; equal content always counts.
    """

    same_id: bool = True


class DetectorConfig(_Section):
    """The detector that looks at the pool.

    Attributes:
        type: ``yolo``, ``torchvision`` or ``predictions``.
        weights: Checkpoint, or the COCO results file for ``predictions``.
        architecture: torchvision model name, for example ``fasterrcnn_resnet50_fpn``.
        class_names: Classes in label order, where the checkpoint does not name them; by default
            those of the labelled set, then of the pool.
        image_size: Network input size in pixels (long side for YOLO, short side for torchvision);
            the checkpoint's own by default.
        score_threshold: Boxes below are not kept; low, because uncertainty lives there.
        nms_iou: Overlap above which non-maximum suppression drops the weaker box.
        max_detections: Boxes kept per image.
        head: Which YOLO head to read where a model has two.
        half: Half precision on CUDA.
    """

    type: Literal["yolo", "torchvision", "predictions"] = "yolo"
    weights: PathText | None = None
    architecture: str | None = None
    class_names: tuple[str, ...] | None = None
    image_size: Annotated[int, Field(ge=32)] | None = None
    score_threshold: Annotated[float, Field(ge=0, lt=1)] = 0.05
    nms_iou: Annotated[float, Field(gt=0, le=1)] = 0.7
    max_detections: Annotated[int, Field(ge=1)] = 300
    head: Literal["auto", "one2many", "one2one"] = "auto"
    half: bool = False


class BudgetConfig(_Section):
    """How much may be labelled (see ``detal.structures.Budget``)."""

    amount: Annotated[float, Field(gt=0)] = 100
    unit: Literal["images", "boxes", "seconds"] = "images"
    seconds_per_image: Annotated[float, Field(ge=0)] = 5.0
    seconds_per_box: Annotated[float, Field(ge=0)] = 7.0


class StrategyConfig(BaseModel):
    """The query strategy by name; further keys are its options."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = "entropy"

    @property
    def options(self) -> dict[str, Any]:
        """What was given besides the name."""
        return dict(self.model_extra or {})


class DedupConfig(_Section):
    """Guards against picking the same thing twice; they work with every strategy.

    Attributes:
        distance: Smallest cosine distance allowed between the image features of two picked images
            and of a picked and a labelled one; 0 switches it off.
        per_group: Images picked per group (sequence, video, camera); null means no limit.
    """

    distance: Annotated[float, Field(ge=0, le=2)] = 0.0
    per_group: Annotated[int, Field(ge=1)] | None = None


class ManifestConfig(_Section):
    """What the annotators see.

    Attributes:
        min_score: Predicted boxes below are not offered as pre-annotations.
    """

    min_score: Annotated[float, Field(ge=0, le=1)] = 0.25


class SelectConfig(_Section):
    """One run of ``detal select``.

    Attributes:
        output: Folder of the run: manifest, picture, ``run.json``.
        store: Folder of the detector's outputs, shared by runs; ``detal_store`` beside ``output``
            by default.
        seed: Of everything random.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        batch_size: Images per forward pass; halved by itself when memory runs out.
        threads: Decoding threads; chosen by the number of cores by default.
        shard_size: Images written to the store at a time: what an interruption can lose.
    """

    pool: DatasetConfig
    detector: DetectorConfig = DetectorConfig()
    labeled: LabeledConfig | None = None
    strategy: StrategyConfig = StrategyConfig()
    budget: BudgetConfig = BudgetConfig()
    dedup: DedupConfig = DedupConfig()
    manifest: ManifestConfig = ManifestConfig()
    output: PathText
    store: PathText | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    batch_size: Annotated[int, Field(ge=1)] = 16
    threads: Annotated[int, Field(ge=1)] | None = None
    shard_size: Annotated[int, Field(ge=1)] = 1024


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> SelectConfig:
    """Read a config file, apply ``key.sub=value`` overrides, validate.

    Args:
        path: YAML file, or None to start from the defaults.
        overrides: Each ``key=value``; the value is YAML (``budget.amount=1e3``, ``labeled=null``).

    Raises:
        ConfigError: With every problem found, one per line.
    """
    data: dict[str, Any] = {}
    if path is not None:
        data = _resolve(_read_yaml(path), path.resolve().parent)
    for override in overrides:
        _apply(data, override)
    try:
        return SelectConfig.model_validate(data)
    except ValidationError as error:
        source = "overrides" if path is None else str(path)
        lines = [_describe(item) for item in error.errors()]
        raise ConfigError(f"{source}: " + "; ".join(lines)) from None


def dump_config(config: SelectConfig) -> str:
    """The resolved config as YAML; reading it back gives the same config."""
    return yaml.safe_dump(
        config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read config {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} must be YAML: {' '.join(str(error).split())}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold keys and values, got {type(data).__name__}")
    return data


def _apply(data: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"an override must look like key=value, got {override!r}")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    *parents, leaf = key.strip().split(".")
    node = data
    for part in parents:
        if not isinstance(node.get(part), dict):
            node[part] = {}
        node = node[part]
    change = _resolve({leaf: value}, Path.cwd())
    if not parents and isinstance(change[leaf], dict) and isinstance(node.get(leaf), dict):
        node[leaf] = {**node[leaf], **change[leaf]}
    else:
        node.update(change)


def _resolve(data: dict[str, Any], base: Path) -> dict[str, Any]:
    """Expand shorthands and make path values absolute against ``base``."""
    resolved = dict(data)
    for key, value in data.items():
        if isinstance(value, dict):
            resolved[key] = _resolve(value, base)
        elif key in _SHORTHANDS and value is not None:
            resolved[key] = _resolve({_SHORTHANDS[key]: value}, base)
        elif key in _PATH_KEYS and isinstance(value, str) and value:
            resolved[key] = _resolve_path(value, base)
    return resolved


def _resolve_path(text: str, base: Path) -> str:
    path = Path(text).expanduser()
    joined = base / path
    # A bare model name such as yolo11n.pt is kept, unless a file of that name is there.
    if path.name == text and path.suffix in {".pt", ".yaml", ".yml"} and not joined.exists():
        return text
    return os.path.normpath(joined)


def _describe(item: Any) -> str:
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        *parents, name = item["loc"]
        section = _SECTIONS[str(parents[0])] if parents else SelectConfig
        close = difflib.get_close_matches(str(name), section.model_fields, n=1)
        return f"unknown key {where}" + (f", did you mean {close[0]}?" if close else "")
    if item["type"] == "missing":
        return f"{where} is required"
    return f"{where}: {item['msg'][0].lower()}{item['msg'][1:]}, got {item['input']!r}"


_SECTIONS: dict[str, type[BaseModel]] = {
    "pool": DatasetConfig,
    "labeled": LabeledConfig,
    "detector": DetectorConfig,
    "budget": BudgetConfig,
    "dedup": DedupConfig,
    "manifest": ManifestConfig,
}
