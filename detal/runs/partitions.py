"""Selection from a pool whose features exceed one machine: part by part, then from the picks.

Mirzasoleiman, Karbasi, Sarkar & Krause, "Distributed submodular maximization: identifying
representative elements in massive data", NeurIPS 2013 (GreeDi): the pool is dealt into m parts, the
strategy spends the whole budget in each part by itself, and then once more on the union of what
they chose. Memory: of a part's features, and of m batches' features for the last selection.

What it approximates: a strategy that scores each image by itself (entropy, box_count, …) chooses
exactly as from the whole pool, if the budget counts images and no guard turns one down. Greedy
k-centre (core_set) stays within a constant factor of the best radius (Malkomes et al., "Fast
distributed k-center clustering with outliers", NeurIPS 2015); monotone submodular gains keep a
constant share in expectation where parts are random (Barbosa et al., "The power of randomization",
ICML 2015), of the better of the last selection and the best part's alone; only the former is made
here, as a strategy does not tell its objective. Strategies that describe the pool as they go
(density, kmeans, typiclust, facility_location) see one part, and at last the picks, in its place:
their loss is measured, not bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detal.config import SelectConfig
from detal.detectors import Detector
from detal.errors import ConfigError, DataError
from detal.runs.building import build_budget
from detal.runs.pool import ScoredDataset, candidate_pool
from detal.runs.workers import RunTasks
from detal.seeding import generator
from detal.strategies import Needs, make_strategy
from detal.structures import Budget

__all__ = ["Question", "check_partitions", "deal", "shortlist"]

# Neighbours by image id are mostly neighbours in the store: a part reads few shards.
_BLOCK = 4096
_BLOCKS_PER_PART = 16


def check_partitions(config: SelectConfig, needs: Needs) -> None:
    """Refuse what cannot be asked of a part.

    Raises:
        ConfigError: If the strategy measures tables, which are of the whole pool.
    """
    if config.partitions > 1 and needs.tables:
        raise ConfigError(
            f"partitions must be 1 for {config.strategy.name} with tables measured in the run: "
            "name a folder of `detal tables build` as strategy.table, or a strategy without tables"
        )


@dataclass(frozen=True, eq=False)
class Question:
    """What each part is asked; picklable.

    Attributes:
        strategy: Name and options of the strategy.
        budget: Of the batch, and of each part.
        seed: Of the run.
        min_distance: See `detal.strategies.fill`.
        per_group: See `detal.strategies.fill`.
        class_names: Of the detector.
        labeled: The labelled set.
        reference: The reference set.
        match_ids: Whether a pool image with the id of a labelled one counts as labelled.
    """

    strategy: tuple[str, dict[str, Any]]
    budget: Budget
    seed: int
    min_distance: float
    per_group: int | None
    class_names: tuple[str, ...]
    labeled: ScoredDataset | None
    reference: ScoredDataset | None
    match_ids: bool

    @staticmethod
    def of(
        config: SelectConfig,
        labeled: ScoredDataset | None,
        reference: ScoredDataset | None,
        detector: Detector,
    ) -> Question:
        """What a run asks."""
        return Question(
            strategy=(config.strategy.name, config.strategy.options),
            budget=build_budget(config.budget),
            seed=config.seed,
            min_distance=config.dedup.distance,
            per_group=config.dedup.per_group,
            class_names=detector.class_names,
            labeled=labeled,
            reference=reference,
            match_ids=config.labeled is not None and config.labeled.same_id,
        )


def shortlist(
    pool: ScoredDataset, question: Question, *, parts: int, runner: RunTasks
) -> ScoredDataset:
    """The images of the pool that some part chose, by ascending image id.

    The same whatever the order of the pool and whoever runs the parts.

    Args:
        pool: P images.
        question: What to choose.
        parts: Parts of the pool, >= 1; no more than there are images.
        runner: Runs the selections; what they read of the store must be there for them.

    Raises:
        DataError: If no part has anything to choose.
    """
    ids = pool.dataset.image_ids
    order = np.array(sorted(range(len(ids)), key=ids.__getitem__), dtype=np.int64)
    rng = generator(question.seed, "partitions")
    dealt = [order[part] for part in deal(len(order), parts, rng)]
    tasks = [(_choose, question, pool.take(rows), i) for i, rows in enumerate(dealt)]
    chosen = {image_id for _, picked in runner(tasks) for image_id in picked}
    if not chosen:
        raise DataError("at least one image of the pool must be readable and not labelled yet")
    return pool.take(order[[ids[row] in chosen for row in order.tolist()]])


def deal(number: int, parts: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Deal 0 .. ``number`` - 1 at random, in blocks of neighbours; parts are ascending.

    Parts differ by a block at most; there are fewer of them if there are fewer numbers.
    """
    parts = max(1, min(parts, number))
    size = max(1, min(_BLOCK, number // (_BLOCKS_PER_PART * parts)))
    blocks = [np.arange(start, min(start + size, number)) for start in range(0, number, size)]
    shuffled = rng.permutation(len(blocks))
    nothing = np.zeros(0, dtype=np.int64)
    return [
        np.concatenate([nothing, *(blocks[i] for i in np.sort(shuffled[part::parts]))])
        for part in range(parts)
    ]


def _choose(question: Question, part: ScoredDataset, number: int) -> Sequence[str]:
    """Image ids that one part chooses."""
    name, options = question.strategy
    candidates = candidate_pool(
        part,
        question.labeled,
        class_names=question.class_names,
        match_ids=question.match_ids,
        reference=question.reference,
    ).candidates
    selection = make_strategy(name, **options).query(
        candidates,
        budget=question.budget,
        rng=generator(question.seed, "partition", number),
        min_distance=question.min_distance,
        per_group=question.per_group,
    )
    return selection.image_ids
