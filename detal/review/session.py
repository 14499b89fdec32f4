"""A review that outlives its process: one file beside the run, written anew at each decision."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from detal.errors import DataError
from detal.files import read_json, remove_leftovers, write_json
from detal.locking import locked
from detal.manifests import Batch
from detal.review.decisions import Decisions, Verdict
from detal.runs.run_folder import RunFolder, join_batches, read_run

__all__ = ["Session", "decisions_file", "open_session", "read_decisions"]

_VERSION = 1


class Session:
    """The decisions of one run, on disk before `decide` returns.

    Not for several threads at once.

    Args:
        run: The run.
        decisions: What was decided before.
    """

    def __init__(self, run: RunFolder, decisions: Decisions) -> None:
        self.run = run
        self.images = join_batches(run.batch, run.reserve)
        self.decisions = decisions

    def decide(self, row: int, verdict: Verdict) -> str:
        """Decide, save, and say in a sentence what happened.

        Raises:
            DataError: As `Decisions.decide`; nothing has changed then.
        """
        after, said = self.decisions.decide(row, verdict)
        _save(decisions_file(self.run.path), self.images, after)
        self.decisions = after
        return said

    def state(self) -> dict[str, Any]:
        """What the page shows of the decisions, as JSON values."""
        decisions = self.decisions
        return {
            "verdicts": dict(decisions.verdicts),
            "replaced_by": dict(decisions.replaced_by),
            "came": decisions.came,
            "summary": decisions.summary(self.images.selection.budget.unit),
        }


@contextmanager
def open_session(folder: Path) -> Iterator[Session]:
    """Go on with the review of a run, or start it; one process at a time.

    Args:
        folder: Of a run of `detal select`.

    Raises:
        DataError: If the folder is no run, or the decisions are of another batch.
        ConfigError: If another process reviews it.
    """
    run = read_run(folder)
    file = decisions_file(run.path)
    with locked(file.with_name(f".{file.name}.lock"), work=file):
        remove_leftovers(file)
        yield Session(run, read_decisions(run))


def decisions_file(run: Path) -> Path:
    """Beside the run's folder, so that a new run in its place does not take it along."""
    return run.with_name(f"{run.name}.review.json")


def read_decisions(run: RunFolder) -> Decisions:
    """What was decided about a run until now.

    Raises:
        DataError: If the file is damaged, or of another batch.
    """
    images = join_batches(run.batch, run.reserve)
    nothing = Decisions(
        costs=images.selection.costs, count=len(run.batch), budget=images.selection.budget.amount
    )
    path = decisions_file(run.path)
    if not path.exists():
        return nothing
    try:
        record = read_json(path)
        row_of = {image.image_id: row for row, image in enumerate(images.images)}
        if record["version"] != _VERSION:
            raise ValueError(f"version {_VERSION} is needed")
        if record["run"] != _key(images):
            raise DataError(
                f"{path} holds decisions about another batch than the one in {run.path}: move it "
                "away to start anew"
            )
        verdicts = {row_of[image_id]: str(v) for image_id, v in record["verdicts"]}
        replaced_by = [(row_of[old], row_of[new]) for old, new in record["replaced_by"]]
        _check(verdicts, replaced_by, count=nothing.count)
        return replace(nothing, verdicts=verdicts, replaced_by=dict(replaced_by))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} must be as detal review writes it: {error!r}") from None


def _check(
    verdicts: Mapping[int, str], replaced_by: Sequence[tuple[int, int]], *, count: int
) -> None:
    """Raise a ValueError for what no review can have decided."""
    unknown = set(verdicts.values()) - {"accepted", "rejected"}
    if unknown:
        raise ValueError(f"no such verdict: {sorted(unknown)[0]}")
    in_play = set(range(count))
    for old, new in replaced_by:
        if old not in in_play or new in in_play:
            raise ValueError("only images of the reserve come, each once, for one in the review")
        in_play.add(new)


def _key(images: Batch) -> str:
    """Identifies batch and reserve."""
    text = json.dumps([image.image_id for image in images.images])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _save(path: Path, images: Batch, decisions: Decisions) -> None:
    ids = images.selection.image_ids
    record = {
        "version": _VERSION,
        "run": _key(images),
        "verdicts": [[ids[row], verdict] for row, verdict in decisions.verdicts.items()],
        "replaced_by": [[ids[old], ids[new]] for old, new in decisions.replaced_by.items()],
    }
    write_json(path, record)
