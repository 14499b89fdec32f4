"""Train torchvision's detectors: a plain loop of a fixed number of optimisation steps."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from detal.datasets.dataset import Dataset
from detal.detectors.weights import fingerprint, resolve_device
from detal.errors import ConfigError, DataError, DetectorError
from detal.files import write_atomic
from detal.seeding import generator, seed_torch
from detal.training.progress import (
    TrainRecord,
    TrainResult,
    check_amounts,
    check_steps,
    digest,
    early_weights,
    learning_rate_factor,
)
from detal.training.torchvision_data import (
    Sample,
    TorchvisionDataset,
    collate,
    training_transform,
)

__all__ = ["TorchvisionTraining", "train_torchvision"]

WEIGHTS_NAME = "weights.pt"
CHECKPOINT_NAME = "resume.pt"


@dataclass(frozen=True)
class TorchvisionTraining:
    """Hyper-parameters of a torchvision training.

    Attributes:
        steps: Optimisation steps.
        batch_size: Images of one step.
        seed: Seed of order, augmentation and the detector's own sampling, >= 0.
        optimizer: ``sgd`` or ``adamw``.
        lr: Highest learning rate.
        momentum: Of ``sgd``.
        weight_decay: Of weights; norms and biases have none.
        warmup_steps: Steps of the linear rise; None: a tenth of the run, at most 500.
        clip_norm: Largest norm of the gradient.
        checkpoint_steps: Steps between two checkpoints.
        time_budget_s: Stop after this wall time even if steps are left.
        workers: Processes that read images; the result does not depend on their number.
        augment: Mirror, shift, scale and change colours.
        keep_steps: Steps, ascending, whose weights are kept as ``early/<step>.pt``.
    """

    steps: int
    batch_size: int = 8
    seed: int = 0
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup_steps: int | None = None
    clip_norm: float = 10.0
    checkpoint_steps: int = 200
    time_budget_s: float | None = None
    workers: int = 0
    augment: bool = True
    keep_steps: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_amounts(
            steps=self.steps,
            batch_size=self.batch_size,
            checkpoint_steps=self.checkpoint_steps,
            time_budget_s=self.time_budget_s,
        )
        check_steps(self.keep_steps, steps=self.steps)
        if self.optimizer not in {"sgd", "adamw"}:
            raise ConfigError(f"optimizer must be sgd or adamw, got {self.optimizer!r}")

    @property
    def rise(self) -> int:
        """Steps of the warm-up."""
        return min(500, self.steps // 10) if self.warmup_steps is None else self.warmup_steps


@dataclass
class _State:
    """How far a training has come; with model and optimizer it is all that a checkpoint needs."""

    done: int = 0
    seconds: float = 0.0
    losses: dict[str, float] | None = None


def train_torchvision(
    model: nn.Module,
    dataset: Dataset,
    *,
    output: str | Path,
    training: TorchvisionTraining,
    device: str = "auto",
    resume: bool = True,
) -> TrainResult:
    """Train a detector of ``torchvision.models.detection`` in place and write its state dict.

    Every step takes ``batch_size`` images from a stream of permutations of the dataset. Crowds are
    left out. All randomness follows from the seed and the step, so a run that was interrupted and
    resumed gives the same weights, on the CPU to the bit, as one that was not.

    Args:
        model: The detector, with C + 1 classes (0 is the background), at its starting weights.
        dataset: Annotated images; those without objects teach the background.
        output: Folder of the run; gets ``weights.pt`` and ``train.json``.
        training: Hyper-parameters.
        device: ``auto``, ``cpu``, ``cuda[:i]`` or ``mps``; mixed precision on CUDA.
        resume: Recognise a finished run and go on with an interrupted one; otherwise start anew.

    Returns:
        What was done; the model is on ``device``, in evaluation mode.

    Raises:
        DataError: If there are no images or no annotations, or an image cannot be read.
        DetectorError: If the loss does not stay finite.
    """
    if len(dataset) == 0:
        raise DataError(f"{dataset.name} must have images to be trained on")
    output, target = Path(output), resolve_device(device)
    source = TorchvisionDataset(
        dataset, transform=training_transform() if training.augment else None
    )
    key = _key(model, dataset, training, target)
    weights, record = output / WEIGHTS_NAME, TrainRecord.read(output) if resume else None
    known = record is not None and record.key == key
    model.to(target)
    if record is not None and known and record.done and weights.is_file():
        model.load_state_dict(torch.load(weights, map_location=target, weights_only=True))
        model.eval()
        return record.result(weights, "finished")
    output.mkdir(parents=True, exist_ok=True)
    if not known:
        for left_over in (WEIGHTS_NAME, CHECKPOINT_NAME):
            (output / left_over).unlink(missing_ok=True)
    going_on = known and (output / CHECKPOINT_NAME).is_file()
    TrainRecord(key=key, done=False).write(output)
    state = _loop(model, source, training, target, checkpoint=output / CHECKPOINT_NAME)
    model.eval()
    _save(weights, model.state_dict())
    record = TrainRecord(
        key=key,
        done=True,
        steps=state.done,
        seconds=state.seconds,
        stopped_by="steps" if state.done == training.steps else "time",
        losses=state.losses,
        settings=asdict(training),
    )
    record.write(output)
    (output / CHECKPOINT_NAME).unlink(missing_ok=True)
    return record.result(weights, "resumed" if going_on else "restarted" if known else "trained")


def _loop(
    model: nn.Module,
    source: TorchvisionDataset,
    training: TorchvisionTraining,
    target: torch.device,
    *,
    checkpoint: Path,
) -> _State:
    optimizer = _optimizer(model, training)
    scaler = torch.amp.GradScaler(target.type, enabled=target.type == "cuda")
    parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "scaler": scaler}
    state = _State()
    if checkpoint.is_file():
        saved = torch.load(checkpoint, map_location=target, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        state = _State(**saved["state"])
    started, before = time.monotonic(), state.seconds
    model.train()
    for images, targets in _batches(source, training, start=state.done):
        factor = learning_rate_factor(state.done, steps=training.steps, warmup_steps=training.rise)
        for group in optimizer.param_groups:
            group["lr"] = training.lr * factor
        seed_torch(_seed(training.seed, "step", state.done))  # detectors sample their proposals
        state.losses = _step(model, images, targets, optimizer, scaler, training.clip_norm)
        state.done += 1
        state.seconds = before + time.monotonic() - started
        _check_finite(state, training)
        if state.done in training.keep_steps:
            early = early_weights(checkpoint.parent, state.done)
            early.parent.mkdir(exist_ok=True)
            _save(early, model.state_dict())
        if training.time_budget_s is not None and state.seconds >= training.time_budget_s:
            break
        if state.done % training.checkpoint_steps == 0 and state.done < training.steps:
            saved = {name: part.state_dict() for name, part in parts.items()}
            _save(checkpoint, {**saved, "state": asdict(state)})
    return state


def _step(
    model: nn.Module,
    images: list[Tensor],
    targets: list[dict[str, Tensor]],
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    clip_norm: float,
) -> dict[str, float]:
    """One optimisation step; the parts of its loss."""
    device = next(model.parameters()).device
    images = [image.to(device) for image in images]
    targets = [{name: value.to(device) for name, value in t.items()} for t in targets]
    with torch.autocast(device.type, enabled=scaler.is_enabled()):
        losses = model(images, targets)
        loss = torch.stack([value.float() for value in losses.values()]).sum()
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    scaler.step(optimizer)
    scaler.update()
    return {name: float(value.detach()) for name, value in losses.items()}


class _Stream(torch.utils.data.Dataset[Sample]):
    """Every draw of a training by its place: which image, and the seed of its augmentation."""

    def __init__(self, source: TorchvisionDataset, *, training: TorchvisionTraining) -> None:
        self.source = source
        self.training = training
        self.turn, self.order = -1, np.zeros(0, dtype=np.int64)

    def __len__(self) -> int:
        return self.training.steps * self.training.batch_size

    def __getitem__(self, place: int) -> Sample:
        seed = self.training.seed
        turn, i = divmod(place, len(self.source))
        if turn != self.turn:
            self.turn, self.order = (
                turn,
                generator(seed, "order", turn).permutation(len(self.source)),
            )
        with torch.random.fork_rng(devices=[]):
            seed_torch(_seed(seed, "augment", place))
            image, target = self.source[int(self.order[i])]
        kept = target["iscrowd"] == 0
        boxwise = {name: target[name][kept] for name in ("boxes", "labels", "area", "iscrowd")}
        return image, {**target, **boxwise}


def _batches(
    source: TorchvisionDataset, training: TorchvisionTraining, *, start: int
) -> Iterator[tuple[list[Tensor], list[dict[str, Tensor]]]]:
    """The batches from step ``start`` on."""
    stream = _Stream(source, training=training)
    size = training.batch_size
    loader: DataLoader[Any] = DataLoader(
        stream,
        sampler=range(start * size, training.steps * size),
        batch_size=size,
        num_workers=training.workers,
        collate_fn=collate,
        generator=torch.Generator(),
    )
    return iter(loader)


def _optimizer(model: nn.Module, training: TorchvisionTraining) -> torch.optim.Optimizer:
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": training.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if training.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=training.lr)
    return torch.optim.SGD(groups, lr=training.lr, momentum=training.momentum, nesterov=True)


def _key(
    model: nn.Module, dataset: Dataset, training: TorchvisionTraining, target: torch.device
) -> str:
    """Digest of what determines the weights."""
    columns = [] if dataset.annotations is None else vars(dataset.annotations).values()
    settings = {**asdict(training), "workers": None}
    if not training.keep_steps:  # what keeps nothing is the training that could not keep anything
        del settings["keep_steps"]
    return digest(
        [
            fingerprint(model),
            sorted(settings.items()),
            target.type,
            dataset.class_names,
            dataset.images.select("image_id", "path").rows(),
            *(np.ascontiguousarray(column).tobytes() for column in columns),
        ]
    )


def _check_finite(state: _State, training: TorchvisionTraining) -> None:
    losses = state.losses or {}
    if not np.isfinite(list(losses.values())).all():
        raise DetectorError(
            f"the training loss must stay finite, got {losses} at step {state.done} of "
            f"{training.steps}: lower the learning rate ({training.lr})"
        )


def _save(path: Path, content: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomic(path, buffer.getvalue())


def _seed(seed: int, *purpose: str | int) -> int:
    return int(generator(seed, *purpose).integers(2**63))
