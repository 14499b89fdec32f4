"""The measured tables of a run of ``detal select``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from detal.config import SelectConfig
from detal.errors import ConfigError
from detal.reward import MeasuredTables
from detal.runs.building import build_budget
from detal.runs.group_variants import GroupPool, images_of
from detal.runs.pool import CandidatePool, ScoredDataset, held_out
from detal.runs.scoring import StartProgress
from detal.runs.tables import round_tables
from detal.runs.variants import Variants
from detal.strategies import Needs

__all__ = ["check_tables", "select_tables"]


def check_tables(config: SelectConfig, needs: Needs) -> None:
    """Refuse, before anything is scored, a strategy whose tables nothing can be made of.

    Raises:
        ConfigError: Naming the sections that are missing, or a training of another kind.
    """
    if not needs.tables:
        return
    missing = [key for key in ("training", "labeled", "reference") if getattr(config, key) is None]
    if missing:
        raise ConfigError(
            f"strategy {config.strategy.name} trains variants of the detector and measures them: "
            f"set {', '.join(missing)} (`training`: how the detector was trained), or name a "
            "folder of `detal tables build` as strategy.table"
        )
    kind = config.training.type if config.training else None
    if kind != config.detector.type:
        raise ConfigError(
            f"variants must be of the detector's kind: training.type is {kind}, detector.type is "
            f"{config.detector.type}"
        )


def select_tables(
    config: SelectConfig,
    needs: Needs,
    candidates: CandidatePool,
    *,
    labeled: ScoredDataset | None,
    reference: ScoredDataset | None,
    root: Path,
    progress: StartProgress,
) -> MeasuredTables:
    """See `round_tables`; nothing if the strategy needs no tables.

    Args:
        config: The run, which `check_tables` passed.
        needs: Of the strategy.
        candidates: Of the run.
        labeled: The labelled set.
        reference: The reference set, of which labelled images are left out.
        root: Folder of the tables' folders.
        progress: See `round_tables`.
    """
    training = config.training
    if not needs.tables or training is None or labeled is None or reference is None:
        return MeasuredTables()
    seen = candidates.candidates
    return round_tables(
        needs.tables,
        Variants(
            labeled=labeled.take(np.flatnonzero(labeled.readable)).dataset,
            reference=held_out(reference, labeled).dataset,
            training=training,
            tables=config.tables,
            detector=config.detector,
            seed=config.seed,
            device=config.device,
        ),
        GroupPool(
            candidates=seen,
            images=candidates.scored.dataset,
            batch_images=images_of(build_budget(config.budget), seen),
        ),
        root=root,
        progress=progress,
    )
