"""Measured tables: of a config, of a round within a run, or read from where they lie.

<output>/build.json     what the tables are made of; another one is refused
<output>/variants/      see `detal.runs.curve_variants`
<output>/groups/        see `detal.runs.group_variants`
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from detal.config import TablesConfig
from detal.datasets import Dataset
from detal.errors import ConfigError, DataError
from detal.files import read_own, write_json
from detal.locking import locked
from detal.reward import FittedCurves, GroupGains, MeasuredTables, TableName
from detal.runs.building import build_dataset, build_detector
from detal.runs.curve_variants import build_curves, whole_set_weights
from detal.runs.group_variants import GroupPool, build_groups
from detal.runs.pool import ScoredDataset, candidate_pool
from detal.runs.scoring import Scorer, StartProgress
from detal.runs.training import detector_config
from detal.runs.variants import Variants

__all__ = ["build_table", "read_tables", "round_tables"]

# What may change between a build and the one that goes on with it.
_FREE_KEYS = {"output", "device"}
_TITLES: dict[TableName, str] = {"curves": "training variants", "groups": "training on groups"}


def build_table(config: TablesConfig, *, progress: StartProgress | None = None) -> MeasuredTables:
    """Train and measure what is not done yet, fit the curves, write the tables and their pictures.

    Args:
        config: What to build.
        progress: Given a title, returns what is called with (done, total) variants.

    Raises:
        ConfigError: If the folder belongs to another build, or another run works in it.
        DataError: If a dataset cannot be used, or labelled images are in the reference set.
    """
    start = progress or _silent
    variants = Variants(
        labeled=build_dataset(config.labeled),
        reference=build_dataset(config.reference),
        training=config.training,
        tables=config.tables,
        detector=config.detector,
        seed=config.seed,
        device=config.device,
    )
    origin = variants.origin()
    output = Path(config.output)
    with locked(output / ".lock", work=output):
        _claim(config, {**origin})
        for name in ("labeled", "reference"):
            origin[name] = {**getattr(config, name).model_dump(mode="json"), **origin[name]}
        curves = build_curves(variants, output, origin=origin, report=start(_TITLES["curves"]))
        if config.pool is None:
            return MeasuredTables(curves=curves)
        images = build_dataset(config.pool)
        weights = whole_set_weights(variants, output)
        detector = config.detector.model_copy(update={"weights": str(weights)})
        variants = replace(variants, detector=detector)
        pool = _scored_pool(images, variants, store=output / "store", progress=start)
        report = start(_TITLES["groups"])
        groups = build_groups(variants, pool, output, origin=origin, report=report)
        return MeasuredTables(curves=curves, groups=groups)


def round_tables(
    names: Sequence[TableName],
    variants: Variants,
    pool: GroupPool,
    *,
    root: Path,
    progress: StartProgress | None = None,
) -> MeasuredTables:
    """The tables that a round's strategy asked for, in folders named after what they are made of.

    What is there already is read and not trained again.

    Args:
        names: Of the tables.
        variants: What to train; ``detector.weights`` are the round's own.
        pool: The round's candidates.
        root: Folder of the tables' folders.
        progress: Given a title, returns what is called with (done, total) variants.

    Raises:
        ConfigError: If another run works in a folder, or the detector lacks what a table needs.
        DataError: If a set cannot be used.
    """
    tables = MeasuredTables()
    origin = variants.origin() if names else {}
    for name in names:
        made_of = _made_of(name, variants, pool, origin)
        key = hashlib.blake2b(json.dumps(made_of, sort_keys=True).encode(), digest_size=8)
        folder = root / f"{name}-{key.hexdigest()}"
        report = (progress or _silent)(_TITLES[name])
        with locked(folder / ".lock", work=folder):
            write_json(folder / "build.json", made_of)
            if name == "curves":
                curves = build_curves(variants, folder, origin=origin, report=report)
                tables = replace(tables, curves=curves)
            else:
                groups = build_groups(variants, pool, folder, origin=origin, report=report)
                tables = replace(tables, groups=groups)
    return tables


def read_tables(root: Path) -> MeasuredTables:
    """The latest tables that `round_tables` finished below ``root``; None for those it did not.

    Raises:
        StoreError: If one is damaged.
    """
    curves, groups = (_latest(root, name) for name in _TITLES)
    return MeasuredTables(
        curves=None if curves is None else FittedCurves.load(curves),
        groups=None if groups is None else GroupGains.load(groups),
    )


def _latest(root: Path, name: TableName) -> Path | None:
    found = root.glob(f"{name}-*/{name}.json")
    return max(
        (path.parent for path in found),
        key=lambda folder: (folder / f"{name}.json").stat().st_mtime,
        default=None,
    )


def _silent(title: str) -> Any:
    return lambda done, total: None


def _made_of(
    name: TableName, variants: Variants, pool: GroupPool, origin: dict[str, Any]
) -> dict[str, Any]:
    """What determines a table of a round."""
    tables = variants.tables.model_dump(mode="json")
    groups = tables.pop("groups")
    made_of = {
        **origin,
        "training": variants.training.model_dump(mode="json"),
        "detector": variants.detector.model_dump(mode="json", exclude={"weights"}),
        "seed": variants.seed,
    }
    if name == "curves":
        return {**made_of, "tables": tables}
    groups["batch_images"] = pool.batch_images
    return {**made_of, "groups": groups, "candidates": pool.digest()}


def _claim(config: TablesConfig, made_of: dict[str, Any]) -> None:
    """Write what the tables are made of, or check it against what is there."""
    output = Path(config.output)
    path = output / "build.json"
    mine = {**_fixed(config), "data": made_of}
    if path.exists():
        theirs = read_own(path)
        data = theirs.pop("data", None)
        # Keys that this version added had their defaults then.
        with contextlib.suppress(ValidationError):
            theirs = _fixed(TablesConfig.model_validate({**theirs, "output": config.output}))
        theirs["data"] = data
        changed = [key for key in mine if mine[key] != theirs.get(key)]
        if changed:
            raise ConfigError(
                f"{output} holds a table with another {', '.join(changed)}: choose another output"
            )
    elif [entry for entry in output.iterdir() if entry.name != ".lock"]:
        raise ConfigError(f"output must be a new folder or a table's own, got {output}")
    write_json(path, mine)


def _fixed(config: TablesConfig) -> dict[str, Any]:
    return config.model_dump(mode="json", exclude=_FREE_KEYS)


def _scored_pool(
    pool: Dataset, variants: Variants, *, store: Path, progress: StartProgress
) -> GroupPool:
    """The candidates of a pool, as the round's own detector sees them."""
    labeled, own = variants.labeled, variants.detector
    detector = build_detector(
        detector_config(variants.training, own, Path(str(own.weights))),
        device=variants.device,
        class_names=labeled.class_names,
        category_ids=labeled.category_ids,
        image_id_of={},
    )
    scorer = Scorer(
        detector=detector,
        root=store,
        shard_size=1024,
        batch_size=16,
        threads=None,
        start_progress=progress,
        load_member=lambda weights: detector,
    )
    scored: list[ScoredDataset] = [
        scorer.score(dataset, title=f"scoring the {title}")[0]
        for dataset, title in (
            (pool, "pool"),
            (labeled, "labelled set"),
            (variants.reference, "reference set"),
        )
    ]
    candidates = candidate_pool(
        scored[0], scored[1], class_names=detector.class_names, reference=scored[2]
    )
    if len(candidates.candidates) == 0:
        raise DataError("the pool must hold at least one readable image that is not labelled yet")
    return GroupPool(
        candidates=candidates.candidates,
        images=candidates.scored.dataset,
        batch_images=len(labeled),
    )
