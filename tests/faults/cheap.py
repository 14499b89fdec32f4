"""Preloaded where victims are forked, and nowhere else: what costs most, costs next to nothing.

Pictures are a few bytes in the same places. A training writes as a real one does (data, a
checkpoint a step, weights last) and goes on from its last checkpoint; its weights are those it
starts from. That real trainings go on to equal weights after a kill is tested in `tests/training`.
The units of a study run one after the other in the victim's own process.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import detal.loop.simulate
import detal.loop.study
import detal.loop.summary
import detal.review.export
import detal.runs.select
from detal.config import TrainingConfig
from detal.datasets import Dataset
from detal.detectors.yolo import import_ultralytics
from detal.files import write_atomic, write_json
from detal.manifests import staged_folder, write_yolo_dataset
from detal.training import TrainResult

_STEP_S = 0.02


def _train(
    config: TrainingConfig, dataset: Dataset, *, output: Path, seed: int, device: str
) -> TrainResult:
    if not (output / "data").exists():
        with staged_folder(output / "data") as folder:
            write_yolo_dataset(folder, dataset)
    checkpoint, weights = output / "run" / "checkpoint.json", output / "run" / "weights.pt"
    done = json.loads(checkpoint.read_text()) if checkpoint.exists() else 0
    for step in range(done, config.steps):
        time.sleep(_STEP_S)
        write_json(checkpoint, step + 1)
    write_atomic(weights, Path(config.init).read_bytes())
    return TrainResult(
        weights=weights, steps=config.steps, seconds=0, how="trained", stopped_by="steps", losses={}
    )


def _run_units(
    stages: Iterable[Sequence[tuple[Any, ...]]], *, runner: object, progress: Callable[[], None]
) -> None:
    for units in stages:
        for function, *arguments in units:
            function(*arguments)
            progress()


def _draw(path: Path, *_args: object, **_options: object) -> None:
    path.write_bytes(b"a picture")


class _NoFigure:
    def savefig(self, path: Path, **_options: object) -> None:
        _draw(path)


import_ultralytics()
for module, name, cheap in (
    (detal.loop.study, "train_detector", _train),
    (detal.loop.simulate, "run_units", _run_units),
    (detal.loop.summary, "_plot", lambda points: _NoFigure()),
    (detal.runs.select, "write_contact_sheet", _draw),
    (detal.review.export, "write_contact_sheet", _draw),
):
    assert hasattr(module, name)
    setattr(module, name, cheap)
