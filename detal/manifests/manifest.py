"""The manifest: a folder with everything needed to label a batch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from detal.manifests.batch import Batch
from detal.manifests.coco import write_coco
from detal.manifests.finished import model_version
from detal.manifests.hand_over import DEFAULT, HandOver, write_formats
from detal.manifests.staging import staged_folder
from detal.manifests.table import write_csv

__all__ = ["write_manifest", "write_manifest_files"]


def write_manifest(
    output: Path, batch: Batch, *, run: Mapping[str, Any], hand_over: HandOver = DEFAULT
) -> None:
    """Write the manifest of a batch in one step: it is there in full or not at all.

    An older manifest at ``output`` is replaced if nobody changed it since.

    Raises:
        ConfigError: If ``output`` holds something else.
        DataError: If an image file is missing.
    """
    with staged_folder(output) as folder:
        write_manifest_files(folder, batch, run=run, hand_over=hand_over, final=output)


def write_manifest_files(
    folder: Path,
    batch: Batch,
    *,
    run: Mapping[str, Any],
    hand_over: HandOver = DEFAULT,
    final: Path | None = None,
) -> None:
    """Write the files of a manifest into an existing folder.

        selection.csv   rank, id, path, score, expected boxes, cost, reason
        coco.json       chosen images, predictions as annotations with scores
        run.json        ``run``
        …               what ``hand_over`` asks for (`detal.manifests.hand_over.WRITERS`)

    The first three are the record of the run: `read_batch` and `detal merge` read them.
    Equal arguments give byte-identical files.

    Args:
        folder: Exists, and holds none of these files.
        batch: What to write.
        run: JSON-able record of the run.
        hand_over: Further formats, and how they name the images.
        final: Where ``folder`` will be in the end, if that is elsewhere.

    Raises:
        DataError: If an image file is missing.
    """
    write_csv(folder / "selection.csv", batch)
    write_coco(folder / "coco.json", batch)
    formats = tuple(name for name in hand_over.formats if name != "coco")  # the record has it
    write_formats(
        folder,
        batch,
        replace(hand_over, formats=formats),
        final=folder if final is None else final,
        model_version=model_version(run),
    )
    text = json.dumps(run, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    (folder / "run.json").write_text(text + "\n", encoding="utf-8")
