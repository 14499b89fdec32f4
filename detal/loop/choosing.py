"""Which images an arm labels next: a strategy, an oracle, or a coverage of the first round."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from detal.config import DedupConfig, StrategyConfig
from detal.datasets import Dataset
from detal.errors import ConfigError
from detal.loop.oracle import ORACLES, best_random_batch, oracle_loss
from detal.loop.study import Study, detector_of, measure, scorer_of, train_on, truth_of
from detal.loop.study_tables import TrainedRound, WithTables, study_tables
from detal.reward import MeasuredTables
from detal.runs.building import build_budget, build_detector
from detal.runs.pool import ScoredDataset, candidate_pool
from detal.runs.scoring import check_needs
from detal.seeding import generator
from detal.strategies import Candidates, Needs, QueryStrategy, make_strategy
from detal.structures import Budget

__all__ = ["choose_batch", "choose_initial", "label_within_budget"]

_MOST_QUERIES = 20
_NO_GUARDS = DedupConfig()


def choose_initial(study: Study, seed: int, *, store: Path) -> NDArray[np.int64]:
    """Rows of the pool that are labelled before the first round; at least one."""
    initial = study.config.initial
    if initial.strategy != "random":
        return _cover(study, seed, store=store)
    rows, rng = np.arange(len(study.pool)), generator(seed, "initial")
    # True boxes as they are: an image without any is free here.
    costs = study.boxes_per_image if initial.unit == "boxes" else np.ones(len(rows), np.int64)
    return _draw(rows, costs, amount=initial.amount, rng=rng, at_least=1)


def _cover(study: Study, seed: int, *, store: Path) -> NDArray[np.int64]:
    """Initial rows of the pool by a coverage strategy, on features of the weights trained from."""
    initial, training = study.config.initial, study.config.training
    chosen = StrategyConfig.model_validate(initial.strategy)
    if training.type != "yolo" or not (training.backbone or Path(training.init).is_file()):
        raise ConfigError(
            f"initial.strategy {chosen.name} needs image features before anything is trained: set "
            "training.backbone or a YOLO checkpoint as training.init, or initial.strategy random"
        )
    detector = build_detector(
        study.config.detector.model_copy(
            update={
                "type": "yolo",
                "weights": training.backbone or training.init,
                "architecture": training.init if training.backbone else None,
                "image_size": training.image_size,
                "features_only": True,
                "class_names": None,
            }
        ),
        device=study.config.device,
        class_names=study.pool.class_names,
        category_ids=study.pool.category_ids,
        image_id_of={},
    )
    strategy = make_strategy(chosen.name, **chosen.options)
    check_needs(strategy.needs, detector)
    scored, _ = scorer_of(study, detector, store).score(study.pool, title="", needs=strategy.needs)
    return label_within_budget(
        scored,
        [],
        strategy=strategy,
        budget=Budget(initial.amount, initial.unit),
        rng=generator(seed, "initial", chosen.name),
    )


def choose_batch(
    study: Study,
    strategy: StrategyConfig,
    seed: int,
    labeled: Sequence[int],
    *,
    weights: Sequence[Path],
    folder: Path,
) -> tuple[NDArray[np.int64], dict[str, float]]:
    """Rows of the pool to label in the round of ``folder``, with the detector trained before it.

    ``weights`` are those of all rounds before, the latest last: a strategy that needs further
    checkpoints and names none gets the latest of the others.
    """
    if strategy.name == "oracle_retraining":
        return _best_by_retraining(study, strategy, seed, labeled, folder=folder), {}
    config = study.config
    chosen = None if strategy.name in ORACLES else make_strategy(strategy.name, **strategy.options)
    needs = Needs() if chosen is None else chosen.needs
    if not needs.members:
        earlier = [str(path) for path in weights[:-1]][-needs.earlier_rounds :]
        needs = replace(needs, members=tuple(earlier if needs.earlier_rounds else ()))
    started = time.monotonic()
    detector = detector_of(study, weights[-1], score_threshold=None)
    check_needs(replace(needs, earlier_rounds=0), detector)
    scored, passes = scorer_of(study, detector, folder / "store").score(
        study.pool, title="", needs=needs
    )
    reference = None
    if study.reference is not None:
        scorer = scorer_of(study, detector, folder / "store")
        reference, _ = scorer.score(study.reference, title="")
    scoring_s = time.monotonic() - started
    started = time.monotonic()
    tables = MeasuredTables()
    if needs.tables:
        known = np.array(labeled, dtype=np.int64)
        tables = study_tables(
            study,
            needs.tables,
            _candidates(scored, known, reference=reference),
            trained=TrainedRound(known, seed, weights[-1]),
            root=folder / "tables",
        )
    tables_s = time.monotonic() - started
    started = time.monotonic()
    rows = label_within_budget(
        scored,
        labeled,
        reference=reference,
        strategy=WithTables(chosen or oracle_loss(scored, **strategy.options), tables),
        budget=build_budget(config.budget),
        rng=generator(seed, "select", strategy.label, folder.name),
        dedup=config.dedup,
    )
    selection_s = time.monotonic() - started
    timings = {
        "scoring_s": scoring_s,
        "tables_s": tables_s,
        "selection_s": selection_s,
        "passes": len(passes),
    }
    return rows, timings


def _best_by_retraining(
    study: Study, strategy: StrategyConfig, seed: int, labeled: Sequence[int], *, folder: Path
) -> NDArray[np.int64]:
    """The random batch after whose training the detector is best on the reference set."""
    budget = build_budget(study.config.budget)
    costs = budget.costs(study.boxes_per_image)
    rest = np.setdiff1d(np.arange(len(study.pool)), np.array(labeled, dtype=np.int64))
    scratch = folder / "oracle"

    def draw(number: int) -> NDArray[np.int64]:
        rng = generator(seed, "oracle", strategy.label, folder.name, number)
        return _draw(rest, costs, amount=budget.amount, rng=rng)

    def judge(rows: NDArray[np.int64]) -> float:
        everything = study.pool.take(np.array([*labeled, *rows], dtype=np.int64))
        shutil.rmtree(scratch / "train", ignore_errors=True)
        trained = train_on(study, everything, seed=seed, output=scratch / "train")
        reference = cast("Dataset", study.reference)
        return measure(study, trained.weights, reference, store=scratch / "store").mean_ap

    best = best_random_batch(**strategy.options, draw=draw, judge=judge, folder=scratch)
    for made in ("train", "store"):
        shutil.rmtree(scratch / made, ignore_errors=True)
    return best


def _draw(
    rows: NDArray[np.int64],
    costs: NDArray[Any],
    *,
    amount: float,
    rng: np.random.Generator,
    at_least: int = 0,
) -> NDArray[np.int64]:
    """Rows in a random order, up to the first that costs more than what is left."""
    order = rng.permutation(rows)
    number = int(np.searchsorted(np.cumsum(costs[order]), amount, side="right"))
    return order[: max(number, at_least)]


def label_within_budget(
    pool: ScoredDataset,
    labeled: Sequence[int],
    *,
    strategy: QueryStrategy,
    budget: Budget,
    rng: np.random.Generator,
    reference: ScoredDataset | None = None,
    dedup: DedupConfig = _NO_GUARDS,
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
        reference: See `candidate_pool`.
        dedup: Guards against near-duplicates.

    Returns:
        (K,) rows of the pool, in the order they were labelled.
    """
    costs = budget.costs(np.diff(truth_of(pool.dataset).offsets))
    left = budget.amount
    batch: list[int] = []
    for _ in range(_MOST_QUERIES):
        known = np.array([*labeled, *batch], dtype=np.int64)
        candidates = _candidates(pool, known, reference=reference)
        selection = strategy.query(
            candidates,
            budget=replace(budget, amount=left),
            rng=rng,
            min_distance=dedup.distance,
            per_group=dedup.per_group,
        )
        for row in pool.dataset.index_of(selection.image_ids):
            if costs[row] > left:
                return np.array(batch, dtype=np.int64)
            batch.append(int(row))
            left -= costs[row]
        if len(selection) == 0 or left < costs.min(initial=np.inf):
            break
    return np.array(batch, dtype=np.int64)


def _candidates(
    pool: ScoredDataset, known: NDArray[np.int64], *, reference: ScoredDataset | None
) -> Candidates:
    """What may be labelled once the rows ``known`` are."""
    rest = np.setdiff1d(np.arange(len(pool.dataset)), known)
    return candidate_pool(
        pool.take(rest),
        pool.take(known),
        class_names=pool.dataset.class_names,
        reference=reference,
    ).candidates
