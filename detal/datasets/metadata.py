"""Join a table with one row per image onto a dataset."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePath

import polars as pl

from detal.datasets.dataset import IMAGE_COLUMNS, Dataset, Problem
from detal.datasets.listing import absolute
from detal.errors import DataError

__all__ = ["KEY_COLUMNS", "join_metadata"]

KEY_COLUMNS = ("image_id", "file_name", "filename", "file", "path", "image", "name")
"""Columns that may say which image a row is about, best first."""


def join_metadata(dataset: Dataset, path: str | Path) -> Dataset:
    """Add the columns of a CSV file to the images.

    A row belongs to the image whose id, path, file name or file name without ending it names, in
    this order. A column ``group`` fills the group; a column that exists already is replaced where
    the row has a value.

    Args:
        dataset: The dataset.
        path: UTF-8 CSV with a header and one of ``KEY_COLUMNS``.

    Raises:
        DataError: If the file cannot be read or has no such column.
    """
    file = absolute(path)
    table, key = _read_csv(file)
    positions, problems = _match(table[key].to_list(), dataset.images, file)
    rows = [row for row in positions if row is not None]
    chosen = [number for number, row in enumerate(positions) if row is not None]
    kept = table[chosen].drop(key).with_columns(pl.Series("__row", rows, dtype=pl.Int64))
    images = dataset.images.with_columns(
        pl.int_range(len(dataset), dtype=pl.Int64).alias("__row")
    ).join(kept, on="__row", how="left", suffix="__new", maintain_order="left")
    there = set(images.columns)
    twice = [name for name in kept.columns if f"{name}__new" in there]
    images = images.with_columns(_overridden(images, name) for name in twice)
    images = images.drop(f"{name}__new" for name in twice)
    return replace(dataset, images=images.drop("__row"), problems=(*dataset.problems, *problems))


def _overridden(images: pl.DataFrame, name: str) -> pl.Series:
    """A column with the new values where there are any; as text if the types differ."""
    old, new = images[name], images[f"{name}__new"]
    if old.dtype != new.dtype:
        old, new = old.cast(pl.String), new.cast(pl.String)
    merged: pl.Series = new.zip_with(new.is_not_null(), old)
    return merged.alias(name)


def _read_csv(file: Path) -> tuple[pl.DataFrame, str]:
    try:
        header = pl.read_csv(file, n_rows=0, encoding="utf8").columns
        key = next((name for name in KEY_COLUMNS if name in header), None)
        if key is None:
            raise DataError(
                f"{file} must have a column {' or '.join(KEY_COLUMNS)}, got {', '.join(header)}"
            )
        text = dict.fromkeys({key, "group"} & set(header), pl.String())
        table = pl.read_csv(file, schema_overrides=text, infer_schema_length=None)
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror or error}") from None
    except pl.exceptions.PolarsError as error:
        first = str(error).strip().splitlines()[0]
        raise DataError(f"{file} must be a CSV table: {first}") from None
    reserved = set(IMAGE_COLUMNS) - {"group"}
    return table.select([c for c in table.columns if c == key or c not in reserved]), key


def _match(
    keys: list[str | None], images: pl.DataFrame, file: Path
) -> tuple[list[int | None], list[Problem]]:
    """The image row of each table row, None where none or an earlier row has it."""
    lookups = _lookups(images)
    taken: dict[int, int] = {}
    positions: list[int | None] = []
    problems = []
    for line, key in enumerate(keys, start=2):  # line 1 is the header
        text = (key or "").strip().replace("\\", "/")
        row = next((t[text] for t in lookups if text in t), None)
        if row is None or row < 0:
            rule = "a row must name an image" if row is None else "a row must name one image only"
            problems.append(
                Problem("unmatched_metadata", str(file), f"line {line}", f"{rule}, got {key!r}")
            )
            row = None
        elif row in taken:
            message = f"an image must have one row, {key!r} is in line {taken[row]} too"
            problems.append(Problem("duplicate_metadata", str(file), f"line {line}", message))
            row = None
        else:
            taken[row] = line
        positions.append(row)
    return positions, problems


def _lookups(images: pl.DataFrame) -> tuple[dict[str, int], ...]:
    """Image row by id, by path, by file name and by stem; -1 where several images share it."""
    ids, paths = images["image_id"].to_list(), images["path"].to_list()
    files = [PurePath(path) for path in paths]
    names = ids, paths, [file.name for file in files], [file.stem for file in files]
    lookups = []
    for column in names:
        lookup: dict[str, int] = {}
        for row, name in enumerate(column):
            lookup[name] = -1 if name in lookup else row
        lookups.append(lookup)
    return tuple(lookups)
