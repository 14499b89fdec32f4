"""One arm of a study: the rounds of one strategy with one seed.

    <study>/initial/seed-0/            round 0, shared by all strategies of the seed
    <study>/arms/<strategy>/seed-0/round-1/
        weights.pt      the detector trained on everything labelled up to this round
        labeled.json    the images labelled in this round, in the order they were picked
        result.json     what was measured; written last, its existence makes a round done

A killed arm goes on with the first round that has no result.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detal.config import SimulateConfig, StrategyConfig
from detal.datasets import Dataset
from detal.detectors import Detector
from detal.errors import DataError
from detal.evaluation import Predictions, coco_metrics, rare_classes
from detal.loop.duplicates import near_duplicate_share, thumbnails
from detal.runs.building import build_budget, build_dataset, build_detector
from detal.runs.pool import ScoredDataset, candidate_pool
from detal.runs.scoring import open_store, score_into_store
from detal.runs.training import train_detector
from detal.seeding import generator
from detal.strategies import QueryStrategy, make_strategy
from detal.structures import Annotations, Budget

__all__ = ["Study", "arm_folder", "initial_folder", "open_study", "run_arm", "run_initial"]

log = logging.getLogger(__name__)

# The metric counts boxes that a user would never see; COCO keeps 100 an image whatever the score.
_TEST_SCORE_THRESHOLD = 0.001
_MOST_QUERIES = 20


@dataclass(frozen=True, eq=False)
class Study:
    """What all arms of a study share.

    Attributes:
        config: The study.
        pool: Labelled images that play pool and oracle.
        test: Labelled images for the reported metrics.
        rare: (C / 3,) classes with the fewest labels in the pool.
        thumbs: (P, T) unit vectors, for the near-duplicate rate.
    """

    config: SimulateConfig
    pool: Dataset
    test: Dataset
    rare: NDArray[np.int64]
    thumbs: NDArray[np.float32]

    @property
    def truth(self) -> Annotations:
        """Ground truth of the pool."""
        return _annotations(self.pool)

    @property
    def boxes_per_image(self) -> NDArray[np.int64]:
        """(P,) true objects of each pool image."""
        return np.diff(self.truth.offsets)


def open_study(config: SimulateConfig) -> Study:
    """Read the datasets of a study.

    Raises:
        DataError: If the pool or the test set has no annotations, or their classes differ.
    """
    pool, test = build_dataset(config.pool), build_dataset(config.test)
    if pool.class_names != test.class_names:
        raise DataError(
            f"pool and test set must have the same classes in the same order, got "
            f"{list(pool.class_names)} and {list(test.class_names)}"
        )
    _annotations(test)
    counts = _annotations(pool).class_counts(len(pool.class_names))
    return Study(
        config=config,
        pool=pool,
        test=test,
        rare=rare_classes(counts),
        thumbs=thumbnails(pool.images["path"].to_list()),
    )


def _annotations(dataset: Dataset) -> Annotations:
    if dataset.annotations is None:
        raise DataError(f"a simulation needs annotations, {dataset.name} has none")
    return dataset.annotations


def initial_folder(output: Path, seed: int) -> Path:
    """Where round 0 of a seed lies."""
    return output / "initial" / f"seed-{seed}"


def arm_folder(output: Path, strategy: StrategyConfig, seed: int) -> Path:
    """Where the rounds of an arm lie."""
    return output / "arms" / strategy.label / f"seed-{seed}"


def run_initial(study: Study, seed: int) -> None:
    """Draw the initial set of a seed, train on it and measure; nothing to do if that is done."""
    folder = initial_folder(Path(study.config.output), seed)
    if (folder / "result.json").exists():
        return
    initial = study.config.initial
    order = generator(seed, "initial").permutation(len(study.pool))
    costs = study.boxes_per_image if initial.unit == "boxes" else np.ones(len(order), np.int64)
    number = int(np.searchsorted(np.cumsum(costs[order]), initial.amount, side="right"))
    _finish_round(study, folder, rows=order[: max(number, 1)], before=[], seed=seed, timings={})


def run_arm(study: Study, strategy: StrategyConfig, seed: int) -> None:
    """Run the rounds of an arm that are not done yet; round 0 must be."""
    config = study.config
    output = Path(config.output)
    previous = initial_folder(output, seed)
    labeled = _read_rows(study, previous)
    for round_idx in range(1, config.rounds + 1):
        folder = arm_folder(output, strategy, seed) / f"round-{round_idx}"
        if not (folder / "result.json").exists():
            rows, timings = _select(
                study, strategy, seed, labeled, weights=previous / "weights.pt", folder=folder
            )
            if len(rows) == 0:
                log.warning("%s: nothing is left to label, the arm ends here", folder)
                return
            _finish_round(study, folder, rows=rows, before=labeled, seed=seed, timings=timings)
        labeled = [*labeled, *_read_rows(study, folder)]
        previous = folder


def _select(
    study: Study,
    strategy: StrategyConfig,
    seed: int,
    labeled: Sequence[int],
    *,
    weights: Path,
    folder: Path,
) -> tuple[NDArray[np.int64], dict[str, float]]:
    """Rows of the pool to label in the round of ``folder``, with the detector trained before it."""
    config = study.config
    started = time.monotonic()
    detector = _detector(study, weights, score_threshold=None)
    scored = _score(study.pool, detector, folder / "store")
    scoring_s = time.monotonic() - started
    started = time.monotonic()
    rows = label_within_budget(
        scored,
        labeled,
        strategy=make_strategy(strategy.name, **strategy.options),
        budget=build_budget(config.budget),
        rng=generator(seed, "select", strategy.label, folder.name),
        min_distance=config.dedup.distance,
        per_group=config.dedup.per_group,
    )
    return rows, {"scoring_s": scoring_s, "selection_s": time.monotonic() - started}


def label_within_budget(
    pool: ScoredDataset,
    labeled: Sequence[int],
    *,
    strategy: QueryStrategy,
    budget: Budget,
    rng: np.random.Generator,
    min_distance: float = 0.0,
    per_group: int | None = None,
) -> NDArray[np.int64]:
    """Let an annotator work through a strategy's batches until the *true* cost uses the budget.

    The strategy sees expected boxes only. Where it expected too many, it is asked again with what
    is left; the first image that does not fit ends the round.

    Args:
        pool: Fully annotated pool of P images.
        labeled: Rows labelled before.
        strategy: Chooses, without seeing an annotation.
        budget: In images, true boxes or seconds.
        rng: Source of everything random.
        min_distance: Near-duplicate guard.
        per_group: Group guard.

    Returns:
        (K,) rows of the pool, in the order they were labelled.
    """
    costs = budget.costs(np.diff(_annotations(pool.dataset).offsets))
    left = budget.amount
    batch: list[int] = []
    for _ in range(_MOST_QUERIES):
        known = np.array([*labeled, *batch], dtype=np.int64)
        rest = np.setdiff1d(np.arange(len(pool.dataset)), known)
        candidates = candidate_pool(
            pool.take(rest), pool.take(known), class_names=pool.dataset.class_names
        )
        selection = strategy.query(
            candidates.candidates,
            budget=replace(budget, amount=left),
            rng=rng,
            min_distance=min_distance,
            per_group=per_group,
        )
        for row in pool.dataset.index_of(selection.image_ids):
            if costs[row] > left:
                return np.array(batch, dtype=np.int64)
            batch.append(int(row))
            left -= costs[row]
        if len(selection) == 0 or left < costs.min(initial=np.inf):
            break
    return np.array(batch, dtype=np.int64)


def _finish_round(
    study: Study,
    folder: Path,
    *,
    rows: NDArray[np.int64],
    before: Sequence[int],
    seed: int,
    timings: dict[str, float],
) -> None:
    """Train on everything labelled, measure on the test set, write the round's files."""
    config = study.config
    folder.mkdir(parents=True, exist_ok=True)
    everything = np.array([*before, *rows], dtype=np.int64)
    ids = study.pool.image_ids
    _write_json(folder / "labeled.json", [ids[row] for row in rows])
    started = time.monotonic()
    # The training seed depends on the arm's seed alone: same start, same order of random draws.
    trained = train_detector(
        config.training,
        study.pool.take(everything),
        output=folder / "train",
        seed=seed,
        device=config.device,
    )
    shutil.copyfile(trained.weights, folder / "weights.pt")
    timings = {**timings, "training_s": time.monotonic() - started}
    detector = _detector(study, folder / "weights.pt", score_threshold=_TEST_SCORE_THRESHOLD)
    scored = _score(study.test, detector, folder / "store")
    metrics = coco_metrics(
        _annotations(study.test),
        Predictions.from_detections(scored.stored.detections(np.arange(len(study.test)))),
        class_names=study.test.class_names,
    )
    result = {
        "steps": trained.steps,
        **_spent(study, everything),
        **_batch_figures(study, rows, before),
        "rare_third_ap": metrics.mean_of(study.rare),
        **metrics.to_dict(),
        "timings": timings,
    }
    for scratch in ("train", "store"):
        shutil.rmtree(folder / scratch, ignore_errors=True)
    _write_json(folder / "result.json", result)


def _spent(study: Study, rows: NDArray[np.int64]) -> dict[str, float]:
    """What the labels cost so far, on all three axes."""
    boxes = study.boxes_per_image[rows]
    seconds = replace(build_budget(study.config.budget), unit="seconds").costs(boxes)
    return {
        "images": len(rows),
        "boxes": int(boxes.sum()),
        "seconds": float(seconds.sum()),
    }


def _batch_figures(study: Study, rows: NDArray[np.int64], before: Sequence[int]) -> dict[str, Any]:
    counts = study.truth.take(rows).class_counts(len(study.pool.class_names))
    shares = counts[counts > 0] / max(int(counts.sum()), 1)
    entropy = float(-(shares * np.log(shares)).sum())
    return {
        "batch_images": len(rows),
        "batch_class_counts": counts.tolist(),
        "batch_class_entropy": entropy,
        "batch_near_duplicates": near_duplicate_share(
            study.thumbs[rows], study.thumbs[np.array(before, dtype=np.int64)]
        ),
    }


def _read_rows(study: Study, folder: Path) -> list[int]:
    ids = json.loads((folder / "labeled.json").read_text(encoding="utf-8"))
    return [int(row) for row in study.pool.index_of(ids)]


def _write_json(path: Path, value: Any) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False), encoding="utf-8")
    temporary.replace(path)


def _detector(study: Study, weights: Path, *, score_threshold: float | None) -> Detector:
    config = study.config
    changes: dict[str, Any] = {
        "type": config.training.type,
        "weights": str(weights),
        "image_size": config.training.image_size,
    }
    if config.training.type == "torchvision":
        changes["architecture"] = config.training.init
    if score_threshold is not None:
        changes["score_threshold"] = score_threshold
    return build_detector(
        config.detector.model_copy(update=changes),
        device=config.device,
        class_names=study.pool.class_names,
        category_ids=study.pool.category_ids,
        image_id_of={},
    )


def _score(dataset: Dataset, detector: Detector, root: Path) -> ScoredDataset:
    stored, _ = score_into_store(
        open_store(root, detector),
        detector,
        dataset.images["path"].to_list(),
        shard_size=1024,
        batch_size=16,
        threads=1,
        progress=lambda done, total: None,
    )
    return ScoredDataset(dataset=dataset, stored=stored)
