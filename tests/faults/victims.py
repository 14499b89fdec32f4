"""Jobs to be killed: tiny, and with results that can be compared byte by byte.

Each has its inputs in ``<folder>/inputs``, made once, and writes below ``<folder>/work`` only. It
runs in steps; a step that was told to be done is not run again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from detal.cli import main
from detal.review import open_session
from tests.loop import worlds
from tests.manifests.factories import write_image

CLASSES = worlds.CLASSES
SANDBOX = Path(__file__).resolve().parents[2] / "data" / "sandbox"

Step = Callable[[Path], None]


@dataclass(frozen=True)
class Victim:
    """A job.

    Attributes:
        prepare: Makes the inputs in a folder.
        steps: What is run there, one after the other.
        skipped: Names of files whose content tells of time, too; they must only be there.
    """

    prepare: Step
    steps: Sequence[Step]
    skipped: frozenset[str] = field(default_factory=frozenset)

    def result(self, folder: Path) -> dict[str, bytes]:
        """Every file below ``work`` but locks, by name; of JSON what does not tell of time."""
        found = {}
        for path in sorted((folder / "work").rglob("*")):
            name = str(path.relative_to(folder / "work"))
            passing = path.name.endswith((".lock", ".tmp")) and path.name.startswith(".")
            if path.is_dir() or passing:
                continue
            data = b"" if path.name in self.skipped else path.read_bytes()
            if path.name in {"run.json", "result.json"}:
                record = json.loads(data)
                record.pop("timings", None)
                data = json.dumps(record, sort_keys=True).encode()
            found[name] = data
        return found


def detal(*arguments: object) -> None:
    """Run a command line; raises if it does not end well."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        if end.code:
            raise


def _paths(folder: Path, kind: str, number: int) -> list[Path]:
    return [write_image(folder / f"{kind}{i:02d}.png", seed=i) for i in range(number)]


def _objects(paths: Sequence[Path], seed: int) -> worlds.Objects:
    rng = np.random.default_rng(seed)
    objects = {}
    for path in paths:
        corners = rng.integers(0, 20, size=(rng.integers(0, 4), 2)).tolist()
        objects[path.name] = [
            (CLASSES[int(rng.integers(len(CLASSES)))], x, y, x + 20.0, y + 15.0) for x, y in corners
        ]
    return objects


def _prepare_select(folder: Path) -> None:
    """40 images, 8 of them labelled, and the predictions of a detector."""
    inputs = folder / "inputs"
    pool, labeled = _paths(inputs, "p", 40), _paths(inputs / "labeled", "l", 8)
    empty: worlds.Objects = {path.name: [] for path in pool}
    worlds.write_coco(inputs / "pool.json", empty)
    worlds.write_coco(inputs / "labeled" / "labeled.json", _objects(labeled, 1))
    rng = np.random.default_rng(0)
    rows = [
        {
            "image_id": image_id,
            "category_id": int(rng.integers(1, 4)),
            "bbox": [*rng.integers(0, 20, size=2).tolist(), 20, 15],
            "score": round(float(rng.uniform(0.05, 1)), 3),
        }
        for image_id in np.repeat(np.arange(1, 41), 3).tolist()
    ]
    (inputs / "predictions.json").write_text(json.dumps(rows), encoding="utf-8")
    config = {
        "pool": "pool.json",
        "labeled": {"path": "labeled/labeled.json", "same_id": False},
        "detector": {"type": "predictions", "weights": "predictions.json"},
        "strategy": "curve_greedy",
        "budget": {"amount": 12, "unit": "boxes"},
        "shard_size": 8,
        "threads": 1,
        "output": "../work/run",
    }
    (inputs / "select.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


def _select(folder: Path) -> None:
    detal("select", "-c", folder / "inputs" / "select.yaml")


def _select_less(folder: Path) -> None:
    """Into the same folder: the older run is replaced."""
    detal("select", "-c", folder / "inputs" / "select.yaml", "budget.amount=8")


def _prepare_merge(folder: Path) -> None:
    """A run that asks for six images, and annotations that come in two parts."""
    inputs = folder / "inputs"
    paths = worlds.write_pool(inputs / "pool")
    worlds.write_run(inputs / "run", paths)
    first = {"a": worlds.OBJECTS["a"], "b": worlds.OBJECTS["b"]}
    second = {"c": [], "d": worlds.OBJECTS["d"], "e": [("cat", 1, 1, 9, 9)]}
    worlds.write_coco(inputs / "first.json", first)
    worlds.write_coco(inputs / "second.json", second)


def _merge(part: str) -> Step:
    def step(folder: Path) -> None:
        inputs = folder / "inputs"
        detal("merge", inputs / "run", inputs / f"{part}.json", "--into", folder / "work" / "set")

    return step


def _prepare_review(folder: Path) -> None:
    from tests.runs.run_folders import write_run

    write_run(folder / "inputs" / "run", count=12, reserve=6)


def _start_review(folder: Path) -> None:
    """Decisions lie beside the run, so the run is in ``work``, too."""
    if not (folder / "work" / "run").exists():
        part = folder / "work" / ".part"
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(folder / "inputs" / "run", part)
        part.rename(folder / "work" / "run")


def _decide(row: int, verdict: Any) -> Step:
    def step(folder: Path) -> None:
        with open_session(folder / "work" / "run") as session:
            session.decide(row, verdict)

    return step


def _export_review(folder: Path) -> None:
    detal("review", folder / "work" / "run", "--export")


def _prepare_study(folder: Path) -> None:
    """A pool of 16 annotated images and a test set of 4; the detector of the sandbox."""
    inputs = folder / "inputs"
    names = json.loads((SANDBOX / "seed.json").read_text(encoding="utf-8"))["categories"]
    for kind, number in (("pool", 16), ("test", 4)):
        paths = _paths(inputs / kind, kind[0], number)
        file = worlds.write_coco(inputs / kind / f"{kind}.json", _objects(paths, number))
        document = json.loads(file.read_text(encoding="utf-8"))
        document["categories"] = names
        file.write_text(json.dumps(document), encoding="utf-8")
    config = {
        "pool": "pool/pool.json",
        "test": "test/test.json",
        "initial": {"amount": 4},
        "training": {
            "init": str(SANDBOX / "yolo_seed.pt"),
            "steps": 2,
            "image_size": 64,
            "batch_size": 2,
        },
        "strategies": ["entropy"],
        "seeds": [0],
        "rounds": 2,
        "budget": {"amount": 6, "unit": "boxes"},
        "output": "../work/study",
        "workers": 2,
        "device": "cpu",
    }
    (inputs / "study.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


def _simulate(folder: Path) -> None:
    detal("simulate", "-c", folder / "inputs" / "study.yaml")


_DECISIONS = [
    *((0, "accepted"), (1, "rejected"), (2, "replaced"), (3, "accepted"), (2, "")),
    *((4, "replaced"), (5, "replaced"), (4, ""), (6, "rejected"), (7, "accepted")),
]

VICTIMS = {
    "select": Victim(_prepare_select, (_select, _select_less), frozenset({".detal.json"})),
    "merge": Victim(_prepare_merge, (_merge("first"), _merge("second"))),
    "review": Victim(
        _prepare_review,
        (_start_review, *(_decide(*one) for one in _DECISIONS), _export_review),
    ),
    "simulate": Victim(
        _prepare_study,
        (_simulate,),
        frozenset({"runs.json", ".detal.json", "points.csv", "summary.json"}),
    ),
}
