"""Objects whose classes are given by name, as labelling tools export them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from detal.datasets.classes import UNKNOWN, ClassTable, class_table, excluded_classes
from detal.datasets.dataset import Problem
from detal.datasets.objects import RawObjects, clean_objects
from detal.datasets.shapes import Box
from detal.structures import Annotations

__all__ = ["NamedObject", "named_annotations"]


@dataclass(frozen=True)
class NamedObject:
    """One object.

    Attributes:
        image_row: Row of its image in the dataset.
        name: Its class, empty if not stated.
        box: xyxy in pixels, NaN where not stated or no number.
        where: Its place in the file, for messages.
    """

    image_row: int
    name: str
    box: Box
    where: str


def named_annotations(
    objects: Sequence[NamedObject],
    images: pl.DataFrame,
    *,
    file: str,
    names: Sequence[str],
    class_names: Sequence[str] | None,
) -> tuple[ClassTable, Annotations, list[Problem]]:
    """Pack objects, and number their classes.

    Args:
        objects: In file order.
        images: The dataset's images.
        file: Where they come from, for messages.
        names: Classes that the file declares, in their order; others that occur follow, sorted.
        class_names: Classes wanted and their order, or None for all.

    Returns:
        The classes, the annotations, and what was wrong with objects.

    Raises:
        DataError: If ``class_names`` repeats a name.
    """
    known = list(dict.fromkeys([*names, *(class_names or ())]))
    known += sorted({thing.name for thing in objects} - {"", *known})
    classes = class_table(list(enumerate(known, start=1)), class_names)
    category_of = {name: category for category, name in classes.name_of.items()}
    category_ids = np.array([category_of.get(o.name, 0) for o in objects], dtype=np.int64)
    labels = classes.labels(category_ids)
    problems = [
        Problem("unknown_category", file, objects[row].where, "an object must have a label")
        for row in np.flatnonzero(labels == UNKNOWN).tolist()
    ]
    problems += excluded_classes(classes, category_ids, file)
    keep = np.flatnonzero(labels >= 0)
    kept = [objects[row] for row in keep.tolist()]
    raw = RawObjects(
        image_rows=np.array([o.image_row for o in kept], dtype=np.int64),
        boxes=np.array([o.box for o in kept], dtype=np.float64).reshape(-1, 4),
        labels=labels[keep],
        is_crowd=np.zeros(len(kept), dtype=np.bool_),
        areas=np.full(len(kept), np.nan),
        ids=np.full(len(kept), -1, dtype=np.int64),
        place=lambda row: (file, kept[row].where),
    )
    annotations, box_problems = clean_objects(raw, images)
    return classes, annotations, problems + box_problems
