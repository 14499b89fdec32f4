"""What the verbs of the command line print."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from detal.datasets import Problem
    from detal.loop.joining import MergeReport
    from detal.runs.select import SelectResult

__all__ = [
    "print_merge",
    "print_problems",
    "print_result",
    "print_scored",
    "print_summary",
    "print_tables",
    "print_trust",
]


def print_result(result: SelectResult) -> None:
    """What `detal select` chose, and where it is."""
    counts = result.run["counts"]
    selection = result.selection
    typer.echo(
        f"selected {len(selection)} of {counts['candidates']} candidates, "
        f"{selection.spent:.1f} of {selection.budget.amount:g} {selection.budget.unit} "
        f"({result.run['timings']['scored_now']} images scored now, "
        f"{result.run['timings']['read_from_store']} read from the store)"
    )
    left_out = {name: number for name, number in counts["excluded"].items() if number}
    if left_out:
        typer.echo("left out: " + ", ".join(f"{v} {k}" for k, v in left_out.items()))
    typer.echo(f"manifest: {result.output}")
    typer.echo(f"picture:  {result.contact_sheet}")


def print_scored(outcomes: list[dict[str, Any]], *, as_json: bool) -> None:
    """What `detal score` did to each set."""
    if as_json:
        typer.echo(json.dumps(outcomes, indent=1))
        return
    for outcome in outcomes:
        left, unreadable = outcome["left"], outcome["unreadable"]
        rest = f"; {left} passes are left to other processes" if left else ""
        rest += f"; {unreadable} images cannot be read" if unreadable else ""
        typer.echo(
            f"{outcome['title']}: {outcome['images']} images, {outcome['scored_now']} passes now "
            f"in {outcome['seconds']:.1f} s{rest}"
        )
    folders = dict.fromkeys(folder for outcome in outcomes for folder in outcome["stores"])
    typer.echo("\n".join(f"store: {folder}" for folder in folders))


def print_merge(report: MergeReport, into: Path) -> None:
    """What came home, what did not, and what to train with."""
    came = len(report.added) + len(report.changed) + len(report.unchanged)
    typer.echo(
        f"round {report.round_idx}: {came} of {report.asked} images came: {len(report.added)} new "
        f"and {len(report.changed)} changed with {report.boxes} boxes, "
        f"{len(report.unchanged)} unchanged"
    )
    lists = {
        "missing": report.missing,
        "not asked for, left out": report.extra,
        "changed": report.changed,
        "annotated at another size, left out": report.other_size,
        "new classes": report.new_classes,
        "not usable": [_told(p) for p in report.problems if p.severity == "error"],
        "to look at": [_told(p) for p in report.problems if p.severity != "error"],
    }
    shown = 10
    for title, names in lists.items():
        if names:
            more = ", …" if len(names) > shown else ""
            typer.echo(f"{title}: {len(names)}: {', '.join(names[:shown])}{more}")
    typer.echo(
        f"labelled set: {into / 'labeled.json'} "
        f"({report.labeled_images} images, {report.labeled_boxes} boxes)"
    )
    typer.echo(f"train with:   yolo train data={into / 'yolo' / 'data.yaml'} model=…")


def _told(problem: Problem) -> str:
    return f"{problem.file} {problem.where}: {problem.message}"


def print_summary(summary: dict[str, Any], output: Path, *, as_json: bool) -> None:
    """The summary of a study."""
    from detal.loop.summary import summary_markdown

    if as_json:
        typer.echo(json.dumps(summary, ensure_ascii=False, indent=1))
        return
    typer.echo(summary_markdown(summary))
    typer.echo(f"curves: {output / 'curves.png'}")


def print_tables(folder: Path, *, as_json: bool, pictures: Sequence[Path]) -> None:
    """What the tables in a folder say."""
    from detal.runs.table_view import read_group_gains, read_outlook

    readers = {"curves": read_outlook, "groups": read_group_gains}
    rows = {n: read(folder) for n, read in readers.items() if (folder / f"{n}.json").exists()}
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False, indent=1))
        return
    if "curves" in rows:
        _print_curves(rows["curves"])
    if "groups" in rows:
        _print_groups(rows["groups"])
    typer.echo(f"table:   {folder}")
    for picture in pictures:
        typer.echo(f"picture: {picture}")


def _print_curves(rows: list[dict[str, Any]]) -> None:
    shown = 10
    table = Table("class", "labelled", "AP", "± (95 %)", "10 more objects add")
    for row in rows[:shown]:
        numbers = (f"{100 * row[key]:.3g}" for key in ("ap", "interval", "gain"))
        table.add_row(Text(str(row["class"])), f"{row['labeled']:,.0f}", *numbers)
    Console().print(table)
    if len(rows) > shown:
        typer.echo(f"and {len(rows) - shown} more classes; --json prints all of them")


def _print_groups(rows: list[dict[str, Any]]) -> None:
    table = Table("group", "trained on", "boxes", "measured", "gain", "± (95 %)", "most for")
    for row in rows:
        images = f"{row['trained']:,} of {row['images']:,} images"
        gains = [
            "" if row[key] is None else f"{100 * row[key]:+.2f}" for key in ("measured", "gain")
        ]
        reach, classes = f"{100 * row['interval']:.2f}", Text(", ".join(row["classes"]))
        boxes = f"{row['pseudo_boxes']:,}"
        table.add_row(f"{row['group']}", images, boxes, *gains, reach, classes)
    Console().print(table)


def print_trust(result: dict[str, Any], output: Path) -> None:
    """What `detal trustset show` found."""
    shown = 20
    table = Table("class", "labelled", "trusted", "suspicious", "AUC", "of entropy", "ECE")
    rows = sorted(result["classes"], key=lambda row: row["labeled"])
    for row in [row for row in rows if row["labeled"]][:shown]:
        counts = (f"{row[key]:,}" for key in ("labeled", "members", "suspicious"))
        keys = ("auc", "auc_entropy", "ece")
        rates = ("" if row.get(key) is None else f"{row[key]:.2f}" for key in keys)
        table.add_row(Text(str(row["class"])), *counts, *rates)
    Console().print(table)
    pooled = result["pooled"]
    if pooled is None:
        typer.echo("too few labelled objects are found to learn trust from")
    else:
        typer.echo(
            f"trust tells members apart with an AUC of {pooled['auc']:.3f} (entropy "
            f"{pooled['auc_entropy']:.3f}), calibration error {pooled['ece']:.3f}; "
            f"five-fold cross-validation on the {result['learned_on']}"
        )
    kinds = ", ".join(f"{number} {kind}" for kind, number in result["suspicious"].items())
    typer.echo(f"suspicious labels: {kinds or 'none'}; judged by {result['judges']}")
    typer.echo(f"lists:   {output / 'suspicious.csv'}, {output / 'trustset.csv'}")
    typer.echo(f"picture: {output / 'trustset.png'}")


def print_problems(
    name: str, images: int, boxes: int | None, problems: list[dict[str, Any]], output: Path | None
) -> None:
    """What is wrong with a dataset."""
    shown = 20
    typer.echo(
        f"{name}: {images} images, {'no annotations' if boxes is None else f'{boxes} boxes'}"
    )
    if not problems:
        typer.echo("no problems")
        return
    columns = ("severity", "kind", "file", "where", "message")
    table = Table(*columns)
    for problem in problems[:shown]:
        table.add_row(*(Text(str(problem[column])) for column in columns))
    Console().print(table)
    rest = f"; all of them are in {output}" if output else "; --output FILE.csv writes all of them"
    typer.echo(f"{len(problems)} problems" + (rest if len(problems) > shown or output else ""))
