"""Train YOLO detectors of the ultralytics package for an exact number of optimisation steps."""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detal.detectors.weights import read_state_dict, resolve_device
from detal.detectors.yolo import import_ultralytics, load_model
from detal.detectors.yolo_checkpoints import check_model_yaml
from detal.errors import ConfigError, DetectorError
from detal.training.progress import (
    EARLY_FOLDER,
    TrainRecord,
    TrainResult,
    check_amounts,
    check_steps,
    digest,
    file_digest,
)
from detal.training.yolo_data import YoloData, read_yolo_data
from detal.training.yolo_trainer import (
    CHECKPOINT_NAME,
    LABEL_CACHE_NAME,
    StepPlan,
    make_trainer,
)

__all__ = ["train_yolo"]

WEIGHTS_NAME = "weights.pt"
_LIBRARY_FOLDER = "ultralytics"
_INIT_NAME = "init.pt"
_CACHE_BYTES = 1 << 30

DEFAULTS: dict[str, Any] = {
    "optimizer": "AdamW",
    "lr0": 0.001,
    "lrf": 0.01,
    "momentum": 0.9,
    "cos_lr": True,
}
"""Settings of the library that differ from its own defaults: ``auto`` would choose the optimizer by
the number of images, and arms of one study would train differently."""

_OURS_TEXT = """
    task mode model data epochs time patience batch imgsz save save_period device project name
    exist_ok pretrained verbose seed single_cls rect resume amp fraction val split plots nbs
    warmup_epochs warmup_momentum warmup_bias_lr close_mosaic save_dir cfg classes
    distill_model
"""
_OURS = frozenset(_OURS_TEXT.split())
"""Settings of the library that `train_yolo` sets itself."""


def train_yolo(  # noqa: PLR0913 - one name for each thing that determines the weights
    *,
    data_yaml: str | Path,
    output: str | Path,
    init: str | Path,
    steps: int,
    image_size: int = 640,
    batch_size: int = 16,
    seed: int = 0,
    device: str = "auto",
    backbone: str | Path | Mapping[str, Tensor] | None = None,
    time_budget_s: float | None = None,
    resume: bool = True,
    checkpoint_s: float = 30.0,
    keep_steps: Sequence[int] = (),
    extra: Mapping[str, Any] | None = None,
    trust_checkpoint: bool = False,
) -> TrainResult:
    """Train with ultralytics' own trainer, augmentation and loss.

    Every step takes ``batch_size`` images from a stream of permutations of the training set: equal
    steps mean equal work, whatever the number of images. The learning rate rises over the first
    tenth of the run (at most 100 steps) and falls over the rest; mosaics end with the last tenth.
    The weights are the moving average of the last step. On the CPU equal arguments give equal
    weights, and, while images are kept in memory, so does a run that was killed and started again.
    Nothing is written beside the images and labels, except that the library itself repairs JPEGs
    that lack their end marker.

    Args:
        data_yaml: The dataset; only ``names``, ``path`` and ``train`` are read.
        output: Folder of the run; gets ``weights.pt`` and ``train.json``.
        init: A checkpoint to start from (its head is kept as far as the classes' names fit), or a
            model YAML or its name (``yolo11n.yaml``) for random weights.
        steps: Optimisation steps.
        image_size: Side of the square training images in pixels, a multiple of 32.
        batch_size: Images of one step.
        seed: Seed of weights, order and augmentation, >= 0.
        device: ``auto``, ``cpu``, ``cuda[:i]`` or ``mps``; mixed precision on CUDA.
        backbone: State dict, or file of one, whose tensors replace those of equal name and shape in
            the model of ``init``.
        time_budget_s: Stop after this wall time even if steps are left.
        resume: Recognise a finished run and go on with an interrupted one; otherwise start anew.
        checkpoint_s: Least wall time between two checkpoints.
        keep_steps: Steps, ascending, after which the weights (their moving average) are kept as
            ``early/<step>.pt``; the schedule is the same with and without.
        extra: Further settings of the library (``optimizer``, ``lr0``, ``mosaic``, ``workers`` …).
        trust_checkpoint: As `detal.detectors.load_yolo`, for ``init``.

    Raises:
        ConfigError: If an argument is out of range or unknown to the library.
        DataError: If there is nothing to train on.
        DetectorError: If the model cannot be built or the loss does not stay finite.
    """
    check_amounts(steps=steps, batch_size=batch_size, time_budget_s=time_budget_s)
    check_steps(keep_steps, steps=steps)
    if image_size < 32 or image_size % 32:
        raise ConfigError(f"image_size must be a positive multiple of 32, got {image_size}")
    backbone = Path(backbone) if isinstance(backbone, str) else backbone
    target = resolve_device(device)
    data = read_yolo_data(Path(data_yaml))
    settings = _settings(extra or {}, data, image_size, target)
    settings |= {"batch": batch_size, "nbs": batch_size, "imgsz": image_size, "seed": seed}
    kept = [("keep_steps", list(keep_steps))] if keep_steps else []
    key = digest([*sorted(settings.items()), steps, time_budget_s, data.fingerprint, *kept])
    plan = StepPlan(
        steps=steps,
        batch_size=batch_size,
        seed=seed,
        data=data,
        output=Path(output).resolve(),
        key=digest([key, *_origin(init, backbone), version("ultralytics")]),
        time_budget_s=time_budget_s,
        checkpoint_s=checkpoint_s,
        keep_steps=tuple(keep_steps),
        trust_checkpoint=trust_checkpoint,
    )
    return _run(plan, settings, init, backbone, target=target, resume=resume)


def _run(
    plan: StepPlan,
    settings: dict[str, Any],
    init: str | Path,
    backbone: Path | Mapping[str, Tensor] | None,
    *,
    target: torch.device,
    resume: bool,
) -> TrainResult:
    output, weights = plan.output, plan.output / WEIGHTS_NAME
    record = TrainRecord.read(output) if resume else None
    known = record is not None and record.key == plan.key
    if record is not None and known and record.done and weights.is_file():
        return record.result(weights, "finished")
    going_on = known and (output / CHECKPOINT_NAME).is_file()
    if not going_on:
        _clear(output)
    output.mkdir(parents=True, exist_ok=True)
    TrainRecord(key=plan.key, done=False).write(output)
    library = import_ultralytics()
    overrides = {
        **settings,
        "model": str(_start_model(init, backbone, plan)),
        "epochs": plan.epochs,
        "close_mosaic": round(plan.epochs / 10),
        "device": str(target),
        "save_dir": str(output / _LIBRARY_FOLDER),
    }
    _train(library, plan, overrides, amp=target.type == "cuda").replace(weights)
    asked = {**overrides, "data": str(plan.data.file), "steps": plan.steps}
    record = TrainRecord(
        key=plan.key,
        done=True,
        steps=plan.done,
        seconds=plan.elapsed_s,
        stopped_by=plan.stopped_by,
        losses=plan.losses,
        settings=asked,
    )
    record.write(output)
    for left_over in (CHECKPOINT_NAME, _INIT_NAME, LABEL_CACHE_NAME):
        (output / left_over).unlink(missing_ok=True)
    return record.result(weights, "resumed" if going_on else "restarted" if known else "trained")


def _settings(
    extra: Mapping[str, Any], data: YoloData, image_size: int, target: torch.device
) -> dict[str, Any]:
    """Settings of the library that do not follow from the schedule."""
    reserved = sorted(_OURS & extra.keys())
    if reserved:
        raise ConfigError(f"extra must not hold what train_yolo sets itself: {', '.join(reserved)}")
    if extra.get("cache") == "disk":
        raise ConfigError("cache must be true or false: disk writes beside the images")
    fits = len(data.images) * image_size**2 * 3 <= _CACHE_BYTES
    return {
        **DEFAULTS,
        "cache": "ram" if fits else False,
        "workers": 8 if target.type == "cuda" else 0,
        "deterministic": True,
        "amp": False,  # switched on by the trainer, without the library's check
        "val": False,
        "save": False,
        "plots": False,
        "verbose": False,
        "exist_ok": True,
        **extra,
    }


def _origin(init: str | Path, backbone: Path | Mapping[str, Tensor] | None) -> list[Any]:
    """What identifies the starting weights."""
    origin: list[Any] = [file_digest(Path(init)) if Path(init).is_file() else str(init)]
    if isinstance(backbone, Path):
        origin.append(file_digest(backbone) if backbone.is_file() else str(backbone))
    elif backbone is not None:
        for name, value in backbone.items():
            flat = value.detach().cpu().float().contiguous().numpy()
            origin.append((name, value.shape, hashlib.blake2b(flat.tobytes()).hexdigest()))
    return origin


def _clear(output: Path) -> None:
    """Remove what an earlier training left, and nothing else."""
    for name in (WEIGHTS_NAME, CHECKPOINT_NAME, _INIT_NAME):
        (output / name).unlink(missing_ok=True)
    for folder in (_LIBRARY_FOLDER, EARLY_FOLDER):
        if (output / folder).is_dir():
            shutil.rmtree(output / folder)


def _start_model(
    init: str | Path,
    backbone: Path | Mapping[str, Tensor] | None,
    plan: StepPlan,
) -> Path:
    """The file that the library's trainer starts from."""
    path = Path(init)
    if path.suffix not in {".yaml", ".yml"} and not path.is_file():
        raise DetectorError(f"init must be a checkpoint on disk or a model YAML, found no {path}")
    if path.suffix in {".yaml", ".yml"}:
        check_model_yaml(str(path))
    if backbone is None:
        return path
    state = read_state_dict(backbone) if isinstance(backbone, Path) else backbone
    model = load_model(path, trust_checkpoint=plan.trust_checkpoint, seed=plan.seed)
    own = model.state_dict()
    fitting = {n: v for n, v in state.items() if n in own and own[n].shape == v.shape}
    if not fitting:
        raise DetectorError(
            f"backbone must hold tensors of the names and shapes of {path}: none of its "
            f"{len(state)} fits"
        )
    model.load_state_dict(fitting, strict=False)
    # The trainer rebuilds a model that was made from a YAML, so its weights must come from a file.
    torch.save({"model": model.half()}, plan.output / _INIT_NAME)
    return plan.output / _INIT_NAME


def _train(library: Any, plan: StepPlan, overrides: dict[str, Any], *, amp: bool) -> Path:
    """Train and return the library's last weights file."""
    try:
        trainer = make_trainer(library, plan, overrides=overrides, amp=amp)
    except (SyntaxError, TypeError, ValueError) as error:
        raise ConfigError(f"ultralytics refuses its settings: {str(error).strip()}") from error
    try:
        # Its progress bars go to stdout, where results belong.
        with contextlib.redirect_stdout(io.StringIO()):
            trainer.train()
    except (RuntimeError, ValueError, OSError) as error:
        raise DetectorError(f"training in {plan.output} failed: {error}") from error
    return Path(trainer.last)
