"""Active learning around a training loop that is the user's own.

    for round in ActiveLearning("run.yaml", oracle=label, rounds=3, output="runs/loop"):
        model = YOLO("yolo11n.pt")
        model.train(data=round.data_yaml, epochs=50)
        round.weights = model.trainer.best

Files below the output:

    labeled/             the labelled set (`detal.loop.labeled_set`); grows with every round
    round-1/manifest/    what was chosen to be labelled in round 1
    round-1/weights.pt   the weights that the user's loop gave back in round 1
    round-1/done.json    written last: its existence makes a round done
    curve.csv            boxes and mAP of the rounds whose body set ``round.mean_ap``
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from detal.config import DatasetConfig, LabeledConfig, SelectConfig
from detal.datasets.dataset import IMAGE_COLUMNS, Dataset
from detal.errors import ConfigError, DataError
from detal.files import read_own, replacing, write_json
from detal.locking import lock_beside, locked
from detal.loop.advice import read_curve, stopping_advice
from detal.loop.asked import Asked, read_asked
from detal.loop.callbacks import select_config
from detal.loop.curves import StopRule
from detal.loop.holdout import refuse_holdout
from detal.loop.labeled_set import IMAGE_ID, LabeledSet
from detal.loop.merge import merge_dataset, open_labeled_set, write_labeled_set
from detal.manifests import recover_folder
from detal.runs.building import build_dataset
from detal.runs.select import run_select
from detal.structures import Annotations
from detal.training.torchvision_data import TorchvisionDataset

__all__ = ["ActiveLearning", "Oracle", "Round"]

_FEWEST_TO_STOP = 3

log = logging.getLogger(__name__)

Oracle = Callable[[list[str]], Dataset | Annotations]
"""Given image ids of the pool, their true boxes: a `Dataset` with these ids or files, in which some
may be missing, or `Annotations` of these images in this order, labels as the detector counts them
(those of ``data.yaml``)."""


@dataclass(eq=False)
class Round:
    """One round, handed to the body of the user's loop.

    Attributes:
        round_idx: 0 for what was labelled at the start.
        output: Folder of the round.
        data_yaml: For ``yolo train data=…``: everything labelled so far.
        labeled: The same as a dataset.
        weights: To be set by the body: the checkpoint it trained.
        mean_ap: May be set by the body: mAP (0..1) on a set of its own, for the stopping rule and
            ``curve.csv``.
    """

    round_idx: int
    output: Path
    data_yaml: str
    labeled: Dataset
    weights: str | Path | None = None
    mean_ap: float | None = None

    def dataset(self, *, transform: Callable[[Any, Any], Any] | None = None) -> TorchvisionDataset:
        """Everything labelled so far for a torchvision detector.

        Args:
            transform: Maps ``(image, target)`` to what the detector takes.
        """
        return TorchvisionDataset(self.labeled, transform=transform)


class ActiveLearning:
    """Iterate over rounds: yield what is labelled, take weights back, have the next batch labelled.

    A round is done when its body has ended and left weights; running the program again goes on with
    the first round that is not. Without an oracle the iteration ends when a batch waits for people:
    the log says what to label and how to merge it, and the next run of the program goes on.

    Args:
        config: The pool, strategy, budget … as for `detal select`, or its YAML file. Its
            ``labeled`` is round 0; without it the first batch is chosen with the config's own
            detector and the first round is 1.
        rounds: How many batches are chosen.
        oracle: Labels images (`Oracle`); a labelled dataset plays one in simulations.
        output: Folder of the loop, in place of the config's ``output``.
        val: Labelled dataset that ``data.yaml`` validates on; no image of it may be in the pool.
        stop: Ends the loop early, from the third round whose ``mean_ap`` was set on.

    Raises:
        ConfigError: If the config or ``rounds`` is wrong.
    """

    def __init__(
        self,
        config: SelectConfig | str | Path,
        *,
        rounds: int,
        oracle: Oracle | Dataset | None = None,
        output: str | Path | None = None,
        val: DatasetConfig | str | Path | None = None,
        stop: StopRule | None = None,
    ) -> None:
        if rounds < 0:
            raise ConfigError(f"rounds must be 0 or more, got {rounds}")
        self.config = select_config(config, output=output)
        self.rounds = rounds
        self.oracle = oracle
        if isinstance(val, str | Path):
            val = DatasetConfig(path=str(Path(val).absolute()))
        self.val = val
        self.stop = stop
        self.output = Path(self.config.output)

    def __iter__(self) -> Iterator[Round]:
        with locked(self.output / ".lock", work=self.output):
            yield from self._rounds()

    def _rounds(self) -> Iterator[Round]:
        self._start()
        weights: Path | None = None
        for round_idx in range(self.rounds + 1):
            folder = self.output / f"round-{round_idx}"
            if round_idx > 0 and not self._label(folder / "manifest", weights):
                return
            if round_idx == 0 and self.config.labeled is None:
                continue
            if not (folder / "done.json").exists():
                labeled = LabeledSet.read(self._labeled)
                this = Round(
                    round_idx=round_idx,
                    output=folder,
                    data_yaml=str(self._labeled / "yolo" / "data.yaml"),
                    labeled=labeled.dataset,
                )
                folder.mkdir(parents=True, exist_ok=True)
                yield this
                _finish(this, is_last=round_idx == self.rounds)
            weights = _weights_of(folder)
            if self._enough():
                return

    @property
    def _labeled(self) -> Path:
        return self.output / "labeled"

    def _enough(self) -> bool:
        """Write the curve of the rounds measured so far; whether the rule says to stop."""
        done = sorted(self.output.glob("round-*/done.json"))
        records = [read_own(path) for path in done]
        rows = [r for r in records if r["mean_ap"] is not None and r["boxes"] > 0]
        if not rows:
            return False
        table = pl.DataFrame(rows).select("images", "boxes", "mean_ap").sort("boxes")
        table.write_csv(self.output / "curve.csv")
        if self.stop is None or len(table) < _FEWEST_TO_STOP:
            return False
        advice = stopping_advice(read_curve(self.output / "curve.csv"), self.stop)
        log.warning("%s", advice)
        return bool(advice.stop)

    def _has_labels(self) -> bool:
        return (self._labeled / "labeled.json").exists()

    def _start(self) -> None:
        """Write the labelled set of round 0, unless it is there, and see to its validation set."""
        with locked(lock_beside(self._labeled), work=self._labeled):
            recover_folder(self._labeled)
        if self._has_labels():
            start = LabeledSet.read(self._labeled)
            if self.val in (None, start.val):
                return
        elif self.config.labeled is not None:
            start = open_labeled_set(self.config.labeled, ())
        else:
            return
        if self.val is not None:
            refuse_holdout(start.dataset.images, [build_dataset(self.val)])
        write_labeled_set(self._labeled, replace(start, val=self.val), report=None)

    def _label(self, manifest: Path, weights: Path | None) -> bool:
        """Choose a batch and have it labelled, as far as that is not done; False to stop here."""
        if not (manifest / "selection.csv").exists():
            if weights is None and self._has_labels():
                raise ConfigError(
                    f"the round before {manifest.parent.name} must have left weights, it has none"
                )
            run_select(self._select_config(manifest, weights))
        asked = read_asked(manifest)
        if not asked.images:
            log.warning("nothing in the pool is left to label")
            return False
        if self._has_labels() and asked.key in LabeledSet.read(self._labeled).runs:
            return True
        if self.oracle is None:
            log.warning(
                "label the %d images of %s, merge them with `detal merge %s ANNOTATIONS --into %s` "
                "and run this program again",
                len(asked.images),
                manifest,
                manifest,
                self._labeled,
            )
            return False
        merge_dataset(
            asked,
            _answer(self.oracle, asked),
            into=self._labeled,
            start=self.config.labeled,
            val=self.val,
        )
        return True

    def _select_config(self, manifest: Path, weights: Path | None) -> SelectConfig:
        config = self.config
        changes: dict[str, Any] = {
            "output": str(manifest),
            "store": config.store or str(self.output / "detal_store"),
        }
        if weights is not None:
            changes["detector"] = config.detector.model_copy(update={"weights": str(weights)})
        if self._has_labels():
            changes["labeled"] = LabeledConfig(
                path=str(self._labeled / "labeled.json"),
                format="coco",
                same_id=config.labeled is None or config.labeled.same_id,
            )
        return config.model_copy(update=changes)


def _finish(this: Round, *, is_last: bool) -> None:
    """Keep the weights of a round and mark it as done."""
    name = None
    if this.weights is not None:
        source = Path(this.weights)
        if not source.is_file():
            raise ConfigError(f"round.weights must be a file, found none: {source}")
        name = f"weights{source.suffix}"
        with replacing(this.output / name) as temporary:
            shutil.copyfile(source, temporary)
    elif not is_last:
        raise ConfigError(
            f"the body of the loop must set round.weights to the checkpoint it trained; it left "
            f"none in round {this.round_idx}"
        )
    annotations = this.labeled.annotations
    record = {
        "weights": name,
        "mean_ap": None if this.mean_ap is None else float(this.mean_ap),
        "images": len(this.labeled),
        "boxes": 0 if annotations is None else len(annotations.boxes),
    }
    write_json(this.output / "done.json", record, allow_nan=True)


def _weights_of(folder: Path) -> Path | None:
    name = read_own(folder / "done.json")["weights"]
    return None if name is None else folder / name


def _answer(oracle: Oracle | Dataset, asked: Asked) -> Dataset:
    """What the oracle says, each image with the id it was asked by."""
    found = oracle if isinstance(oracle, Dataset) else oracle([i.image_id for i in asked.images])
    if isinstance(found, Annotations):
        columns = {name: [getattr(i, name) for i in asked.images] for name in IMAGE_COLUMNS}
        found = Dataset(
            name="oracle",
            images=pl.DataFrame(columns, schema=IMAGE_COLUMNS),
            class_names=asked.class_names,
            category_ids=tuple(range(len(asked.class_names))),
            annotations=found,
        )
    if found.annotations is None:
        raise DataError(f"the oracle must give annotations, {found.name} has none")
    matches = _by_path(found, asked) or _by_id(found, asked)
    stamped = found.take([row for row, _ in matches])
    source_ids = pl.Series(IMAGE_ID, [image_id for _, image_id in matches], dtype=pl.String)
    return replace(stamped, images=stamped.images.with_columns(source_ids), problems=())


def _by_path(found: Dataset, asked: Asked) -> list[tuple[int, str]]:
    id_of = {os.path.realpath(image.path): image.image_id for image in asked.images}
    files = [os.path.realpath(path) for path in found.images["path"]]
    return [(row, id_of[file]) for row, file in enumerate(files) if file in id_of]


def _by_id(found: Dataset, asked: Asked) -> list[tuple[int, str]]:
    ids = {image.image_id for image in asked.images}
    return [(row, i) for row, i in enumerate(found.images["image_id"]) if i in ids]
