"""What a run asked to be labelled, and which of it an annotation file gives."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from detal.errors import DataError
from detal.files import read_json
from detal.loop.labeled_set import IMAGE_ID
from detal.manifests import Image, read_csv
from detal.manifests.yolo_files import name_key, unique_names

__all__ = ["Asked", "match_images", "read_asked"]

_SHOWN = 10
_HASH = re.compile(r"^[0-9a-f]{8}(__|-)")  # what Label Studio puts before a file's name


@dataclass(frozen=True)
class Asked:
    """The images of a manifest.

    Attributes:
        images: K images, best first.
        class_names: Classes of the detector that chose them, in label order.
        config: The run's config, empty if the run keeps none.
    """

    images: tuple[Image, ...]
    class_names: tuple[str, ...]
    config: Mapping[str, Any]

    @cached_property
    def key(self) -> str:
        """Identifies the run: a hash of the ids it asked for, whatever their order."""
        text = json.dumps(sorted(image.image_id for image in self.images))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def read_asked(run: Path) -> Asked:
    """Read the folder of a run of `detal select`.

    Raises:
        DataError: If it is none.
    """
    if not (run / "selection.csv").is_file():
        raise DataError(f"a run must be a folder written by detal select, got {run}")
    images = read_csv(run / "selection.csv")
    try:
        record = read_json(run / "run.json")
        class_names = tuple(record["detector"]["class_names"])
        config = dict(record.get("config") or {})
    except OSError as error:
        raise DataError(f"cannot read {run / 'run.json'}: {error.strerror}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{run / 'run.json'} must be written by detal select: {error!r}") from None
    return Asked(images=images, class_names=class_names, config=config)


def match_images(
    asked: Sequence[Image], returned: pl.DataFrame
) -> tuple[dict[int, int], tuple[int, ...]]:
    """Find the images that were asked for among those that came back; never by position.

    What counts, best first: the column ``detal_image_id``; the file itself (links are followed);
    the file's name, as it is in the pool or in the manifest's ``yolo/`` folder, without ending. An
    id of the file's own is believed where it fits the name, or, if the name is unknown, where all
    other ids of the file fit: tools that number images anew must not shift the labels.

    Args:
        asked: K images of a manifest.
        returned: Images of the annotations (`detal.datasets.Dataset.images`).

    Returns:
        Row of ``returned`` for each row of ``asked`` that is there, in the order of ``asked``; and
        the rows of ``returned`` that nobody asked for.

    Raises:
        DataError: If it is not clear which image is meant.
    """
    index = _Index.of(asked)
    clues = index.clues(returned)
    fits = sum(clue.row_of_id in clue.named for clue in clues if clue.row_of_id is not None)
    contradicts = any(
        clue.named and clue.row_of_id is not None and clue.row_of_id not in clue.named
        for clue in clues
    )
    rows: dict[int, list[int]] = defaultdict(list)
    extra, unclear = [], []
    for number, clue in enumerate(clues):
        found = clue.named
        if clue.row_of_id is not None and not contradicts:
            if clue.row_of_id in found or (not found and fits):
                found = frozenset({clue.row_of_id})
            elif not found:
                name = asked[clue.row_of_id].path
                unclear.append(f"{clue.shown} has the id of {name}, but another file name")
                continue
        if len(found) > 1:
            unclear.append(f"{clue.shown} may be any of {_paths(asked, sorted(found))}")
        elif found:
            rows[next(iter(found))].append(number)
        else:
            extra.append(number)
    for row, numbers in rows.items():
        if len(numbers) > 1:
            both = ", ".join(clues[number].shown for number in numbers)
            unclear.append(f"{both} are all {asked[row].path}")
    if unclear:
        more = f" and {len(unclear) - _SHOWN} more" if len(unclear) > _SHOWN else ""
        raise DataError(
            "each annotated image must be one image of the manifest: "
            f"{'; '.join(unclear[:_SHOWN])}{more}; use the file names of the manifest's yolo/ "
            "folder, or keep detal_image_id"
        )
    return {row: rows[row][0] for row in sorted(rows)}, tuple(extra)


@dataclass(frozen=True)
class _Clue:
    """What an image of the annotations says about itself.

    Attributes:
        shown: For messages.
        named: Rows of the manifest that it can be by its sure id, file or name.
        row_of_id: Row with the same id as its own, or None.
    """

    shown: str
    named: frozenset[int]
    row_of_id: int | None


@dataclass(frozen=True)
class _Index:
    """The images of a manifest by everything that can name them."""

    by_id: Mapping[str, int]
    by_file: Mapping[str, int]
    by_name: Mapping[str, frozenset[int]]
    given_names: tuple[str, ...]

    @staticmethod
    def of(asked: Sequence[Image]) -> _Index:
        given = tuple(name_key(name) for name in unique_names([image.path for image in asked]))
        by_name: dict[str, set[int]] = defaultdict(set)
        for row, image in enumerate(asked):
            by_name[given[row]].add(row)
            by_name[name_key(image.path)].add(row)
        return _Index(
            by_id={image.image_id: row for row, image in enumerate(asked)},
            by_file={os.path.realpath(image.path): row for row, image in enumerate(asked)},
            by_name={name: frozenset(rows) for name, rows in by_name.items()},
            given_names=given,
        )

    def clues(self, returned: pl.DataFrame) -> list[_Clue]:
        """One clue for each image that came back."""
        stated: list[str | None] = [None] * len(returned)
        if IMAGE_ID in returned.columns:
            stated = returned[IMAGE_ID].cast(pl.String).to_list()
        present = {name_key(path) for path in returned["path"]}
        clues = []
        for (own_id, path), source_id in zip(
            returned.select("image_id", "path").iter_rows(), stated, strict=True
        ):
            file = self.by_file.get(os.path.realpath(path))
            if source_id is not None:
                sure = {row for row in (self.by_id.get(source_id), file) if row is not None}
                clues.append(_Clue(f"image {source_id}", frozenset(sure), None))
            elif file is not None:
                clues.append(_Clue(path, frozenset({file}), self.by_id.get(own_id)))
            else:
                named = self._named(name_key(path), present)
                clues.append(_Clue(path, named, self.by_id.get(own_id)))
        return clues

    def _named(self, name: str, present: set[str]) -> frozenset[int]:
        """Rows that a file of this name can be.

        Where several images of the pool have the name, only one has it in the ``yolo/`` folder; it
        is that one if the others have come under their names there.
        """
        rows = self.by_name.get(name) or self.by_name.get(_HASH.sub("", name), frozenset())
        if any(self.given_names[row] in present - {name} for row in rows):
            rows = frozenset(row for row in rows if self.given_names[row] == name)
        return rows


def _paths(asked: Sequence[Image], rows: Sequence[int]) -> str:
    return ", ".join(asked[row].path for row in rows[:_SHOWN])
