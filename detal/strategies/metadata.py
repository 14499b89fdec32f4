"""Strategies over what is known about an image besides its content.

Expressions are SQL, parsed by Polars: ``weather == 'rain' and sharpness > 50``,
``camera in ('north', 'east')``, ``0.3 * sharpness + luminance``. Columns are the user's
(``pool.metadata``), what was measured when the image was decoded (``sharpness``, ``luminance``,
``contrast``), ``width``, ``height``, ``group``, ``path``, ``image_id`` and ``expected_boxes``. A
comparison with a missing value matches nothing.

Shapes: P candidates.
"""

from __future__ import annotations

import logging

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.exceptions import PolarsError

from detal.errors import ConfigError, DataError, unknown_name
from detal.strategies.candidates import Candidates
from detal.strategies.fill import Choice, Order
from detal.strategies.scored import highest_first
from detal.strategies.strategy import MeasureSelector
from detal.structures import Budget

__all__ = ["filter_images", "weighted"]

log = logging.getLogger(__name__)

_RESULT = "__result"


def filter_images(*, where: str | None = None) -> MeasureSelector:
    """Images that match a condition, in random order; no other image is ever offered.

    By itself a random sample of what matches; mostly the first stage of ``staged``. Cost: none
    beyond the table of metadata. Failure mode: a condition on a column with gaps silently narrows
    the pool, as a missing value matches nothing.

    Args:
        where: SQL condition over the columns of metadata, for example
            ``weather == 'rain' and sharpness > 50``; must be given.
    """
    text = _check(where, "where", "weather == 'rain'")

    def select(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
        if len(candidates) == 0:
            return
        result = _evaluate(text, candidates, "where")
        if result.dtype != pl.Boolean:
            raise ConfigError(f"where must be true or false, {text!r} is of type {result.dtype}")
        matching = np.flatnonzero(result.fill_null(value=False).to_numpy())
        if len(matching) == 0:
            log.warning("none of the %d images matches %s", len(candidates), text)
        for index in rng.permutation(matching).tolist():
            yield Choice(index, float("nan"), f"matches {text}")

    return MeasureSelector(select=select)


def weighted(*, score: str | None = None) -> MeasureSelector:
    """Images of the highest value of an expression over their metadata.

    Prefers what the expression says, for example sharp and bright images; columns keep their own
    units, so weights must make up for them (or use ``combine``, which compares ranks). An image
    whose value is missing comes last. Cost: none beyond the table of metadata. Failure mode: knows
    nothing of what is in the image.

    Args:
        score: SQL expression over the columns of metadata, for example
            ``0.3 * sharpness + luminance``; must be given.
    """
    text = _check(score, "score", "0.3 * sharpness + luminance")

    def select(candidates: Candidates, budget: Budget, rng: np.random.Generator) -> Order:
        if len(candidates):
            yield from highest_first(_numbers(text, candidates), rng, name=text)

    return MeasureSelector(select=select)


def _numbers(text: str, candidates: Candidates) -> NDArray[np.float64]:
    result = _evaluate(text, candidates, "score")
    if not (result.dtype.is_numeric() or result.dtype == pl.Boolean):
        raise ConfigError(f"score must be a number, {text!r} is of type {result.dtype}")
    values = result.cast(pl.Float64).fill_null(-np.inf).to_numpy()
    bad = np.isnan(values) | (values == np.inf)
    if bad.any():
        first = candidates.image_ids[int(bad.argmax())]
        raise DataError(
            f"score must be finite, {text!r} is not for image {first!r} ({int(bad.sum())} of "
            f"{len(values)} images)"
        )
    return np.asarray(values)


def _check(text: str | None, option: str, example: str) -> str:
    """The text, if it parses; whether its columns exist is known when the pool is read."""
    if not isinstance(text, str):
        raise ConfigError(f"option {option} must be an expression, for example {example}")
    try:
        pl.sql_expr(text)
    except PolarsError as error:
        raise ConfigError(
            f"{option} must be an SQL expression, for example {example}, got {text!r}: "
            f"{_first_line(error)}"
        ) from None
    return text


def _evaluate(text: str, candidates: Candidates, option: str) -> pl.Series:
    """(P,) values of an expression; one value for all images if it names no column."""
    table = _table(candidates)
    expression = pl.sql_expr(text)
    names = list(dict.fromkeys(expression.meta.root_names()))
    for name in names:
        if name not in table.columns:
            raise ConfigError(f"{option}: " + unknown_name("column", name, table.columns))
        if table[name].null_count() == len(table):
            log.warning(
                "%s: column %s is empty for all %d images (an older store lacks what is measured "
                "at decoding: choose another store)",
                *(option, name, len(table)),
            )
    try:
        return table.with_columns(expression.alias(_RESULT))[_RESULT]
    except PolarsError as error:
        types = ", ".join(f"{name} is {table.schema[name]}" for name in names)
        raise ConfigError(f"{option} {text!r} fails ({types}): {_first_line(error)}") from None


def _table(candidates: Candidates) -> pl.DataFrame:
    """P rows; a number that is NaN counts as missing."""
    known = pl.DataFrame(
        {
            "image_id": pl.Series(candidates.image_ids.tolist(), dtype=pl.String),
            "expected_boxes": candidates.expected_boxes,
        }
    )
    if candidates.groups is not None:
        groups = pl.Series(candidates.groups.tolist(), dtype=pl.String)
        known = known.with_columns(group=groups)
    if candidates.metadata is not None:
        known = known.with_columns(candidates.metadata)
    return known.with_columns(pl.selectors.float().fill_nan(None))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
