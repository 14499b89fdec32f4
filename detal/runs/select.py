"""The main job: from a pool to a manifest."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from detal.config import DatasetConfig, DetectorConfig, SelectConfig
from detal.datasets import Dataset
from detal.detectors import Detector
from detal.errors import DataError, DetalError
from detal.features import expected_class_counts
from detal.locking import lock_beside, locked
from detal.manifests import Batch, check_names, check_output, staged_folder, write_manifest_files
from detal.notebook import notebook_table
from detal.report import write_contact_sheet
from detal.runs.building import build_budget, build_dataset, build_detector, build_hand_over
from detal.runs.kept import describe, keep_curves, write_kept
from detal.runs.notes import noted
from detal.runs.partitions import Question, check_partitions, shortlist
from detal.runs.pool import CandidatePool, ScoredDataset, candidate_pool
from detal.runs.provenance import versions
from detal.runs.reserve import query_reserve
from detal.runs.scoring import Scorer, StartProgress, check_needs
from detal.runs.select_tables import check_tables, select_tables
from detal.runs.workers import RunTasks, process_tasks
from detal.seeding import generator
from detal.strategies import Candidates, Needs, QueryStrategy, make_strategy, strategy_options
from detal.structures import Detections, Selection

__all__ = ["Inputs", "SelectResult", "open_inputs", "run_select", "store_root"]

log = logging.getLogger(__name__)

_PICTURE = "contact_sheet.png"


@dataclass(frozen=True, eq=False)
class SelectResult:
    """What a run of `run_select` made.

    Attributes:
        output: Folder of the run, with the manifest in it.
        contact_sheet: The picture.
        selection: The batch.
        run: The contents of ``run.json``.
    """

    output: Path
    contact_sheet: Path
    selection: Selection
    run: dict[str, Any]

    def _repr_html_(self) -> str:
        """Where it is and what was chosen, for notebooks."""
        facts = {"strategy": self.run["strategy"]["name"], "folder": str(self.output)}
        table = self.selection._repr_html_()
        return notebook_table("Run of detal select", facts) + table


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a run reads.

    Attributes:
        pool: Images to choose from.
        labeled: Labelled images.
        reference: Labelled images that nothing is trained on.
        detector_config: The round's detector.
        load: Loads a detector for these sets; ``device=`` names another device than the config's.
    """

    pool: Dataset
    labeled: Dataset | None
    reference: Dataset | None
    detector_config: DetectorConfig
    load: Callable[..., Detector]

    @cached_property
    def detector(self) -> Detector:
        """The round's detector, loaded when it is first asked for."""
        return self.load(self.detector_config)

    @property
    def num_images(self) -> int:
        """Images of all sets together."""
        return len(self.pool) + len(self.labeled or ()) + len(self.reference or ())


@dataclass(frozen=True, eq=False)
class _ScoredInputs:
    pool: ScoredDataset
    labeled: ScoredDataset | None
    reference: ScoredDataset | None
    passes: list[dict[str, Any]]
    scored_now: int


def run_select(
    config: SelectConfig,
    *,
    runner: AbstractContextManager[RunTasks] | None = None,
    progress: StartProgress | None = None,
) -> SelectResult:
    """Score the pool, choose a batch, write the manifest and the picture.

    Args:
        config: The run.
        runner: Runs the selections from parts of the pool (``config.partitions``); by default
            processes of this machine, one for each core.
        progress: Given a title, returns what is called with (done, total) images.

    Raises:
        DetalError: With what must be mended; what was scored until then stays in the store.
    """
    strategy = make_strategy(config.strategy.name, **config.strategy.options)
    check_tables(config, strategy.needs)
    check_partitions(config, strategy.needs)
    output = Path(config.output)
    check_output(output)
    start_progress = progress or (lambda title: lambda done, total: None)
    with locked(lock_beside(output), work=output):
        return _select(config, strategy, runner, start_progress)


def _select(
    config: SelectConfig,
    strategy: QueryStrategy,
    runner: AbstractContextManager[RunTasks] | None,
    start_progress: StartProgress,
) -> SelectResult:
    clock = time.monotonic
    budget = build_budget(config.budget)
    hand_over = build_hand_over(config.manifest)
    inputs = open_inputs(config)
    check_names(hand_over, inputs.detector.class_names)  # said before the work
    check_needs(strategy.needs, inputs.detector)
    started = clock()
    scored = _score(inputs, config, strategy.needs, start_progress)
    scoring_s = clock() - started
    started = clock()
    pool = scored.pool
    if config.partitions > 1:
        question = Question.of(config, scored.labeled, scored.reference, inputs.detector)
        with runner or process_tasks(os.cpu_count() or 1) as run_tasks:
            pool = shortlist(pool, question, parts=config.partitions, runner=run_tasks)
    partitions_s = clock() - started
    candidates = candidate_pool(
        pool,
        scored.labeled,
        class_names=inputs.detector.class_names,
        match_ids=config.labeled is not None and config.labeled.same_id,
        reference=scored.reference,
    )
    if candidates.excluded["unreadable"] == len(inputs.pool):
        raise DataError(_nothing_readable(scored.pool))
    started = clock()
    tables = select_tables(
        config,
        strategy.needs,
        candidates,
        labeled=scored.labeled,
        reference=scored.reference,
        root=store_root(config) / "tables",
        progress=start_progress,
    )
    candidates = replace(candidates, candidates=replace(candidates.candidates, tables=tables))
    tables_s = clock() - started
    started = clock()
    choosing = start_progress("choosing the batch")
    choosing(0, 1)
    with noted() as notes:
        selection = strategy.query(
            candidates.candidates,
            budget=budget,
            rng=generator(config.seed, "select", config.strategy.name),
            min_distance=config.dedup.distance,
            per_group=config.dedup.per_group,
        )
    choosing(1, 1)
    selection_s = clock() - started
    started = clock()
    reserve = _reserve(config, strategy, candidates.candidates, selection)
    run = _record(config, inputs, scored, candidates, selection)
    run["notes"] = notes
    run["timings"] = {
        "scoring_s": round(scoring_s, 3),
        "partitions_s": round(partitions_s, 3),
        "tables_s": round(tables_s, 3),
        "selection_s": round(selection_s, 3),
        "reserve_s": round(clock() - started, 3),
        "scored_now": scored.scored_now,
        "read_from_store": inputs.num_images - scored.scored_now,
        "passes": [_part(record, timed=True) for record in scored.passes],
    }
    return _write(config, inputs, scored, candidates, (selection, reserve), run)


def _reserve(
    config: SelectConfig, strategy: QueryStrategy, candidates: Candidates, selection: Selection
) -> Selection:
    """What comes next; nothing where the strategy cannot say, for the batch itself stands."""
    try:
        if config.manifest.reserve and len(selection):
            return query_reserve(
                strategy,
                candidates,
                selection,
                share=config.manifest.reserve,
                rng=generator(config.seed, "reserve", config.strategy.name),
                min_distance=config.dedup.distance,
                per_group=config.dedup.per_group,
            )
    except DetalError as error:
        log.warning("the review will have no images in reserve: %s", error)
    return replace(
        selection, image_ids=(), reasons=(), scores=np.zeros(0), costs=np.zeros(0), passed_over={}
    )


def store_root(config: SelectConfig) -> Path:
    """The folder of the stores."""
    return Path(config.store) if config.store else Path(config.output).parent / "detal_store"


def open_inputs(config: SelectConfig) -> Inputs:
    """Open the sets of a run; the detector is loaded later.

    Raises:
        DataError: If the pool is empty, or a labelled set has no annotations.
    """
    pool = build_dataset(config.pool)
    if len(pool) == 0:
        raise DataError(f"the pool must hold at least one image, found none in {config.pool.path}")
    _warn_about_problems(pool, config.pool.path)
    labeled = _open_annotated(config.labeled, "labelled")
    reference = _open_annotated(config.reference, "reference")
    datasets = [dataset for dataset in (labeled, pool, reference) if dataset is not None]
    named = next((dataset for dataset in datasets if dataset.class_names), pool)
    load = partial(
        build_detector,
        device=config.device,
        class_names=named.class_names,
        category_ids=named.category_ids,
        image_id_of={
            path: image_id
            for dataset in datasets
            for path, image_id in dataset.images.select("path", "image_id").iter_rows()
            if config.detector.type == "predictions"
        },
    )
    return Inputs(
        pool=pool,
        labeled=labeled,
        reference=reference,
        detector_config=config.detector,
        load=load,
    )


def _open_annotated(config: DatasetConfig | None, name: str) -> Dataset | None:
    if config is None:
        return None
    dataset = build_dataset(config)
    _warn_about_problems(dataset, config.path)
    if dataset.annotations is None:
        raise DataError(f"the {name} set must have annotations, found none: {config.path}")
    return dataset


def _warn_about_problems(dataset: Dataset, path: str) -> None:
    if dataset.problems:
        first = dataset.problems[0]
        log.warning(
            "%s: %d problem(s), the first: %s (%s %s); `detal check %s` lists them",
            dataset.name,
            len(dataset.problems),
            first.message,
            first.file,
            first.where,
            path,
        )


def _score(
    inputs: Inputs, config: SelectConfig, needs: Needs, progress: StartProgress
) -> _ScoredInputs:
    scorer = Scorer(
        detector=inputs.detector,
        root=store_root(config),
        shard_size=config.shard_size,
        batch_size=config.batch_size,
        threads=config.threads,
        start_progress=progress,
        load_member=lambda weights: inputs.load(
            config.detector.model_copy(update={"weights": weights})
        ),
    )
    pool, passes = scorer.score(inputs.pool, title="scoring the pool", needs=needs)
    scored_now = passes[0]["scored_now"]
    annotated: dict[str, ScoredDataset | None] = {"labelled": None, "reference": None}
    for name, dataset in (("labelled", inputs.labeled), ("reference", inputs.reference)):
        if dataset is not None:
            annotated[name], (own,) = scorer.score(dataset, title=f"scoring the {name} set")
            scored_now += own["scored_now"]
    return _ScoredInputs(
        pool=pool,
        labeled=annotated["labelled"],
        reference=annotated["reference"],
        passes=passes,
        scored_now=scored_now,
    )


def _nothing_readable(pool: ScoredDataset) -> str:
    first = pool.stored.images.row(0, named=True)
    return (
        f"at least one image of the pool must be readable, none of the {len(pool.dataset)} images "
        f"is; the first: {first['error']}"
    )


def _part(record: dict[str, Any], *, timed: bool) -> dict[str, Any]:
    """What of a pass differs from run to run and belongs to the timings, or what does not."""
    timings = {"scored_now", "seconds", "together_with"}
    return {k: v for k, v in record.items() if k == "name" or (k in timings) == timed}


def _record(
    config: SelectConfig,
    inputs: Inputs,
    scored: _ScoredInputs,
    candidates: CandidatePool,
    selection: Selection,
) -> dict[str, Any]:
    """What `run.json` keeps, apart from timings."""
    detector = inputs.detector
    return {
        "config": config.model_dump(mode="json"),
        "strategy": {
            "name": config.strategy.name,
            **strategy_options(config.strategy.name, **config.strategy.options),
        },
        "detector": {
            "fingerprint": detector.fingerprint,
            "settings": detector.settings,
            "class_names": list(detector.class_names),
            "score_kind": detector.score_kind,
            "store_key": scored.passes[0]["store_key"],
        },
        "passes": [_part(record, timed=False) for record in scored.passes],
        "counts": {
            "pool": len(inputs.pool),
            "labeled": len(inputs.labeled or ()),
            "reference": len(inputs.reference or ()),
            "excluded": candidates.excluded,
            "candidates": len(candidates.candidates),
            "selected": len(selection),
        },
        "spent": selection.spent,
        "passed_over": selection.passed_over,
        "versions": versions(),
    }


def _write(
    config: SelectConfig,
    inputs: Inputs,
    scored: _ScoredInputs,
    candidates: CandidatePool,
    selections: tuple[Selection, Selection],
    run: dict[str, Any],
) -> SelectResult:
    """Write the run's folder in one step; ``selections`` are the batch and its reserve."""
    output = Path(config.output)
    (batch, detections), (reserve, of_reserve) = (
        _batch(config, inputs, candidates, selection) for selection in selections
    )
    kept = describe(
        candidates.candidates, *selections, detections=Detections.concat([detections, of_reserve])
    )
    hand_over = build_hand_over(config.manifest)
    with staged_folder(output) as folder:
        write_manifest_files(folder, batch, run=run, hand_over=hand_over, final=output)
        write_contact_sheet(
            folder / _PICTURE,
            batch,
            counts_before=candidates.candidates.labeled.class_counts,
            counts_added=expected_class_counts(detections).sum(dim=0).numpy(),
        )
        write_kept(folder, kept, reserve)
        keep_curves(
            folder,
            candidates.candidates.tables.curves,
            table=config.strategy.options.get("table"),
        )
        _quarantine(scored).write_csv(folder / "quarantine.csv")
    return SelectResult(
        output=output, contact_sheet=output / _PICTURE, selection=selections[0], run=run
    )


def _batch(
    config: SelectConfig, inputs: Inputs, candidates: CandidatePool, selection: Selection
) -> tuple[Batch, Detections]:
    """What is written of a selection, and all its detections."""
    class_names = inputs.detector.class_names
    chosen, detections = candidates.detections(selection.image_ids)
    batch = Batch.of(
        selection,
        dataset=chosen.dataset,
        detections=detections,
        class_names=class_names,
        category_ids=_category_ids(class_names, inputs.labeled, inputs.pool),
        min_score=config.manifest.min_score,
    )
    return batch, detections


def _category_ids(class_names: tuple[str, ...], *datasets: Dataset | None) -> tuple[int, ...]:
    """The ids that the datasets give the detector's classes; other classes get ids of their own."""
    known: dict[str, int] = {}
    for dataset in datasets:
        if dataset is not None:
            known = dict(zip(dataset.class_names, dataset.category_ids, strict=True)) | known
    free = iter(sorted(set(range(1, len(class_names) + len(known) + 1)) - set(known.values())))
    return tuple(known[name] if name in known else next(free) for name in class_names)


def _quarantine(scored: _ScoredInputs) -> pl.DataFrame:
    """The images that could not be read, and why."""
    parts = [
        pl.DataFrame(
            {
                "set": pl.Series([name] * len(part.dataset), dtype=pl.String),
                "image_id": part.dataset.images["image_id"],
                "path": part.dataset.images["path"],
                "error": part.stored.images["error"],
            }
        ).drop_nulls("error")
        for name, part in (
            ("pool", scored.pool),
            ("labeled", scored.labeled),
            ("reference", scored.reference),
        )
        if part is not None
    ]
    return pl.concat(parts)
