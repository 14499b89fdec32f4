"""A dataset as columns: images, classes and, where there are any, annotations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from detal.errors import DataError
from detal.notebook import notebook_table
from detal.structures import Annotations

__all__ = ["IMAGE_COLUMNS", "Dataset", "Problem"]

IMAGE_COLUMNS = {
    "image_id": pl.String,
    "path": pl.String,
    "width": pl.Int32,
    "height": pl.Int32,
    "group": pl.String,
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a dataset.

    Attributes:
        kind: A short stable name: ``missing_file``, ``undecodable``, ``box_outside``,
            ``zero_area_box``, ``invalid_box``, ``unknown_category``, ``duplicate_id``,
            ``duplicate_content``, ``unreadable_annotation``, ``size_mismatch``, …
        file: The file that has to be mended.
        where: Row, line, image id or annotation id inside it; may be empty.
        message: What must hold and what was found.
        severity: ``error``: the image or box is left out; ``warning``: it is used as it is.
    """

    kind: str
    file: str
    where: str
    message: str
    severity: str = "error"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images in a stable order, with annotations packed in the same order.

    Attributes:
        name: Short name for messages and reports.
        images: One row per image: ``image_id`` (unique), ``path`` (absolute), ``width`` and
            ``height`` in pixels or null if not known before decoding, ``group`` (sequence, video or
            camera id) or null; further columns are the user's metadata.
        class_names: C names; ``labels`` index into them. Empty if the source names none.
        category_ids: C ids as the source numbers them (YOLO: 0..C-1, VOC: 1..C).
        annotations: Ground truth, or None for a pool without any.
        integer_ids: The source's image ids are integers (COCO); writers restore them.
        problems: What the reader found wrong and left out or passed on.
    """

    name: str
    images: pl.DataFrame
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    annotations: Annotations | None = None
    integer_ids: bool = False
    problems: tuple[Problem, ...] = ()

    def __post_init__(self) -> None:
        for column, dtype in IMAGE_COLUMNS.items():
            if self.images.schema.get(column) != dtype:
                raise DataError(
                    f"{self.name}: images must have a column {column} of type {dtype}, got "
                    f"{self.images.schema.get(column)}"
                )
        if self.images["image_id"].n_unique() != len(self.images):
            raise DataError(f"{self.name}: image ids must be unique")
        if len(self.class_names) != len(self.category_ids):
            raise DataError(
                f"{self.name}: got {len(self.class_names)} class names and "
                f"{len(self.category_ids)} category ids"
            )
        if self.annotations is not None and len(self.annotations) != len(self.images):
            raise DataError(
                f"{self.name}: annotations cover {len(self.annotations)} images of "
                f"{len(self.images)}"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_ids(self) -> NDArray[Any]:
        """(P,) image ids, str objects."""
        return self.images["image_id"].to_numpy().astype(object)

    def take(self, index: Sequence[int] | NDArray[Any]) -> Dataset:
        """The images ``index`` (K,), in that order, with their annotations."""
        rows = np.asarray(index, dtype=np.int64)
        return Dataset(
            name=self.name,
            images=self.images[rows],
            class_names=self.class_names,
            category_ids=self.category_ids,
            annotations=None if self.annotations is None else self.annotations.take(rows),
            integer_ids=self.integer_ids,
            problems=self.problems,
        )

    def index_of(self, image_ids: Sequence[str]) -> NDArray[np.int64]:
        """(K,) positions of ``image_ids``.

        Raises:
            DataError: If an id is not in the dataset.
        """
        position = {image_id: i for i, image_id in enumerate(self.images["image_id"])}
        missing = [image_id for image_id in image_ids if image_id not in position]
        if missing:
            raise DataError(
                f"{self.name}: no image with id {missing[0]!r} ({len(missing)} missing)"
            )
        return np.array([position[image_id] for image_id in image_ids], dtype=np.int64)

    def _repr_html_(self) -> str:
        """Images, boxes and classes, for notebooks."""
        found = self.annotations
        counts = None if found is None else found.class_counts(len(self.class_names))
        order = [] if counts is None else np.argsort(-counts, kind="stable").tolist()
        return notebook_table(
            f"Dataset {self.name}",
            {
                "images": len(self),
                "boxes": None if found is None else len(found.boxes),
                "classes": len(self.class_names),
                "problems": len(self.problems) or None,
            },
            columns=() if counts is None else ("class", "objects"),
            rows=[] if counts is None else [(self.class_names[i], int(counts[i])) for i in order],
            total=len(order),
        )
