"""The labelled set: a folder that detal owns and that grows with every merge.

labeled.json   COCO: every labelled image with its true boxes; ``labeled=`` of `detal select`
yolo/          the same for ``yolo train data=yolo/data.yaml``
merge.json     report of the merge that changed the folder last
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from detal.boxes import xyxy_to_xywh
from detal.config import DatasetConfig
from detal.datasets.coco import read_coco
from detal.datasets.dataset import IMAGE_COLUMNS, Dataset, Problem
from detal.datasets.images import image_sizes
from detal.datasets.listing import read_text
from detal.datasets.objects import RawObjects, clean_objects
from detal.errors import DataError
from detal.manifests import write_yolo_dataset
from detal.structures import Annotations

__all__ = ["IMAGE_ID", "ROUND", "LabeledSet", "fitted", "rounded_xywh"]

log = logging.getLogger(__name__)

IMAGE_ID = "detal_image_id"
"""Column with the id that an image has where it comes from."""
ROUND = "detal_round"
"""Column with the round in which an image was labelled."""

_COLUMNS = [*IMAGE_COLUMNS, IMAGE_ID, ROUND]
_PIXEL_DIGITS = 2


@dataclass(frozen=True, eq=False)
class LabeledSet:
    """The labelled images and where they come from.

    Attributes:
        dataset: The images by round, with ``detal_image_id`` and ``detal_round``, and their boxes.
            Ids are those of their sources where these are whole numbers and distinct, else 1, 2, …
        runs: Round of each run merged so far, by the run's key.
        val: The dataset that ``yolo/data.yaml`` validates on.
    """

    dataset: Dataset
    runs: Mapping[str, int] = field(default_factory=dict)
    val: DatasetConfig | None = None

    @property
    def annotations(self) -> Annotations:
        """True boxes of the images."""
        if self.dataset.annotations is None:
            raise DataError(f"{self.dataset.name} must have annotations")
        return self.dataset.annotations

    @property
    def labeled_round(self) -> NDArray[np.int64]:
        """(P,) round in which each image was labelled: 0 for what was there at the start."""
        return self.dataset.images[ROUND].to_numpy().astype(np.int64)

    @property
    def last_round(self) -> int:
        """The highest round so far."""
        rounds: list[int] = self.labeled_round.tolist()
        return max([0, *rounds, *self.runs.values()])

    @staticmethod
    def start(dataset: Dataset) -> LabeledSet:
        """Images that were labelled before the first round.

        Rounds and ids of an older labelled set (its ``labeled.json``) are kept. Images whose file
        is missing or unreadable are left out with a warning.

        Raises:
            DataError: If there are no annotations.
        """
        if dataset.annotations is None:
            raise DataError(f"the labelled set must have annotations, {dataset.name} has none")
        images = _with_state(dataset.images)
        images, readable = _with_sizes(images)
        if not readable.all():
            first = images["path"][int(np.argmin(readable))]
            log.warning(
                "%d labelled images cannot be read and are left out, for example %s",
                int((~readable).sum()),
                first,
            )
        rows = np.flatnonzero(readable)
        images = images[rows]
        annotations, problems = fitted(dataset.annotations.take(rows), images)
        if problems:
            log.warning("%d labelled boxes do not fit their images", len(problems))
        ascending = list(dataset.category_ids) == sorted(set(dataset.category_ids))
        numbered = tuple(range(1, len(dataset.class_names) + 1))
        return LabeledSet(
            Dataset(
                name="labeled",
                images=_with_ids(images),
                class_names=dataset.class_names,
                category_ids=dataset.category_ids if ascending else numbered,
                annotations=annotations,
            )
        )

    @staticmethod
    def empty(class_names: Sequence[str]) -> LabeledSet:
        """No image, but classes."""
        columns = {name: pl.Series([], dtype=dtype) for name, dtype in IMAGE_COLUMNS.items()}
        return LabeledSet(
            Dataset(
                name="labeled",
                images=_with_state(pl.DataFrame(columns)),
                class_names=tuple(class_names),
                category_ids=tuple(range(1, len(class_names) + 1)),
                annotations=Annotations.from_lists([], []),
            )
        )

    @staticmethod
    def read(folder: Path) -> LabeledSet:
        """Read a folder written by `write_files`.

        Raises:
            DataError: If it is none.
        """
        file = folder / "labeled.json"
        dataset = read_coco(file)
        try:
            info = json.loads(read_text(file))["info"]
            runs = {str(key): int(round_idx) for key, round_idx in info["runs"].items()}
            val = info["val"] and DatasetConfig.model_validate(info["val"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{file} must be written by detal merge: {error!r}") from None
        dataset = replace(dataset, images=_with_state(dataset.images), integer_ids=False)
        return LabeledSet(dataset, runs=runs, val=val or None)

    def joined(
        self,
        images: pl.DataFrame,
        annotations: Annotations,
        *,
        new_classes: Sequence[str],
        run: str,
        round_idx: int,
        ranks: Mapping[str, int],
    ) -> LabeledSet:
        """The set with more images; one that has a path of these is replaced.

        Args:
            images: K images as in ``dataset``.
            annotations: Of the K images; labels count ``new_classes`` behind the set's classes.
            new_classes: Classes that the set does not have.
            run: Key of the run they were asked for by.
            round_idx: Round of that run.
            ranks: Place of each path of the run inside its round.
        """
        kept = np.flatnonzero(~self.dataset.images["path"].is_in(images["path"].implode()))
        everything = pl.concat(
            [self.dataset.images.select(_COLUMNS)[kept], images.select(_COLUMNS)]
        )
        packed = Annotations.concat([self.annotations.take(kept), annotations])
        places = [
            (round_of, ranks.get(path, -1), row)
            for row, (path, round_of) in enumerate(everything.select("path", ROUND).iter_rows())
        ]
        order = np.array([row for _, _, row in sorted(places)], dtype=np.int64)
        first_id = max(self.dataset.category_ids, default=0) + 1
        new_ids = range(first_id, first_id + len(new_classes))
        return LabeledSet(
            Dataset(
                name="labeled",
                images=_with_ids(everything[order]),
                class_names=(*self.dataset.class_names, *new_classes),
                category_ids=(*self.dataset.category_ids, *new_ids),
                annotations=packed.take(order),
            ),
            runs={**self.runs, run: round_idx},
            val=self.val,
        )

    def write_files(self, folder: Path, *, val: Dataset | None) -> None:
        """Write ``labeled.json`` and ``yolo/``; equal sets give byte-identical files.

        Args:
            folder: Exists, and holds neither.
            val: The opened dataset that ``val`` names.

        Raises:
            DataError: If an image file is missing.
        """
        document = {
            "info": {
                "description": "labelled images; written by detal merge",
                "runs": dict(sorted(self.runs.items())),
                "val": None if self.val is None else self.val.model_dump(mode="json"),
            },
            "licenses": [],
            "images": [_image_entry(row) for row in self.dataset.images.iter_rows(named=True)],
            "annotations": self._annotation_entries(),
            "categories": [
                {"id": category_id, "name": name, "supercategory": ""}
                for category_id, name in zip(
                    self.dataset.category_ids, self.dataset.class_names, strict=True
                )
            ],
        }
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1)
        (folder / "labeled.json").write_text(text + "\n", encoding="utf-8")
        write_yolo_dataset(folder / "yolo", self.dataset, val=val)

    def _annotation_entries(self) -> list[dict[str, Any]]:
        found = self.annotations
        image_ids = [int(image_id) for image_id in self.dataset.images["image_id"]]
        rows = zip(
            found.image_index.tolist(),
            found.labels.tolist(),
            rounded_xywh(found.boxes).tolist(),
            found.areas.round(_PIXEL_DIGITS).tolist(),
            found.is_crowd.tolist(),
            strict=True,
        )
        return [
            {
                "id": number,
                "image_id": image_ids[image],
                "category_id": self.dataset.category_ids[label],
                "bbox": box,
                "area": area,
                "iscrowd": int(is_crowd),
                "segmentation": [],
            }
            for number, (image, label, box, area, is_crowd) in enumerate(rows, start=1)
        ]


def fitted(annotations: Annotations, images: pl.DataFrame) -> tuple[Annotations, list[Problem]]:
    """Round boxes as the files will state them, and clip them to their images.

    Args:
        annotations: Of P images.
        images: The P images, with their true sizes.

    Returns:
        The annotations, and a problem for each box that had to be clipped or left out.
    """
    rows = annotations.image_index

    def place(row: int) -> tuple[str, str]:
        path, image_id = images.select("path", "image_id").row(int(rows[row]))
        return path, image_id

    raw = RawObjects(
        image_rows=rows,
        boxes=annotations.boxes.astype(np.float64).round(_PIXEL_DIGITS),
        labels=annotations.labels,
        is_crowd=annotations.is_crowd,
        areas=annotations.areas,
        ids=np.arange(1, len(rows) + 1),
        place=place,
    )
    return clean_objects(raw, images)


def rounded_xywh(boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    """(M, 4) left, top, width, height as the files state them.

    Corners are rounded, not sides: reading the files and writing them again changes nothing.

    Args:
        boxes: (M, 4) xyxy.
    """
    corners = boxes.astype(np.float64).round(_PIXEL_DIGITS)
    boxes_xywh: NDArray[np.float64] = xyxy_to_xywh(corners).round(_PIXEL_DIGITS)
    return boxes_xywh


def _with_state(images: pl.DataFrame) -> pl.DataFrame:
    """The images with id and round columns, made where the source has none."""
    own_id = pl.col(IMAGE_ID) if IMAGE_ID in images.columns else pl.col("image_id")
    own_round = pl.col(ROUND) if ROUND in images.columns else pl.lit(0)
    return images.with_columns(
        own_id.cast(pl.String).fill_null(pl.col("image_id")).alias(IMAGE_ID),
        own_round.cast(pl.Int64, strict=False).fill_null(0).alias(ROUND),
    ).select(_COLUMNS)


def _with_sizes(images: pl.DataFrame) -> tuple[pl.DataFrame, NDArray[np.bool_]]:
    """The images with their sizes read from the files' headers, and which files could be read."""
    sizes = list(image_sizes(images["path"].to_list()))
    readable = np.array([not isinstance(size, DataError) for size in sizes], dtype=np.bool_)
    known = [(None, None) if isinstance(size, DataError) else size for size in sizes]
    columns = [
        pl.Series(name, [size[i] for size in known], dtype=pl.Int32)
        for i, name in enumerate(("width", "height"))
    ]
    return images.with_columns(columns), readable


def _with_ids(images: pl.DataFrame) -> pl.DataFrame:
    """Ids for COCO: whole numbers, the images' own where they are such and distinct."""
    own = images[IMAGE_ID].to_list()
    if len(set(own)) != len(own) or not all(re.fullmatch(r"0|[1-9]\d{0,17}", t) for t in own):
        own = [str(number) for number in range(1, len(own) + 1)]
    return images.with_columns(pl.Series("image_id", own, dtype=pl.String))


def _image_entry(image: dict[str, Any]) -> dict[str, Any]:
    entry = {
        "id": int(image["image_id"]),
        "file_name": image["path"],
        "width": image["width"],
        "height": image["height"],
        IMAGE_ID: image[IMAGE_ID],
        ROUND: image[ROUND],
    }
    return entry if image["group"] is None else {**entry, "group": image["group"]}
