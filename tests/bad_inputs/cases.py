"""What a bad input is, and the small valid world around it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.datasets.making import coco_box, coco_image, write_coco, write_image, write_text
from tests.loop.test_study_report import write_study
from tests.reward.factories import group_gains
from tests.runs.run_folders import write_run

__all__ = ["Case", "build_world", "check", "family", "select"]

Make = Callable[[Path], Sequence[object]]


@dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes:
        family: What it is a case of.
        name: Unique in the family.
        make: Writes it into an empty folder, beside a copy of the world in ``world/``, and gives
            the command line that meets it.
        used: Why it has to be taken as it is. Empty: it must be refused with an error, or what is
            bad must be named.
    """

    family: str
    name: str
    make: Make
    used: str = ""


def family(name: str, makes: dict[str, Make], *, used: dict[str, str] | None = None) -> list[Case]:
    """Cases by name; those in ``used`` are taken as they are, for the reason given."""
    used = used or {}
    unknown = used.keys() - makes.keys()
    if unknown:
        raise ValueError(f"no such cases: {unknown}")
    return [Case(name, key, make, used.get(key, "")) for key, make in makes.items()]


def build_world(folder: Path) -> None:
    """A pool, predictions, a run, its answers, a labelled set, a study, tables and a YOLO set."""
    from detal.reward import FittedCurves

    images = [coco_image(i, file_name=f"pool/{i}.png") for i in range(1, 7)]
    for i in range(1, 7):
        write_image(folder / "pool" / f"{i}.png", seed=i)
    boxes = [coco_box(i, i, [2, 3, 10, 12]) for i in range(1, 7)]
    document: dict[str, Any] = {"images": images, "annotations": boxes}
    document["categories"] = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    write_coco(folder / "coco.json", **document)
    predictions = [
        {"image_id": i, "category_id": 1 + i % 2, "bbox": [2, 3, 10, 12], "score": i / 10}
        for i in range(1, 7)
    ]
    write_text(folder / "predictions.json", json.dumps(predictions))
    run = write_run(folder / "run", count=4, reserve=2)
    asked = json.loads((run / "coco.json").read_text())
    write_text(folder / "answers.json", json.dumps(asked))
    write_study(folder / "study")
    curves = FittedCurves.fit(
        ["cat", "dog", "owl"],
        counts=np.array([[3.0, 4, 5], [6.0, 8, 10]]),
        ap=np.array([[0.1, 0.2, 0.3], [0.2, 0.3, 0.4]]),
        labeled_counts=np.array([6.0, 8, 10]),
        made_of={},
    )
    (folder / "table").mkdir()
    curves.save(folder / "table")
    gains = group_gains([[0.2, 0.3, 0.1], [0.3, 0.2, 0.1]], [[0.1, 0.1, 0.1], [0.1, 0.1, 0.2]])
    gains.save(folder / "table")
    for name in ("x", "y"):
        write_image(folder / "yolo" / "images" / f"{name}.png", seed=ord(name))
        write_text(folder / "yolo" / "labels" / f"{name}.txt", "0 0.5 0.5 0.2 0.2\n")
    write_text(folder / "yolo" / "data.yaml", "train: images\nnames: [cat, dog]\n")


def check(path: Path, *options: object) -> list[object]:
    """``detal check``."""
    return ["check", path, *options]


def select(folder: Path, *changes: str) -> list[object]:
    """``detal select`` in the world of ``folder``, by predictions from its file."""
    world = folder / "world"
    return [
        "select",
        f"pool={world / 'coco.json'}",
        "detector.type=predictions",
        f"detector.weights={world / 'predictions.json'}",
        "strategy=entropy",
        "budget=3",
        f"output={folder / 'out'}",
        *changes,
    ]
