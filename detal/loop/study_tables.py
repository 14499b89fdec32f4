"""The measured tables of a round of a study: trained on what is labelled, measured on reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detal.config import SimulateConfig
from detal.datasets import Dataset
from detal.errors import ConfigError
from detal.loop.study import Study
from detal.reward import MeasuredTables, TableName
from detal.runs.building import build_budget
from detal.runs.group_variants import GroupPool, images_of
from detal.runs.provenance import content_hashes
from detal.runs.scoring import StartProgress
from detal.runs.tables import round_tables
from detal.runs.variants import Variants
from detal.strategies import Candidates, Needs, QueryStrategy
from detal.structures import Selection

__all__ = ["TrainedRound", "WithTables", "check_tables", "study_tables"]


@dataclass(frozen=True, eq=False)
class TrainedRound:
    """Where a round stands when its tables are made.

    Attributes:
        labeled: Rows of the pool that are labelled; variants are trained on nothing else, but for
            candidates with pseudo-labels.
        seed: Of the arm.
        weights: The round's own detector, trained on all of them.
    """

    labeled: NDArray[np.int64]
    seed: int
    weights: Path


@dataclass(frozen=True, eq=False)
class WithTables:
    """A strategy that is shown measured tables.

    Attributes:
        strategy: Which one.
        tables: Of the round.
    """

    strategy: QueryStrategy
    tables: MeasuredTables

    @property
    def needs(self) -> Needs:
        """See `QueryStrategy`."""
        return self.strategy.needs

    def query(self, candidates: Candidates, **options: Any) -> Selection:
        """See `QueryStrategy`."""
        return self.strategy.query(replace(candidates, tables=self.tables), **options)


def check_tables(config: SimulateConfig, needs: Needs, *, strategy: str) -> None:
    """Refuse a strategy whose tables have nothing to be measured on.

    Raises:
        ConfigError: If there is no reference set.
    """
    if needs.tables and config.reference is None:
        raise ConfigError(
            f"strategy {strategy} measures variants of the detector on a reference set: set "
            "`reference`"
        )


def study_tables(
    study: Study,
    names: Sequence[TableName],
    candidates: Candidates,
    *,
    trained: TrainedRound,
    root: Path,
    progress: StartProgress | None = None,
) -> MeasuredTables:
    """See `round_tables`; checkpoints are removed once they are measured.

    Args:
        study: The study.
        names: Of the tables.
        candidates: Of the round, all of them images of the study's pool.
        trained: The round.
        root: Folder of the tables' folders.
        progress: See `round_tables`.
    """
    if study.reference is None or not names:
        return MeasuredTables()
    config, known = study.config, study.pool.take(trained.labeled)
    tables = round_tables(
        names,
        Variants(
            labeled=known,
            reference=_without(study.reference, known),
            training=config.training,
            tables=config.tables,
            detector=config.detector.model_copy(update={"weights": str(trained.weights)}),
            seed=trained.seed,
            device=config.device,
        ),
        GroupPool(
            candidates=candidates,
            images=study.pool.take(study.pool.index_of(candidates.image_ids.tolist())),
            batch_images=images_of(build_budget(config.budget), candidates),
        ),
        root=root,
        progress=progress,
    )
    for checkpoint in root.rglob("*.pt"):
        checkpoint.unlink()
    return tables


def _without(reference: Dataset, labeled: Dataset) -> Dataset:
    """The reference set without images of the labelled set's content."""
    ours, theirs = (content_hashes(d.images["path"].to_list()) for d in (reference, labeled))
    known = set(theirs)
    return reference.take(np.flatnonzero([h not in known for h in ours]))
