"""How objects show themselves in a notebook: small tables, every text escaped."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["notebook_table"]

_MOST_ROWS = 10
_CELL = "text-align:left;padding:2px 12px 2px 0"


def notebook_table(
    title: str,
    facts: Mapping[str, Any],
    *,
    columns: Sequence[str] = (),
    rows: Iterable[Sequence[Any]] = (),
    total: int | None = None,
) -> str:
    """HTML of a title, a line of facts and the first ten rows of a table.

    Args:
        title: In bold.
        facts: Name and value; values of None are left out.
        columns: Heads of the table; without any there is none.
        rows: Its rows; no more than ten are read.
        total: How many rows there are, to say how many are not shown.
    """
    line = " · ".join(
        f"{name} {_text(value)}" for name, value in facts.items() if value is not None
    )
    parts = [f"<div><b>{html.escape(title)}</b><div>{html.escape(line)}</div>"]
    if columns:
        shown = [row for _, row in zip(range(_MOST_ROWS), rows, strict=False)]
        head = "".join(f'<th style="{_CELL}">{html.escape(name)}</th>' for name in columns)
        body = "".join(f"<tr>{_cells(row)}</tr>" for row in shown)
        parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
        if total is not None and total > len(shown):
            parts.append(f"<div>and {total - len(shown):,} more</div>")
    return "".join([*parts, "</div>"])


def _cells(row: Sequence[Any]) -> str:
    return "".join(f'<td style="{_CELL}">{html.escape(_text(value))}</td>' for value in row)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
