"""Configuration: one YAML file per run, validated before any work starts.

Paths inside a file are relative to that file; paths in ``key=value`` overrides are relative to the
current folder. Every problem is reported at once.
"""

from __future__ import annotations

import difflib
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from detal.errors import ConfigError
from detal.files import exists

__all__ = [
    "BudgetConfig",
    "DatasetConfig",
    "DetectorConfig",
    "GroupsConfig",
    "InitialConfig",
    "LabeledConfig",
    "ManifestConfig",
    "ObjectsConfig",
    "SelectConfig",
    "SimulateConfig",
    "StrategyConfig",
    "TablesConfig",
    "TrainingConfig",
    "TrustSetConfig",
    "VariantsConfig",
    "dump_config",
    "load_config",
]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


PathText = Annotated[str, Field(min_length=1)]
DeviceName = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]

# Another model or amount keeps the other keys of its section; another dataset or strategy does not.
_MERGED = {"detector", "budget"}
_MODEL_KEYS = {"weights", "init", "members"}
_PATH_KEYS = {"path", "images", "metadata", "output", "store", "backbone", "table"} | _MODEL_KEYS
# A section may be given as one value: `pool=images/` is `pool.path=images/`.
_SHORTHANDS = {
    "pool": "path",
    "labeled": "path",
    "test": "path",
    "reference": "path",
    "detector": "weights",
    "strategy": "name",
    "budget": "amount",
}


class DatasetConfig(_Section):
    """A dataset on disk.

    Attributes:
        path: COCO JSON, YOLO ``data.yaml``, VOC folder, Label Studio JSON, CVAT XML, image folder,
            glob or list of paths.
        format: ``auto`` or the name of a reader.
        images: Image root, where the file does not tell.
        split: Split inside the dataset (YOLO ``train``/``val``/``test``, VOC ImageSets list).
        metadata: CSV with one row per image; its columns are joined on id or file name.
    """

    path: PathText
    format: Literal["auto", "coco", "voc", "yolo", "folder", "label_studio", "cvat"] = "auto"
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
        architecture: torchvision model name, for example ``fasterrcnn_resnet50_fpn``; for YOLO the
            model YAML of ``weights`` that are a plain state dict.
        class_names: Classes in label order, where the checkpoint does not name them; by default
            those of the labelled set, then of the pool.
        image_size: Network input size in pixels (long side for YOLO, short side for torchvision);
            the checkpoint's own by default.
        score_threshold: Boxes below are not kept; low, because uncertainty lives there.
        nms_iou: Overlap above which non-maximum suppression drops the weaker box; the detector's
            own by default (0.7 for YOLO).
        max_detections: Boxes kept per image.
        dropout_samples: Times YOLO's last classification layer runs with dropout for each kept box,
            for the strategy ``bald``; 0: not at all.
        features_only: Read no boxes, image features only, from whatever weights are at hand: for a
            first round, when there is no detector of one's own classes. A YOLO state dict then
            needs ``architecture``, and everything but the head must fit it.
        head: Which YOLO head to read where a model has two.
        half: Half precision; by default on CUDA only. On the CPU a YOLO then takes half the time,
            if the processor has bfloat16, and a few boxes change; other detectors ignore it there.
        download: Let ultralytics fetch YOLO weights that are named but not on disk.
        trust_checkpoint: Load a YOLO checkpoint that holds more than layers of ultralytics and
            torch; this runs the code of whoever made it.
    """

    type: Literal["yolo", "torchvision", "predictions"] = "yolo"
    weights: PathText | None = None
    architecture: str | None = None
    class_names: tuple[str, ...] | None = None
    image_size: Annotated[int, Field(ge=32, le=65_536)] | None = None
    score_threshold: Annotated[float, Field(ge=0, lt=1)] = 0.05
    nms_iou: Annotated[float, Field(gt=0, le=1)] | None = None
    max_detections: Annotated[int, Field(ge=1)] = 300
    dropout_samples: Annotated[int, Field(ge=0)] = 0
    features_only: bool = False
    head: Literal["auto", "one2many", "one2one"] = "auto"
    half: bool | None = None
    download: bool = False
    trust_checkpoint: bool = False


class BudgetConfig(_Section):
    """How much may be labelled (see ``detal.structures.Budget``)."""

    amount: Annotated[float, Field(gt=0)] = 100
    unit: Literal["images", "boxes", "seconds"] = "images"
    seconds_per_image: Annotated[float, Field(ge=0)] = 5.0
    seconds_per_box: Annotated[float, Field(ge=0)] = 7.0


class StrategyConfig(BaseModel):
    """The query strategy by name; further keys are its options.

    Attributes:
        name: The strategy.
        label: What studies call it, where one strategy runs with different options; by default
            its name.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = "curve_greedy"
    label: Annotated[str, Field(pattern=r"^[\w.+-]+$")] = "curve_greedy"

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, data: Any) -> Any:
        if isinstance(data, str):
            data = {"name": data}
        if isinstance(data, dict) and "name" in data:
            data = {"label": data["name"], **data}
        return data

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
        formats: What is written besides ``selection.csv`` and ``coco.json``, which are always
            there; ``csv`` is the table of boxes.
        image_prefix: ``FOLDER=PREFIX``: what stands for a local folder in the tool, for example
            ``/data=s3://bucket/data`` or ``/data=/data/local-files/?d=``.
        image_files: Whether these formats name the images where they are, or the run's folder gets
            links or copies.
        reserve: Budget of the images that `detal review` puts in place of rejected ones, as a share
            of the batch's own; about ten images at least; 0: none.
    """

    min_score: Annotated[float, Field(ge=0, le=1)] = 0.25
    formats: tuple[
        Literal["coco", "csv", "yolo", "label_studio", "cvat", "voc", "fiftyone"], ...
    ] = ("coco", "csv", "yolo")
    image_prefix: str | None = None
    image_files: Literal["reference", "link", "copy"] = "reference"
    reserve: Annotated[float, Field(ge=0, le=1)] = 0.25


class TrainingConfig(_Section):
    """How every detector of a study is trained.

    Attributes:
        init: YOLO architecture (``yolo11n.yaml``) or checkpoint, or torchvision model name.
        type: ``yolo`` or ``torchvision``.
        backbone: Plain state dict whose fitting entries are loaded into ``init`` first.
        steps: Optimisation steps, the same in every arm whatever its number of images.
        image_size: Training and test size in pixels.
        batch_size: Images per step.
        extra: Further trainer arguments (learning rate, augmentation) in the trainer's own words.
        trust_checkpoint: As in ``detector``, for ``init``.
    """

    init: PathText
    type: Literal["yolo", "torchvision"] = "yolo"
    backbone: PathText | None = None
    steps: Annotated[int, Field(ge=1)] = 300
    image_size: Annotated[int, Field(ge=32, le=65_536)] = 160
    batch_size: Annotated[int, Field(ge=1)] = 16
    extra: dict[str, Any] = {}
    trust_checkpoint: bool = False


class GroupsConfig(_Section):
    """The groups of candidates that a variant table is made of.

    Attributes:
        number: Groups; by default as many as hold about a batch each, from 4 to 12.
        images: Images of each group that its variant is trained on, at most; by default as many as
            the budget buys, or, without a budget, as are labelled.
        steps: Optimisation steps by which each variant goes on from the round's detector; a quarter
            of those of ``training`` by default.
        min_score: Calibrated probability from which a detection is a pseudo-label.
        controls: Times that the same steps are taken without any group, to know what is noise.
    """

    number: Annotated[int, Field(ge=2)] | None = None
    images: Annotated[int, Field(ge=1)] | None = None
    steps: Annotated[int, Field(ge=1)] | None = None
    min_score: Annotated[float, Field(gt=0, lt=1)] = 0.5
    controls: Annotated[int, Field(ge=2)] = 3


class VariantsConfig(_Section):
    """The variants of a detector that measured tables are made of.

    Attributes:
        shares: Of the labelled set, each a subset of the next larger one; all of it comes on top.
        steps: Optimisation steps of each; by default those of ``training``. Fewer are cheaper, but
            a detector of ``detector.weights`` was then trained longer than the variants, and the
            curves come out steeper than they are.
        early_steps: Steps, ascending, whose checkpoints are kept beside each variant's last one:
            what early detectors find hard is what ``detal trustset`` scores objects by.
        groups: Variants for groups of candidates.
    """

    shares: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(min_length=1)] = (
        0.25,
        0.5,
        0.75,
    )
    steps: Annotated[int, Field(ge=1)] | None = None
    early_steps: tuple[Annotated[int, Field(ge=1)], ...] = ()
    groups: GroupsConfig = GroupsConfig()

    @model_validator(mode="after")
    def _ascending(self) -> VariantsConfig:
        if any(a >= b for a, b in itertools.pairwise(self.shares)):
            raise ValueError("shares must rise")
        return self


class SelectConfig(_Section):
    """One run of ``detal select``.

    Attributes:
        reference: Labelled images that are neither trained on nor reported on: strategies correct
            the scores of the detector by them. None of them is selected.
        training: How the detector was trained, for strategies that train variants of it.
        tables: Those variants.
        output: Folder of the run: manifest, picture, ``run.json``.
        store: Folder of the detector's outputs, shared by runs; ``detal_store`` beside ``output``
            by default.
        seed: Of everything random.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        batch_size: Images per forward pass; halved by itself when memory runs out.
        threads: Decoding threads; chosen by the number of cores by default.
        shard_size: Images written to the store at a time: what an interruption can lose.
        partitions: Parts of the pool that are selected from one by one, or side by side, before
            the batch is selected from what they chose: for pools whose features exceed one
            machine's memory. 1: no parts.
    """

    pool: DatasetConfig
    detector: DetectorConfig = DetectorConfig()
    labeled: LabeledConfig | None = None
    reference: DatasetConfig | None = None
    strategy: StrategyConfig = StrategyConfig()
    budget: BudgetConfig = BudgetConfig()
    dedup: DedupConfig = DedupConfig()
    manifest: ManifestConfig = ManifestConfig()
    training: TrainingConfig | None = None
    tables: VariantsConfig = VariantsConfig()
    output: PathText
    store: PathText | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    device: DeviceName = "auto"
    batch_size: Annotated[int, Field(ge=1)] = 16
    threads: Annotated[int, Field(ge=1)] | None = None
    shard_size: Annotated[int, Field(ge=1)] = 1024
    partitions: Annotated[int, Field(ge=1)] = 1


class InitialConfig(_Section):
    """The images that are labelled before the first round, the same in every arm of a seed.

    Attributes:
        amount: How many, in ``unit``.
        unit: ``images`` or ``boxes`` (true boxes).
        strategy: ``random``, or a strategy that reads image features alone (name, or name and
            options): the features of ``training.backbone``, or of the checkpoint ``training.init``.
    """

    amount: Annotated[float, Field(gt=0)]
    unit: Literal["images", "boxes"] = "images"
    strategy: str | StrategyConfig = "random"


class SimulateConfig(_Section):
    """One run of ``detal simulate``: strategies x seeds x rounds on a fully labelled dataset.

    Attributes:
        pool: Labelled dataset that plays both pool and oracle.
        test: Labelled dataset for the reported metrics; no strategy sees it.
        reference: Labelled dataset on which arms may measure (`oracle_retraining`) and strategies
            correct scores; none of it is selected or reported.
        initial: What is labelled before the first round.
        training: How detectors are trained.
        tables: Variants of them, for strategies that read measured tables.
        strategies: Names or sections with options; ``label`` names an arm.
        seeds: One arm of each strategy per seed.
        rounds: Batches selected, labelled and trained on after the initial set.
        budget: Of each round; ``boxes`` are true boxes here.
        dedup: Guards, the same in every arm.
        output: Folder of the study.
        workers: Arms trained side by side, one thread each.
        device: Where detectors train and score.
    """

    pool: DatasetConfig
    test: DatasetConfig
    reference: DatasetConfig | None = None
    initial: InitialConfig
    training: TrainingConfig
    tables: VariantsConfig = VariantsConfig()
    strategies: Annotated[tuple[StrategyConfig, ...], Field(min_length=1)]
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0, 1, 2)
    rounds: Annotated[int, Field(ge=1)] = 3
    budget: BudgetConfig = BudgetConfig()
    dedup: DedupConfig = DedupConfig()
    detector: DetectorConfig = DetectorConfig()
    output: PathText
    workers: Annotated[int, Field(ge=1)] = 1
    device: DeviceName = "auto"


class TablesConfig(_Section):
    """One run of ``detal tables build``.

    Attributes:
        labeled: Labelled images that variants of the detector are trained on.
        reference: Labelled images that the variants are measured on, none of them in ``labeled``.
        training: How the round's own detector was trained.
        tables: The variants.
        pool: Candidates, of which groups are made; without one there are category curves only.
        detector: Its ``weights`` are those of the round's own detector, trained on all of
            ``labeled``; without them it is trained, too.
        output: Folder of the table.
        seed: Of everything random.
        device: Where detectors train and score.
    """

    labeled: DatasetConfig
    reference: DatasetConfig
    training: TrainingConfig
    tables: VariantsConfig = VariantsConfig()
    pool: DatasetConfig | None = None
    detector: DetectorConfig = DetectorConfig()
    output: PathText
    seed: Annotated[int, Field(ge=0)] = 0
    device: DeviceName = "auto"


class ObjectsConfig(_Section):
    """Which labelled objects are trusted (see ``detal.trustset.TrustSetOptions``).

    Attributes:
        share: Of the objects that may be trusted.
        balance: ``uniform``, ``sqrt`` or ``slope`` (of the curves of ``table``, or prior ones).
        nearness: How near an object must be to a trusted one to be redundant, in units of the usual
            distance between neighbours.
        suspicion: Least score of a suspicious label.
        shown: Objects shown per category.
    """

    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    balance: Literal["uniform", "sqrt", "slope"] = "uniform"
    nearness: Annotated[float, Field(ge=0)] = 0.5
    suspicion: Annotated[float, Field(gt=0, le=1)] = 0.7
    shown: Annotated[int, Field(ge=1, le=12)] = 6


class TrustSetConfig(_Section):
    """One run of ``detal trustset show``.

    Attributes:
        labeled: Labelled images whose objects are judged.
        detector: The round's own detector; trust of the pool is read off its outputs.
        pool: Images to look for candidates in.
        reference: Labelled images that nothing was trained on; trust is learned there.
        table: Folder that ``detal tables build`` wrote: its variants judge the objects, early
            checkpoints score them, each variant counts where it was not trained.
        folds: Train this many detectors, each on all but one part of the labelled images, to judge
            that part; needs ``training``. 0: none.
        training: How the detectors of ``folds`` are trained.
        objects: Which objects are trusted.
        output: Folder of the run; ``OUTPUT.folds`` beside it holds the trainings.
        store: Folder of the detectors' outputs; ``detal_store`` beside ``output`` by default.
        seed: Of everything random.
        device: Where detectors run.
        batch_size: Images per forward pass.
        threads: Decoding threads; chosen by the number of cores by default.
    """

    labeled: DatasetConfig
    detector: DetectorConfig
    pool: DatasetConfig | None = None
    reference: DatasetConfig | None = None
    table: PathText | None = None
    folds: Annotated[int, Field(ge=0)] = 0
    training: TrainingConfig | None = None
    objects: ObjectsConfig = ObjectsConfig()
    output: PathText
    store: PathText | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    device: DeviceName = "auto"
    batch_size: Annotated[int, Field(ge=1)] = 16
    threads: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _folds_are_trained(self) -> TrustSetConfig:
        if self.folds == 1 or (self.folds and self.training is None):
            raise ValueError("folds must be 0, or 2 and more with a section training")
        return self


Config = TypeVar("Config", SelectConfig, SimulateConfig, TablesConfig, TrustSetConfig)


def load_config(model: type[Config], path: Path | None, overrides: Sequence[str] = ()) -> Config:
    """Read a config file, apply ``key.sub=value`` overrides, validate.

    Args:
        model: What the config is for.
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
        return model.model_validate(data)
    except ValidationError as error:
        source = "overrides" if path is None else str(path)
        lines = [_describe(item, model) for item in error.errors()]
        raise ConfigError(f"{source}: " + "; ".join(lines)) from None


def dump_config(config: SelectConfig | SimulateConfig | TablesConfig | TrustSetConfig) -> str:
    """The resolved config as YAML; reading it back gives the same config."""
    return yaml.safe_dump(
        config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read config {path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
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
    except (yaml.YAMLError, ValueError):
        value = text
    except RecursionError:
        raise ConfigError(f"an override must not be nested so deeply: {override[:60]}") from None
    *parents, leaf = key.strip().split(".")
    node = data
    for part in parents:
        if not isinstance(node.get(part), dict):
            node[part] = {}
        node = node[part]
    change = _resolve({leaf: value}, Path.cwd())
    mergeable = leaf in _MERGED and not parents
    if mergeable and isinstance(node.get(leaf), dict) and isinstance(change[leaf], dict):
        change = {leaf: {**node[leaf], **change[leaf]}}
    node.update(change)


def _resolve(data: dict[str, Any], base: Path) -> dict[str, Any]:
    """Expand shorthands and make path values absolute against ``base``."""
    resolved = dict(data)
    for key, value in data.items():
        if key in _SHORTHANDS and not isinstance(value, dict) and value is not None:
            resolved[key] = _resolve({_SHORTHANDS[key]: value}, base)
        elif isinstance(value, list):
            resolved[key] = [_resolve_item(key, item, base) for item in value]
        else:
            resolved[key] = _resolve_item(key, value, base)
    return resolved


def _resolve_item(key: str, value: Any, base: Path) -> Any:
    """One value of ``key``, or one entry of its list."""
    if isinstance(value, dict):
        return _resolve(value, base)
    if key not in _PATH_KEYS or not isinstance(value, str) or not value:
        return value
    path = base / os.path.expanduser(value)  # noqa: PTH111 - leaves the home of nobody as it is
    # A bare model name such as yolo11n.pt is kept, unless a file of that name is there.
    is_name = key in _MODEL_KEYS and Path(value).name == value and not exists(path)
    return value if is_name else os.path.normpath(path)


def _describe(item: Any, model: type[BaseModel]) -> str:
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        *parents, name = item["loc"]
        section = _SECTIONS[str(parents[0])] if parents else model
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
    "test": DatasetConfig,
    "reference": DatasetConfig,
    "initial": InitialConfig,
    "training": TrainingConfig,
    "tables": VariantsConfig,
    "objects": ObjectsConfig,
}
