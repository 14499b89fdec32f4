"""Arms that are told what no strategy may see; they show how much there is to be had.

They run in simulations only and are never offered as strategies.

* ``oracle_loss`` ranks images by their true detection loss: uncertainty without its errors. It is
  not an upper bound: what is wrong most may be what cannot be learned.
* ``oracle_retraining`` draws several random batches, trains on each, and keeps the one whose
  detector is best on the study's reference set, which is neither pool nor test set.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from detal.config import StrategyConfig
from detal.errors import ConfigError, DataError, unknown_name
from detal.features.detection_loss import detection_loss
from detal.files import read_own, write_json
from detal.runs.pool import ScoredDataset
from detal.strategies import Candidates, MeasureSelector, Order
from detal.strategies.scored import highest_first
from detal.structures import Budget

__all__ = ["ORACLES", "best_random_batch", "check_oracle", "oracle_loss"]

LossPer = Literal["box", "image"]
Rows = NDArray[np.int64]


def oracle_loss(pool: ScoredDataset, *, per: LossPer = "box") -> MeasureSelector:
    """Images on which the detector is wrong most, by their ground truth.

    Args:
        pool: Scored and fully annotated.
        per: The loss per ``box``, for budgets in boxes, or of the whole ``image``.
    """
    truth = pool.dataset.annotations
    if truth is None:
        raise DataError(f"an oracle needs annotations, {pool.dataset.name} has none")
    loss = np.zeros(len(pool.dataset))
    for index, detections in pool.stored.chunks():
        loss[index] = detection_loss(detections, truth.take(index)).numpy()
    if per == "image":
        loss *= np.maximum(np.diff(truth.offsets), 1)
    loss_of = dict(zip(pool.dataset.image_ids, loss.tolist(), strict=True))

    def select(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
        values = np.array([loss_of[image_id] for image_id in candidates.image_ids])
        return highest_first(values, rng, name=f"true loss of the {per}")

    return MeasureSelector(select=select)


def best_random_batch(
    *,
    batches: int = 8,
    draw: Callable[[int], Rows],
    judge: Callable[[Rows], float],
    folder: Path,
) -> Rows:
    """The best of several random batches, each truly trained on.

    Args:
        batches: How many.
        draw: Gives batch 0, 1, …
        judge: mAP on the reference set after training with a batch.
        folder: Keeps each verdict, so that a killed run goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [draw(number) for number in range(batches)]
    verdicts = []
    for number, rows in enumerate(drawn):
        path = folder / f"batch-{number}.json"
        if not path.exists():
            write_json(path, {"mean_ap": judge(rows)}, allow_nan=True)
        verdicts.append(read_own(path)["mean_ap"])
    return drawn[int(np.argmax(verdicts))]


ORACLES = {"oracle_loss": ("per",), "oracle_retraining": ("batches",)}
"""The arms by name, with their options."""


def check_oracle(strategy: StrategyConfig, *, has_reference: bool) -> None:
    """Refuse wrong options of an oracle arm.

    Raises:
        ConfigError: If an option is unknown or wrong, or the reference set is missing.
    """
    own = ORACLES[strategy.name]
    for option, value in strategy.options.items():
        if option not in own:
            raise ConfigError(unknown_name(f"option of {strategy.name}", option, own))
        if option == "per" and value not in get_args(LossPer):
            raise ConfigError(unknown_name("loss", str(value), get_args(LossPer)))
        if option == "batches" and not (isinstance(value, int) and value >= 1):
            raise ConfigError(f"batches must be a whole number >= 1, got {value!r}")
    if strategy.name == "oracle_retraining" and not has_reference:
        raise ConfigError("oracle_retraining judges batches on a reference set: set `reference`")
