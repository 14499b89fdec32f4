"""Join annotated images with a labelled set, in memory."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from detal.datasets.dataset import IMAGE_COLUMNS, Dataset, Problem
from detal.errors import DataError
from detal.loop.asked import Asked, match_images
from detal.loop.labeled_set import IMAGE_ID, ROUND, LabeledSet, fitted, rounded_xywh
from detal.manifests import Image
from detal.notebook import notebook_table
from detal.structures import Annotations

__all__ = ["MergeReport", "join"]

_OBJECT_KINDS = {
    "box_outside",
    "duplicate_box",
    "invalid_box",
    "missing_file",
    "not_labelled",
    "several_annotations",
    "shape_hull",
    "shape_left_out",
    "unknown_category",
    "unreadable_annotation",
    "zero_area_box",
}
"""Problems of a reader that cost an object or an image its annotation, or changed it."""


@dataclass(frozen=True)
class MergeReport:
    """What a merge did; images by their ids.

    Attributes:
        round_idx: Round that the images of the run belong to.
        asked: How many images the run asked for.
        added: Labelled for the first time.
        changed: Labelled before with other boxes, which these replace.
        unchanged: Labelled before with the same boxes.
        missing: Asked for and not there yet.
        extra: There and not asked for; left out.
        other_size: Annotated on an image of another size, as ``id: size, asked size``; left out.
        new_classes: Classes that the labelled set did not have.
        boxes: Boxes of the images added and changed.
        problems: Boxes, images and files that could not be used (errors) or not as they were.
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

    def _repr_html_(self) -> str:
        """What came and what is left to do, for notebooks."""
        lists = {
            "new": self.added,
            "changed": self.changed,
            "unchanged": self.unchanged,
            "missing": self.missing,
            "not asked for": self.extra,
            "of another size": self.other_size,
            "new classes": self.new_classes,
            "problems": [f"{p.file} {p.where}: {p.message}" for p in self.problems],
        }
        return notebook_table(
            f"Round {self.round_idx}",
            {"asked": self.asked, "labelled now": self.labeled_images, "boxes": self.labeled_boxes},
            columns=("", "number", "the first"),
            rows=[(name, len(found), ", ".join(found[:3])) for name, found in lists.items()],
        )


def join(before: LabeledSet, asked: Asked, returned: Dataset) -> tuple[LabeledSet, MergeReport]:
    """Join annotated images with a labelled set; no file is touched.

    Classes are matched by name; one that the set does not have is appended when its first object
    comes.

    Args:
        before: The labelled set.
        asked: What the run asked for.
        returned: Annotated images; only those asked for are taken.

    Raises:
        DataError: If none of them was asked for, or it is not clear which one is meant.
    """
    matches, extra = match_images(asked.images, returned.images)
    other_size = _other_sizes(asked.images, returned, matches)
    usable = {row: found for row, found in matches.items() if row not in other_size}
    extra_ids = tuple(returned.images["image_id"][row] for row in extra)
    if not usable:
        raise DataError(_nothing_came(asked, returned, extra_ids, tuple(other_size.values())))
    round_idx = before.runs.get(asked.key, before.last_round + 1)
    images = _images([asked.images[row] for row in usable], before, round_idx)
    annotations, new_classes = _relabelled(returned, list(usable.values()), before)
    annotations, problems = fitted(annotations, images)
    is_known, is_same = _compare(before, images, annotations)
    rows = np.flatnonzero(~is_same)
    after = before.joined(
        images[rows],
        annotations.take(rows),
        new_classes=new_classes,
        run=asked.key,
        round_idx=round_idx,
        ranks={image.path: rank for rank, image in enumerate(asked.images)},
    )
    ids = images[IMAGE_ID].to_numpy().astype(object)
    report = MergeReport(
        round_idx=round_idx,
        asked=len(asked.images),
        added=tuple(ids[~is_known]),
        changed=tuple(ids[is_known & ~is_same]),
        unchanged=tuple(ids[is_same]),
        missing=tuple(i.image_id for row, i in enumerate(asked.images) if row not in matches),
        extra=extra_ids,
        other_size=tuple(other_size.values()),
        new_classes=new_classes,
        boxes=len(annotations.take(rows).boxes),
        problems=(*(p for p in returned.problems if p.kind in _OBJECT_KINDS), *problems),
        labeled_images=len(after.dataset),
        labeled_boxes=len(after.annotations.boxes),
    )
    return after, report


def _other_sizes(
    asked: Sequence[Image], returned: Dataset, matches: dict[int, int]
) -> dict[int, str]:
    """Rows of ``asked`` that were annotated on an image of another size, in words."""
    sizes = returned.images.select("width", "height").rows()
    found = {}
    for row, number in matches.items():
        image, (width, height) = asked[row], sizes[number]
        if None not in (width, height) and (width, height) != (image.width, image.height):
            size = f"{width} x {height} instead of {image.width} x {image.height}"
            found[row] = f"{image.image_id}: {size}"
    return found


def _nothing_came(
    asked: Asked, returned: Dataset, extra: Sequence[str], other_size: Sequence[str]
) -> str:
    message = (
        f"at least one of the {len(asked.images)} images of the run must be annotated, "
        f"{returned.name} has none of them"
    )
    if asked.images:
        message += f" (the first is {asked.images[0].path})"
    if extra:
        message += f"; it has {len(extra)} others, for example {extra[0]}"
    unlabelled = sum(problem.kind == "not_labelled" for problem in returned.problems)
    if unlabelled:
        message += f"; {unlabelled} have no completed annotation"
    if other_size:
        message += f"; {len(other_size)} have another size, for example {other_size[0]}"
    return message


def _images(asked: Sequence[Image], before: LabeledSet, round_idx: int) -> pl.DataFrame:
    """The images as rows of the labelled set; those that were there keep their round."""
    rounds = dict(before.dataset.images.select("path", ROUND).iter_rows())
    columns = {name: [getattr(image, name) for image in asked] for name in IMAGE_COLUMNS}
    return pl.DataFrame(columns, schema=IMAGE_COLUMNS).with_columns(
        pl.col("image_id").alias(IMAGE_ID),
        pl.Series(ROUND, [rounds.get(i.path, round_idx) for i in asked], dtype=pl.Int64),
    )


def _relabelled(
    returned: Dataset, rows: Sequence[int], before: LabeledSet
) -> tuple[Annotations, tuple[str, ...]]:
    """The annotations of ``rows`` with the labels of the set, and the classes it lacks."""
    if returned.annotations is None:
        raise DataError(f"{returned.name} must have annotations")
    found = returned.annotations.take(rows)
    used = [returned.class_names[label] for label in np.unique(found.labels).tolist()]
    known = before.dataset.class_names
    new_classes = tuple(dict.fromkeys(name for name in used if name not in known))
    names = (*known, *new_classes)
    label_of = [names.index(n) if n in names else -1 for n in returned.class_names]
    return replace(found, labels=np.array(label_of, dtype=np.int64)[found.labels]), new_classes


def _compare(
    before: LabeledSet, images: pl.DataFrame, annotations: Annotations
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which images (K,) are in the set, and which of them have the same boxes there."""
    row_of = {path: row for row, path in enumerate(before.dataset.images["path"])}
    rows = [row_of.get(path, -1) for path in images["path"]]
    is_known = np.array([row >= 0 for row in rows], dtype=np.bool_)
    old = _objects(before.annotations.take([row for row in rows if row >= 0]))
    new = _objects(annotations.take(np.flatnonzero(is_known)))
    is_same = is_known.copy()
    is_same[is_known] = [a == b for a, b in zip(old, new, strict=True)]
    return is_known, is_same


def _objects(annotations: Annotations) -> list[list[tuple[Any, ...]]]:
    """The objects of each image as the files state them, whatever their order."""
    rows = [
        (label, is_crowd, *box)
        for label, is_crowd, box in zip(
            annotations.labels.tolist(),
            annotations.is_crowd.tolist(),
            rounded_xywh(annotations.boxes).tolist(),
            strict=True,
        )
    ]
    bounds = annotations.offsets.tolist()
    return [sorted(rows[a:b]) for a, b in itertools.pairwise(bounds)]
