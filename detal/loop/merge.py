"""Join annotated images with the labelled set: what came is checked against what was asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from filelock import FileLock, Timeout
from pydantic import ValidationError

from detal.config import DatasetConfig, LabeledConfig
from detal.datasets.dataset import IMAGE_COLUMNS, Dataset, Problem
from detal.errors import ConfigError, DataError
from detal.loop.asked import Asked, match_images, read_asked
from detal.loop.holdout import refuse_holdout
from detal.loop.labeled_set import IMAGE_ID, ROUND, LabeledSet, fitted, rounded_xywh
from detal.loop.returned import open_returned
from detal.manifests import Image, check_output, recover_folder, staged_folder
from detal.runs.building import build_dataset
from detal.structures import Annotations

__all__ = ["MergeReport", "join", "merge", "merge_dataset", "open_labeled_set", "write_labeled_set"]


@dataclass(frozen=True)
class MergeReport:
    """What a merge did; images by their ids.

    Attributes:
        round_idx: Round that the images of the run belong to.
        asked: How many images the run asked for.
        added: Labelled for the first time.
        changed: Labelled by an earlier merge with other boxes, which these replace.
        unchanged: Labelled by an earlier merge with the same boxes.
        missing: Asked for and not there yet.
        extra: There and not asked for; left out.
        other_size: Annotated on an image of another size, as ``id: size, asked size``; left out.
        new_classes: Classes that the labelled set did not have.
        boxes: Boxes of the images added and changed.
        problems: Boxes and files that could not be used or had to be clipped.
        labeled_images: Images of the labelled set now.
        labeled_boxes: Its boxes.
    """

    round_idx: int
    asked: int
    added: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    other_size: tuple[str, ...]
    new_classes: tuple[str, ...]
    boxes: int
    problems: tuple[Problem, ...]
    labeled_images: int
    labeled_boxes: int

    def to_dict(self) -> dict[str, Any]:
        """The report for JSON."""
        return asdict(self)


def merge(
    run: Path,
    annotations: Path,
    *,
    into: Path,
    labeled: DatasetConfig | None = None,
    holdout: Sequence[DatasetConfig] = (),
    val: DatasetConfig | None = None,
    dataset_format: str = "auto",
    images_root: Path | None = None,
) -> MergeReport:
    """Merge annotations of a run's images into a labelled set.

    A batch may come in parts, and a part again: newer annotations of an image replace older ones,
    and a merge that brings nothing new changes no file. The folder is replaced in one step.

    Args:
        run: Folder written by `detal select`.
        annotations: COCO JSON, YOLO or VOC.
        into: Folder of the labelled set; made by the first merge.
        labeled: What the first merge starts from; by default the labelled set of the run, if it has
            one.
        holdout: Datasets whose images are refused.
        val: Dataset that ``yolo/data.yaml`` validates on from now on, refused like ``holdout``; by
            default that of the last merge.
        dataset_format: Of the annotations: ``auto``, ``coco``, ``yolo`` or ``voc``.
        images_root: Image folder of the annotations, where they do not tell.

    Raises:
        DataError: If something cannot be read, no image of the run came, an image may be several,
            or one is in a hold-out; nothing was merged then.
        ConfigError: If ``into`` is not a labelled set, was changed by hand or is being written.
    """
    asked = read_asked(run)
    returned = open_returned(
        annotations,
        dataset_format=dataset_format,
        images_root=images_root,
        manifest=run,
        class_names=asked.class_names,
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
    with _locked(into):
        recover_folder(into)
        check_output(into)
        is_first = not (into / "labeled.json").exists()
        before = open_labeled_set(start, asked.class_names) if is_first else LabeledSet.read(into)
        if val is not None:
            before = replace(before, val=val)
        after, report = join(before, asked, returned)
        refused = [*holdout, *([after.val] if after.val is not None else [])]
        if refused:
            known = set() if is_first else set(before.dataset.images["path"])
            new = after.dataset.images.filter(~pl.col("path").is_in(list(known)))
            refuse_holdout(_by_source_id(new), [build_dataset(config) for config in refused])
        if is_first or report.added or report.changed or after.runs != before.runs:
            write_labeled_set(into, after, report={**report.to_dict()})
        return report


def open_labeled_set(start: DatasetConfig | None, class_names: Sequence[str]) -> LabeledSet:
    """The labelled set before the first merge.

    Args:
        start: A labelled dataset, or None for none.
        class_names: Classes if there is none.

    Raises:
        DataError: If it cannot be read or has no annotations.
    """
    return LabeledSet.empty(class_names) if start is None else LabeledSet.start(build_dataset(start))


def write_labeled_set(into: Path, labeled: LabeledSet, *, report: dict[str, Any] | None) -> None:
    """Write the folder of a labelled set in one step.

    Raises:
        ConfigError: If there is something else at ``into``, or somebody changed it.
        DataError: If an image file is missing.
    """
    val = None if labeled.val is None else build_dataset(labeled.val)
    with staged_folder(into) as folder:
        labeled.write_files(folder, val=val)
        if report is not None:
            text = json.dumps(report, indent=1, ensure_ascii=False)
            (folder / "merge.json").write_text(text + "\n", encoding="utf-8")
