"""One arm of a study: the rounds of one strategy with one seed.

    <study>/initial/seed-0/            round 0, shared by all strategies of the seed
    <study>/arms/<strategy>/seed-0/round-1/
        weights.pt      the detector trained on everything labelled up to this round
        labeled.json    the images labelled in this round, in the order they were picked
        result.json     what was measured; written last, its existence makes a round done

A killed arm goes on with the first round that has no result.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detal.config import StrategyConfig
from detal.files import read_own, write_json
from detal.loop.choosing import choose_batch, choose_initial
from detal.loop.duplicates import near_duplicate_share
from detal.loop.study import Study, measure, train_on
from detal.runs.building import build_budget

__all__ = ["arm_folder", "finish_round", "initial_folder", "read_rows", "run_arm", "run_initial"]

log = logging.getLogger(__name__)


def initial_folder(output: Path, seed: int) -> Path:
    """Where round 0 of a seed lies."""
    return output / "initial" / f"seed-{seed}"


def arm_folder(output: Path, strategy: StrategyConfig, seed: int) -> Path:
    """Where the rounds of an arm lie."""
    return output / "arms" / strategy.label / f"seed-{seed}"


def run_initial(study: Study, seed: int) -> None:
    """Choose the initial set of a seed, train on it and measure; nothing to do if that is done."""
    folder = initial_folder(Path(study.config.output), seed)
    if not _is_done(folder):
        rows = choose_initial(study, seed, store=folder / "store")
        finish_round(study, folder, rows=rows, before=[], seed=seed, timings={})


def run_arm(study: Study, strategy: StrategyConfig, seed: int) -> None:
    """Run the rounds of an arm that are not done yet; round 0 must be."""
    config = study.config
    output = Path(config.output)
    done = [initial_folder(output, seed)]
    labeled = read_rows(study, done[0])
    for round_idx in range(1, config.rounds + 1):
        folder = arm_folder(output, strategy, seed) / f"round-{round_idx}"
        if not _is_done(folder):
            rows, timings = choose_batch(
                study,
                strategy,
                seed,
                labeled,
                weights=[previous / "weights.pt" for previous in done],
                folder=folder,
            )
            if len(rows) == 0:
                log.warning("%s: nothing is left to label, the arm ends here", folder)
                return
            finish_round(study, folder, rows=rows, before=labeled, seed=seed, timings=timings)
        labeled = [*labeled, *read_rows(study, folder)]
        done.append(folder)


def finish_round(
    study: Study,
    folder: Path,
    *,
    rows: NDArray[np.int64],
    before: Sequence[int],
    seed: int,
    timings: dict[str, float],
) -> None:
    """Train on everything labelled, measure on the test set, write the round's files.

    Args:
        study: The study.
        folder: Of the round.
        rows: What was labelled in it.
        before: What was labelled before.
        seed: Of the training.
        timings: Added to the round's own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    everything = np.array([*before, *rows], dtype=np.int64)
    ids = study.pool.image_ids
    write_json(folder / "labeled.json", [ids[row] for row in rows])
    started = time.monotonic()
    trained = train_on(study, study.pool.take(everything), seed=seed, output=folder / "train")
    shutil.copyfile(trained.weights, folder / "weights.pt")
    timings = {**timings, "training_s": time.monotonic() - started}
    metrics = measure(study, folder / "weights.pt", study.test, store=folder / "store")
    result = {
        "steps": trained.steps,
        **_spent(study, everything),
        **_batch_figures(study, rows, before),
        "rare_third_ap": metrics.mean_of(study.rare),
        **metrics.to_dict(),
        "timings": timings,
    }
    write_json(folder / "result.json", result, allow_nan=True)
    _remove_scratch(folder)


def _is_done(folder: Path) -> bool:
    if not (folder / "result.json").exists():
        return False
    _remove_scratch(folder)  # a kill may have left it
    return True


def _remove_scratch(folder: Path) -> None:
    for scratch in ("train", "store"):
        shutil.rmtree(folder / scratch, ignore_errors=True)


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


def read_rows(study: Study, folder: Path) -> list[int]:
    """Rows of the pool that were labelled in the round of ``folder``."""
    ids = read_own(folder / "labeled.json")
    return [int(row) for row in study.pool.index_of(ids)]
