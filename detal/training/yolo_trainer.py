"""Ultralytics' own trainer, run for an exact number of optimisation steps.

What differs from ``YOLO.train`` is done by callbacks and by the methods that the library gives its
subclasses for it: batches are drawn from a stream of permutations, so that a step has the same size
and the schedule the same shape whatever the number of images; the learning rate follows the step;
nothing is validated; the state is saved so that an interrupted run goes on as if it had not been.
"""

from __future__ import annotations

import importlib
import io
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detal.detectors.yolo import load_model
from detal.detectors.yolo_checkpoints import activation_kept
from detal.errors import DetectorError
from detal.files import write_atomic
from detal.seeding import generator
from detal.training.progress import (
    StopReason,
    early_weights,
    learning_rate_factor,
)
from detal.training.yolo_data import YoloData

__all__ = ["StepPlan", "make_trainer"]

MIN_EPOCHS, MAX_EPOCH_STEPS = 20, 500
CHECKPOINT_NAME = "resume.pt"
LABEL_CACHE_NAME = "labels.cache"


@dataclass
class StepPlan:
    """The schedule of one run, and how far it has come.

    Attributes:
        steps: Optimisation steps to do.
        batch_size: Images of a step.
        seed: Seed of everything random.
        data: The training images.
        output: Folder of the run.
        key: Digest of everything that determines the weights.
        time_budget_s: Wall time after which it stops, or None.
        checkpoint_s: Least wall time between two checkpoints.
        keep_steps: Steps whose weights are kept.
        trust_checkpoint: Load the checkpoint it starts from whatever it holds.
        done: Steps done.
        seconds: Wall time of earlier sessions.
        started: Clock at which this session's first step began.
        stopped_by: Why it ended.
        losses: Mean of each part of the loss over the last epoch.
        saved: Clock at the last checkpoint.
    """

    steps: int
    batch_size: int
    seed: int
    data: YoloData
    output: Path
    key: str
    time_budget_s: float | None = None
    checkpoint_s: float = 30.0
    keep_steps: tuple[int, ...] = ()
    trust_checkpoint: bool = False
    done: int = 0
    seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)
    stopped_by: StopReason = "steps"
    losses: dict[str, float] = field(default_factory=dict)
    saved: float = field(default_factory=time.monotonic)

    @property
    def epochs(self) -> int:
        """What the library calls epochs: equal stretches of steps, whatever the images."""
        return math.ceil(self.steps / self.epoch_steps)

    @property
    def epoch_steps(self) -> int:
        """Steps of one such stretch (the last may be shorter)."""
        return min(MAX_EPOCH_STEPS, math.ceil(self.steps / MIN_EPOCHS))

    @property
    def warmup_steps(self) -> int:
        """A tenth of the run, at most 100 steps."""
        return min(100, self.steps // 10)

    @property
    def elapsed_s(self) -> float:
        """Wall time of all sessions."""
        return self.seconds + time.monotonic() - self.started


class _Stream(torch.utils.data.Sampler[int]):
    """Image indices, one permutation after another, in pieces of one epoch each."""

    def __init__(self, num_images: int, *, plan: StepPlan) -> None:
        self.num_images = num_images
        self.plan = plan
        self.position = 0

    def __len__(self) -> int:
        return self.plan.epoch_steps * self.plan.batch_size

    def __iter__(self) -> Iterator[int]:
        start, self.position = self.position, self.position + len(self)
        for place in range(start, start + len(self)):
            turn, i = divmod(place, self.num_images)
            if i == 0 or place == start:
                order = generator(self.plan.seed, "order", turn).permutation(self.num_images)
            yield int(order[i])


def make_trainer(library: Any, plan: StepPlan, *, overrides: dict[str, Any], amp: bool) -> Any:
    """A trainer of the library, ready for ``train()``.

    Args:
        library: The ultralytics package.
        plan: The schedule; its progress is updated in place.
        overrides: Settings of the library.
        amp: Mixed precision, without the library's check (which downloads a model).
    """
    base: Any = importlib.import_module(f"{library.__name__}.models.yolo.detect").DetectionTrainer
    torch_utils = importlib.import_module(f"{library.__name__}.utils.torch_utils")

    # The library adds its reporting callbacks to classes with "Trainer" in their name.
    class FixedSteps(base):  # type: ignore[misc]
        def get_dataset(self) -> dict[str, Any]:
            names = dict(enumerate(plan.data.class_names))
            path = plan.data.file.parent
            return {
                "path": path,
                "train": str(plan.data.file),
                "val": str(plan.data.file),
                "names": names,
                "nc": len(names),
                "channels": 3,
                "yaml_file": str(plan.data.file),
            }

        def get_dataloader(
            self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train"
        ) -> Any:
            if mode != "train":
                return self.train_loader  # the validator is built but never run
            stride = max(int(torch_utils.unwrap_model(self.model).stride.max()), 32)
            dataset = _dataset(library, plan, self.args, self.data, stride)
            return _loader(library, plan, dataset, self.args.workers, self.device)

        model: Any

        def setup_model(self) -> Any:
            with activation_kept():
                if not str(self.model).lower().endswith(".pt"):
                    return super().setup_model()
                start: Any = load_model(str(self.model), trust_checkpoint=plan.trust_checkpoint)
                self.model = self.get_model(cfg=start.yaml, weights=start, verbose=False)
                return None

        def validate(self) -> tuple[dict[str, float], float]:
            return {}, 0.0

        def final_eval(self) -> None:
            self.save_model()
            torch_utils.strip_optimizer(self.last)

    trainer = FixedSteps(overrides=overrides)
    handlers = {
        "on_pretrain_routine_end": lambda t: _begin(t, plan, amp=amp),
        "on_train_epoch_start": lambda t: _begin_epoch(t, plan, torch_utils),
        "on_train_batch_start": lambda t: _begin_step(t, plan),
        "on_train_batch_end": lambda t: _end_step(t, plan, torch_utils),
        "on_train_epoch_end": lambda t: _end_epoch(t, plan),
    }
    for event, handler in handlers.items():
        trainer.add_callback(event, handler)
    return trainer


def _dataset(library: Any, plan: StepPlan, args: Any, data: dict[str, Any], stride: int) -> Any:
    base: Any = importlib.import_module(f"{library.__name__}.data.dataset").YOLODataset

    class OwnCache(base):  # type: ignore[misc]
        """Keeps the library from reading and writing label caches beside the user's labels.

        Such a cache is trusted if the files have equal total size (a moved box often has), lies in
        a folder that may be read-only, and is fought over by runs side by side.
        """

        def get_img_files(self, img_path: Any) -> list[str]:
            return [str(image) for image in plan.data.images]

        def _load_or_scan_cache(self, cache_path: Path, cache_hash: str) -> tuple[Any, bool]:
            return self.cache_labels(cache_path), False

        def cache_labels(self, path: Path | None = None) -> Any:
            return super().cache_labels(plan.output / LABEL_CACHE_NAME)

    return OwnCache(
        img_path=str(plan.data.file),
        imgsz=args.imgsz,
        batch_size=plan.batch_size,
        augment=True,
        hyp=args,
        rect=False,
        cache=args.cache or None,
        single_cls=False,
        stride=stride,
        pad=0.0,
        task="detect",
        data=data,
    )


def _loader(library: Any, plan: StepPlan, dataset: Any, workers: int, device: torch.device) -> Any:
    build = importlib.import_module(f"{library.__name__}.data.build")
    workers = min(workers, plan.epoch_steps, os.cpu_count() or 1)
    return build.InfiniteDataLoader(
        dataset=dataset,
        batch_size=plan.batch_size,
        sampler=_Stream(len(dataset), plan=plan),
        num_workers=workers,
        pin_memory=device.type == "cuda",
        collate_fn=dataset.collate_fn,
        worker_init_fn=build.seed_worker,
        generator=torch.Generator(),
    )


def _begin(trainer: Any, plan: StepPlan, *, amp: bool) -> None:
    if amp:
        trainer.amp = True
        trainer.scaler = torch.amp.GradScaler("cuda")
    path = plan.output / CHECKPOINT_NAME
    if path.is_file():
        _restore(trainer, plan, torch.load(path, map_location=trainer.device, weights_only=True))
    plan.started = plan.saved = time.monotonic()


def _restore(trainer: Any, plan: StepPlan, state: dict[str, Any]) -> None:
    trainer.model.load_state_dict(state["model"])
    trainer.ema.ema.load_state_dict(state["ema"])
    trainer.ema.updates = state["updates"]
    trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.scaler.load_state_dict(state["scaler"])
    trainer.start_epoch = state["epochs"]
    trainer.scheduler.last_epoch = trainer.start_epoch - 1
    trainer.train_loader.sampler.position = trainer.start_epoch * len(trainer.train_loader.sampler)
    plan.done, plan.seconds = trainer.start_epoch * plan.epoch_steps, state["seconds"]
    if trainer.start_epoch > trainer.epochs - trainer.args.close_mosaic:
        trainer._close_dataloader_mosaic()  # some versions do so at that very epoch only
        trainer.train_loader.reset()
    criterion = trainer.model.init_criterion()
    if hasattr(criterion, "update"):  # two-headed models shift weight between heads by epoch
        trainer.model.criterion = criterion
        for _ in range(trainer.start_epoch):
            criterion.update()


def _begin_epoch(trainer: Any, plan: StepPlan, torch_utils: Any) -> None:
    # Augmentation draws from the global generators; seeded anew each epoch, it does not depend on
    # whether the run was interrupted before.
    seed = int(generator(plan.seed, "epoch", trainer.epoch).integers(2**31))
    torch_utils.init_seeds(seed, deterministic=bool(trainer.args.deterministic))


def _begin_step(trainer: Any, plan: StepPlan) -> None:
    if trainer.batch_size != plan.batch_size:  # the library halves it when memory runs out
        raise DetectorError(
            f"a batch of {plan.batch_size} images of {trainer.args.imgsz} px does not fit into the "
            f"memory of {trainer.device}: take a smaller batch_size"
        )
    factor = learning_rate_factor(
        plan.done,
        steps=plan.steps,
        warmup_steps=plan.warmup_steps,
        final=trainer.args.lrf,
        cosine=bool(trainer.args.cos_lr),
    )
    for group in trainer.optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor


def _end_step(trainer: Any, plan: StepPlan, torch_utils: Any) -> None:
    plan.done += 1
    if plan.done in plan.keep_steps:
        _keep(trainer, early_weights(plan.output, plan.done), torch_utils)
    late = plan.time_budget_s is not None and plan.elapsed_s >= plan.time_budget_s
    if plan.done >= plan.steps or late:
        plan.stopped_by = "steps" if plan.done >= plan.steps else "time"
        trainer.stop = True


def _keep(trainer: Any, path: Path, torch_utils: Any) -> None:
    """Write the moving average of the weights as a checkpoint of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    trainer.save_model()
    torch_utils.strip_optimizer(trainer.last)
    Path(trainer.last).replace(path)


def _end_epoch(trainer: Any, plan: StepPlan) -> None:
    losses = trainer.tloss  # a tensor in older versions
    if not isinstance(losses, dict):
        losses = dict(zip(trainer.loss_names, losses.tolist(), strict=True))
    plan.losses = {name: float(value) for name, value in losses.items()}
    if not np.isfinite(list(plan.losses.values())).all():
        raise DetectorError(
            f"the training loss must stay finite, got {plan.losses} by step {plan.done} of "
            f"{plan.steps}: lower the learning rate (lr0)"
        )
    if trainer.stop or time.monotonic() - plan.saved < plan.checkpoint_s:
        return
    buffer = io.BytesIO()
    state = {
        "epochs": trainer.epoch + 1,
        "seconds": plan.elapsed_s,
        "model": trainer.model.state_dict(),
        "ema": trainer.ema.ema.state_dict(),
        "updates": trainer.ema.updates,
        "optimizer": trainer.optimizer.state_dict(),
        "scaler": trainer.scaler.state_dict(),
    }
    torch.save(state, buffer)
    write_atomic(plan.output / CHECKPOINT_NAME, buffer.getvalue())
    plan.saved = time.monotonic()
