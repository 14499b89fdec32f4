"""Which label an object of a category gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detal.datasets.dataset import Problem
from detal.errors import DataError

__all__ = ["EXCLUDED", "UNKNOWN", "ClassTable", "class_table", "excluded_classes"]

UNKNOWN = -1
"""Label of a category that the source does not define."""
EXCLUDED = -2
"""Label of a category that the source defines and the caller did not ask for."""


@dataclass(frozen=True)
class ClassTable:
    """Classes of a dataset.

    Attributes:
        names: C names, in label order.
        category_ids: C ids as the source numbers them; new ones for classes it lacks.
        label_of: Label of each category id of the source, ``EXCLUDED`` for those not asked for.
        name_of: Name of each category id of the source.
    """

    names: tuple[str, ...]
    category_ids: tuple[int, ...]
    label_of: dict[int, int]
    name_of: dict[int, str]

    def labels(self, category_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """(M,) labels of category ids (M,), ``UNKNOWN`` where the source has no such category."""
        values, inverse = np.unique(category_ids, return_inverse=True)
        known = [self.label_of.get(value, UNKNOWN) for value in values.tolist()]
        return np.array(known, dtype=np.int64)[inverse]


def class_table(
    source: Sequence[tuple[int, str]], class_names: Sequence[str] | None = None
) -> ClassTable:
    """Map the source's categories to labels.

    Args:
        source: Id and name of each category, in label order, ids distinct.
        class_names: The classes wanted, in label order; None means those of the source.

    Raises:
        DataError: If ``class_names`` repeats a name.
    """
    if class_names is None:
        labels = {category: label for label, (category, _) in enumerate(source)}
        return ClassTable(tuple(name for _, name in source), tuple(labels), labels, dict(source))
    names = tuple(class_names)
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"class_names must be distinct, got {twice!r} twice")
    label_by_name = {name: label for label, name in enumerate(names)}
    id_by_name = {name: category for category, name in reversed(source)}
    unused = max((category for category, _ in source), default=-1) + 1
    ids = []
    for name in names:
        ids.append(id_by_name.get(name, unused))
        unused += name not in id_by_name
    label_of = {category: label_by_name.get(name, EXCLUDED) for category, name in source}
    return ClassTable(names, tuple(ids), label_of, dict(source))


def excluded_classes(
    classes: ClassTable, category_ids: NDArray[np.int64], file: str
) -> list[Problem]:
    """One warning for each class whose objects are left out because nobody asked for it.

    Args:
        classes: The classes of the dataset.
        category_ids: (M,) category of each object.
        file: The file or folder they come from.
    """
    values, counts = np.unique(category_ids, return_counts=True)
    return [
        Problem(
            "excluded_category",
            file,
            f"category {category}",
            f"{count} objects of class {classes.name_of[category]!r} are left out: it is not among "
            "the class names",
            "warning",
        )
        for category, count in zip(values.tolist(), counts.tolist(), strict=True)
        if classes.label_of.get(category) == EXCLUDED
    ]
