"""Join annotated images with the labelled set: what came is checked against what was asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import ValidationError

from detal.config import DatasetConfig, LabeledConfig
from detal.datasets.dataset import Dataset
from detal.datasets.label_studio_tasks import Several
from detal.errors import DataError
from detal.locking import lock_beside, locked
from detal.loop.asked import Asked, read_asked
from detal.loop.holdout import refuse_holdout
from detal.loop.joining import MergeReport, join
from detal.loop.labeled_set import IMAGE_ID, LabeledSet
from detal.loop.returned import open_returned
from detal.manifests import recover_folder, staged_folder
from detal.manifests.staging import LABELED_SET
from detal.runs.building import build_dataset

__all__ = ["merge", "merge_dataset", "open_labeled_set", "write_labeled_set"]


def merge(
    run: Path,
    annotations: DatasetConfig,
    *,
    into: Path,
    labeled: DatasetConfig | None = None,
    holdout: Sequence[DatasetConfig] = (),
    val: DatasetConfig | None = None,
    several: Several = "newest",
) -> MergeReport:
    """Merge annotations of a run's images into a labelled set.

    A batch may come in parts, and a part again: newer annotations of an image replace older ones,
    and a merge that brings nothing new changes no file. The folder is replaced in one step.

    Args:
        run: Folder written by `detal select`.
        annotations: COCO JSON, YOLO, VOC, Label Studio JSON or CVAT XML.
        into: Folder of the labelled set; made by the first merge.
        labeled: What the first merge starts from; by default the labelled set of the run, if it has
            one.
        holdout: Datasets whose images are refused.
        val: Dataset that ``yolo/data.yaml`` validates on from now on, refused like ``holdout``; by
            default that of the last merge.
        several: Which annotation counts where Label Studio has several of an image: the
            ``newest``, or none (``refuse``).

    Raises:
        DataError: If something cannot be read, no image of the run came, an image may be several,
            or one is in a hold-out; nothing was merged then.
        ConfigError: If ``into`` is not a labelled set, was changed by hand or is being written.
    """
    asked = read_asked(run)
    returned = open_returned(
        annotations,
        paths=[image.path for image in asked.images],
        class_names=asked.class_names,
        several=several,
    )
    return merge_dataset(
        asked, returned, into=into, start=labeled or _labeled_of(asked), holdout=holdout, val=val
    )


def merge_dataset(
    asked: Asked,
    returned: Dataset,
    *,
    into: Path,
    start: DatasetConfig | None,
    holdout: Sequence[DatasetConfig] = (),
    val: DatasetConfig | None = None,
) -> MergeReport:
    """As `merge`, of annotations that are open already.

    Args:
        asked: What the run asked for.
        returned: Annotated images.
        into: Folder of the labelled set.
        start: What the first merge starts from.
        holdout: Datasets whose images are refused.
        val: Dataset to validate on from now on.

    Raises:
        DataError: As `merge`.
        ConfigError: As `merge`.
    """
    into = into.absolute()
    with locked(lock_beside(into), work=into):
        recover_folder(into)
        there = LabeledSet.read(into) if (into / "labeled.json").exists() else None
        before = open_labeled_set(start, asked.class_names) if there is None else there
        after, report = join(before, asked, returned)
        after = replace(after, val=val or before.val)
        refused = [*holdout, *([after.val] if after.val is not None else [])]
        if refused:
            images = after.dataset.images.with_columns(pl.col(IMAGE_ID).alias("image_id"))
            refuse_holdout(images, [build_dataset(config) for config in refused])
        is_new = there is None or after.runs != there.runs or after.val != there.val
        if is_new or report.added or report.changed:
            write_labeled_set(into, after, report=report.to_dict())
        return report


def open_labeled_set(start: DatasetConfig | None, class_names: Sequence[str]) -> LabeledSet:
    """The labelled set before the first merge.

    Args:
        start: A labelled dataset, or None for none.
        class_names: Classes if there is none.

    Raises:
        DataError: If it cannot be read or has no annotations.
    """
    if start is None:
        return LabeledSet.empty(class_names)
    file = Path(start.path)
    if file.name == "labeled.json" and (file.parent / ".detal.json").exists():
        return LabeledSet.read(file.parent)  # another folder of ours: rounds go on
    return LabeledSet.start(build_dataset(start))


def write_labeled_set(into: Path, labeled: LabeledSet, *, report: dict[str, Any] | None) -> None:
    """Write the folder of a labelled set in one step.

    Raises:
        ConfigError: If there is something else at ``into``, or somebody changed it.
        DataError: If an image file is missing.
    """
    val = None if labeled.val is None else build_dataset(labeled.val)
    with staged_folder(into, kind=LABELED_SET) as folder:
        labeled.write_files(folder, val=val)
        if report is not None:
            text = json.dumps(report, indent=1, ensure_ascii=False)
            (folder / "merge.json").write_text(text + "\n", encoding="utf-8")


def _labeled_of(asked: Asked) -> DatasetConfig | None:
    """The labelled set that the run was selected with."""
    section = asked.config.get("labeled")
    try:
        return None if section is None else LabeledConfig.model_validate(section)
    except ValidationError as error:
        raise DataError(f"the run names a labelled set in a way we cannot read: {error}") from None
