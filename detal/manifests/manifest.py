"""The manifest: a folder with everything needed to label a batch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detal.manifests.batch import Batch
from detal.manifests.coco import write_coco
from detal.manifests.staging import staged_folder
from detal.manifests.table import write_csv
from detal.manifests.yolo import write_yolo

__all__ = ["write_manifest", "write_manifest_files"]


def write_manifest(output: Path, batch: Batch, *, run: Mapping[str, Any]) -> None:
    """Write the manifest of a batch in one step: it is there in full or not at all.

    An older manifest at ``output`` is replaced if nobody changed it since.

    Raises:
        ConfigError: If ``output`` holds something else.
        DataError: If an image file is missing.
    """
    with staged_folder(output) as folder:
        write_manifest_files(folder, batch, run=run)


def write_manifest_files(folder: Path, batch: Batch, *, run: Mapping[str, Any]) -> None:
    """Write the files of a manifest into an existing folder.

        selection.csv   rank, id, path, score, expected boxes, cost, reason
        coco.json       chosen images, predictions as annotations with scores
        yolo/           images, labels and data.yaml
        run.json        ``run``

    Equal arguments give byte-identical files.

    Args:
        folder: Exists, and holds none of these files.
        batch: What to write.
        run: JSON-able record of the run.

    Raises:
        DataError: If an image file is missing.
    """
    write_csv(folder / "selection.csv", batch)
    write_coco(folder / "coco.json", batch)
    write_yolo(folder / "yolo", batch)
    text = json.dumps(run, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    (folder / "run.json").write_text(text + "\n", encoding="utf-8")
