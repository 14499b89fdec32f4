"""The manifest of what is left of a batch after its review."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from detal.config import ManifestConfig
from detal.errors import DataError
from detal.manifests import Batch, staged_folder, write_manifest_files
from detal.report import write_contact_sheet
from detal.review.decisions import Decisions
from detal.runs.building import build_hand_over
from detal.runs.kept import FOLDER, write_kept
from detal.runs.run_folder import RunFolder, join_batches, take_batch

__all__ = ["reviewed_folder", "write_reviewed"]


def reviewed_folder(run: Path) -> Path:
    """Where the manifest goes unless somebody says otherwise: beside the run."""
    return run.with_name(f"{run.name}-reviewed")


def write_reviewed(run: RunFolder, decisions: Decisions, output: Path | None = None) -> Batch:
    """Write a run's folder anew with the images that are kept, complete or not at all.

    It is a run like any other: `detal merge`, `detal report` and `detal review` take it. An older
    one at ``output`` is replaced if nobody changed it since.

    Args:
        run: The run that was reviewed.
        decisions: About its images.
        output: The folder; `reviewed_folder` by default.

    Returns:
        The batch that was written.

    Raises:
        DataError: If no image is kept, or an image file is missing.
        ConfigError: If ``output`` holds something else, or is the run itself.
    """
    kept = decisions.kept
    if len(kept) == 0:
        raise DataError("at least one image must be kept, all are rejected: there is no manifest")
    everything = join_batches(run.batch, run.reserve)
    used = {*decisions.in_play}
    rest = np.array([row for row in range(len(everything)) if row not in used], dtype=np.int64)
    batch, reserve = take_batch(everything, kept), take_batch(everything, rest)
    output = output or reviewed_folder(run.path)
    hand_over = build_hand_over(ManifestConfig(**run.run["config"].get("manifest", {})))
    with staged_folder(output) as folder:
        record = _record(run, decisions, batch)
        write_manifest_files(folder, batch, run=record, hand_over=hand_over, final=output)
        if run.kept is not None:
            # How the pool's figures are spread over the batch is known of the whole batch only.
            rows = np.concatenate([kept, rest])
            described = replace(run.kept.take(rows), histograms={})
            write_kept(folder, described, reserve)
            _copy_curves(run.path, folder)
            write_contact_sheet(
                folder / "contact_sheet.png",
                batch,
                counts_before=np.array(run.kept.class_counts, dtype=np.int64),
                counts_added=run.kept.expected_counts(kept),
            )
    return batch


def _copy_curves(run: Path, folder: Path) -> None:
    source = run / FOLDER / "curves.json"
    if source.exists():
        shutil.copyfile(source, folder / FOLDER / "curves.json")


def _record(run: RunFolder, decisions: Decisions, batch: Batch) -> dict[str, Any]:
    """``run.json`` with what the review changed."""
    ids = join_batches(run.batch, run.reserve).selection.image_ids
    verdicts = decisions.verdicts
    return {
        **run.run,
        "counts": {**run.run["counts"], "selected": len(batch)},
        "spent": batch.selection.spent,
        "review": {
            "of": str(run.path),
            "accepted": sum(v == "accepted" for v in verdicts.values()),
            "undecided": sum(row not in verdicts for row in decisions.in_play),
            "rejected": [ids[row] for row in decisions.in_play if verdicts.get(row) == "rejected"],
            "replaced_by": {ids[old]: ids[new] for old, new in decisions.replaced_by.items()},
        },
    }
