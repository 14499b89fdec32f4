"""Synthetic stores with the statistics of a real pool, for the benches of selection and store.

Written once into a folder and found again there: ``images`` images of 640 x 480 with about 7 boxes
each (geometric: many with few, some crowded), 80 classes of which the n-th is met with probability
proportional to 1/n, logits of all of them, 64 numbers a box and 256 an image. Image features lie in
2,000 clusters of Zipf-distributed sizes around a common direction, as pooled activations do; one
image in ten is a near-duplicate of the one before it, as in a video. 1,000 labelled and 300
reference images are of the same kind; their boxes with a score over one half are the ground truth.

Shapes: B images of a shard, N boxes of theirs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from detal.datasets import IMAGE_COLUMNS, Dataset  # noqa: E402
from detal.reward import GroupGains  # noqa: E402
from detal.runs.pool import ScoredDataset  # noqa: E402
from detal.scoring import IMAGE_SCHEMA  # noqa: E402
from detal.seeding import generator  # noqa: E402
from detal.store import Store, image_keys  # noqa: E402
from detal.structures import Annotations, Detections  # noqa: E402

__all__ = [
    "CLASSES",
    "batch",
    "group_gains",
    "image_features",
    "open_store",
    "paths",
    "read_pool",
    "truth_of",
    "write_store",
    "write_tables",
]

CLASSES = tuple(f"class{c}" for c in range(80))
LABELED = 1000
REFERENCE = 300
SHARD = 4096
BOXES = 7
IMAGE_WIDTH = 256
OBJECT_WIDTH = 64
CLUSTERS = 2000
_DRAWN_FROM = "synthetic store"

Floats = NDArray[np.float32]


def write_store(root: Path, kind: str, images: int) -> Store:
    """The store of ``images`` images of one kind, completed if it is not complete."""
    store = open_store(root, kind, images)
    keys = image_keys(paths(kind, images))
    todo = store.missing(keys)
    for start in range(0, len(todo), SHARD):
        rows = todo[start : start + SHARD]
        store.write([keys[row] for row in rows], *batch(kind, rows))
    return store


def write_tables(root: Path, images: int) -> Store:
    """As `write_store` with the kind ``tables``, but images without boxes or features."""
    store = open_store(root, "tables", images)
    keys = image_keys(paths("tables", images))
    todo = store.missing(keys)
    for start in range(0, len(todo), SHARD):
        rows = todo[start : start + SHARD]
        table = _table(rows, "tables", generator(0, _DRAWN_FROM, "tables", int(rows[0])))
        nothing = Detections.empty(len(rows), num_classes=len(CLASSES))
        store.write([keys[row] for row in rows], table, nothing)
    return store


def batch(kind: str, rows: NDArray[np.int64]) -> tuple[pl.DataFrame, Detections]:
    """Image table and detections of the images ``rows`` (B,) of one kind."""
    rng = generator(0, _DRAWN_FROM, kind, int(rows[0]))
    return _table(rows, kind, rng), _seen(rng, len(rows))


def read_pool(root: Path, kind: str, images: int, passes: tuple[str, ...] = ()) -> ScoredDataset:
    """A dataset that was written by `write_store`; further passes read the same store again.

    Args:
        root: See `write_store`.
        kind: ``pool``, ``labeled`` or ``reference``; the last two come with ground truth.
        images: As it was written.
        passes: Names of further passes.
    """
    stored = open_store(root, kind, images).read(image_keys(paths(kind, images)))
    table = pl.DataFrame(
        {
            "image_id": [f"{kind}{i:08d}" for i in range(images)],
            "path": paths(kind, images),
            "width": [640] * images,
            "height": [480] * images,
            "group": [None] * images,
        },
        schema=IMAGE_COLUMNS,
    )
    known = kind != "pool"
    dataset = Dataset(
        name=kind,
        images=table,
        class_names=CLASSES,
        category_ids=tuple(range(len(CLASSES))),
        annotations=truth_of(stored.detections(np.arange(images))) if known else None,
    )
    return ScoredDataset(
        dataset=dataset, stored=stored, passes=dict.fromkeys(passes, stored.places())
    )


def image_features(rng: np.random.Generator, number: int) -> Floats:
    """(number, 256) clustered features, one in ten next to the one before it."""
    fixed = generator(0, _DRAWN_FROM, "clusters")
    centres = fixed.standard_normal((CLUSTERS, IMAGE_WIDTH), dtype=np.float32)
    spread = fixed.uniform(0.3, 0.8, size=CLUSTERS).astype(np.float32)
    common = fixed.standard_normal(IMAGE_WIDTH, dtype=np.float32)
    share = 1 / np.arange(1, CLUSTERS + 1)
    which = rng.choice(CLUSTERS, size=number, p=share / share.sum())
    features = rng.standard_normal((number, IMAGE_WIDTH), dtype=np.float32)
    features *= spread[which, None]
    features += centres[which] + common
    again = np.flatnonzero(rng.random(number) < 0.1)
    again = again[again > 0]
    noise = rng.standard_normal((len(again), IMAGE_WIDTH), dtype=np.float32)
    features[again] = features[again - 1] + np.float32(0.05) * noise
    return features


def group_gains() -> GroupGains:
    """A table of 32 groups as `detal tables build` writes it, with made-up gains."""
    rng = generator(0, _DRAWN_FROM, "groups")
    groups = 32
    centres = image_features(rng, groups)
    control = rng.uniform(0.2, 0.5, size=(4, len(CLASSES)))
    return GroupGains(
        class_names=CLASSES,
        centres=centres / np.linalg.norm(centres, axis=1, keepdims=True),
        images=np.full(groups, 1000),
        trained=np.full(groups, 50),
        pseudo_boxes=np.full(groups, 350),
        labeled=np.full(groups, LABELED // groups),
        group_ap=control.mean(axis=0) + rng.uniform(-0.02, 0.05, size=(groups, len(CLASSES))),
        control_ap=control,
        made_of={"synthetic": True},
    )


def open_store(root: Path, kind: str, images: int) -> Store:
    """The store of ``images`` images of one kind."""
    return Store(
        root,
        fingerprint="synthetic",
        settings={"kind": kind, "images": images},
        class_names=CLASSES,
        score_kind="sigmoid",
    )


def paths(kind: str, images: int) -> list[str]:
    """Where its images would be."""
    return [f"/pool/{kind}/{i // 1000:05d}/{i:08d}.jpg" for i in range(images)]


def _table(rows: NDArray[np.int64], kind: str, rng: np.random.Generator) -> pl.DataFrame:
    n = len(rows)
    values: dict[str, Any] = {
        "path": [f"/pool/{kind}/{row // 1000:05d}/{row:08d}.jpg" for row in rows],
        "width": [640] * n,
        "height": [480] * n,
        "content_hash": [rng.bytes(16).hex() for _ in rows],
        "error": [None] * n,
    }
    for name in IMAGE_SCHEMA.keys() - values.keys():
        values[name] = rng.uniform(1, 100, size=n)
    return pl.DataFrame({name: values[name] for name in IMAGE_SCHEMA}, schema=IMAGE_SCHEMA)


def _seen(rng: np.random.Generator, images: int) -> Detections:
    counts = np.minimum(rng.geometric(1 / (BOXES + 1), size=images) - 1, 100)
    n, classes = int(counts.sum()), len(CLASSES)
    image = np.repeat(np.arange(images), counts)
    share = 1 / np.arange(1, classes + 1)
    labels = rng.choice(classes, size=n, p=share / share.sum())
    scores = np.clip(rng.beta(0.7, 1.5, size=n), 0.051, 0.999).astype(np.float32)
    order = np.lexsort((-scores, image))
    labels, scores = labels[order], scores[order]
    logits = rng.standard_normal((n, classes), dtype=np.float32) - 6
    logits[np.arange(n), labels] = np.log(scores / (1 - scores))
    centres = generator(0, _DRAWN_FROM, "objects").standard_normal((classes, OBJECT_WIDTH))
    features = rng.standard_normal((n, OBJECT_WIDTH), dtype=np.float32)
    features += centres.astype(np.float32)[labels]
    corner = rng.uniform(0, 300, size=(n, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(20, 150, size=(n, 2))], axis=1)
    spread = rng.uniform(0, 9, size=(2, n, 4)).astype(np.float32)
    return Detections(
        offsets=torch.from_numpy(np.concatenate([[0], np.cumsum(counts)])),
        boxes=torch.from_numpy(boxes.astype(np.float32)),
        scores=torch.from_numpy(scores),
        labels=torch.from_numpy(labels.astype(np.int64)),
        logits=torch.from_numpy(logits),
        score_kind="sigmoid",
        box_spread=torch.from_numpy(spread[0]),
        cluster_spread=torch.from_numpy(spread[1]),
        object_features=torch.from_numpy(features),
        image_features=torch.from_numpy(image_features(rng, images)),
        mutual_information=torch.from_numpy(rng.uniform(0, 0.5, size=n).astype(np.float32)),
        tightness=torch.from_numpy(rng.uniform(0.3, 1, size=n).astype(np.float32)),
    )


def truth_of(seen: Detections) -> Annotations:
    """The detections of a score over one half are objects."""
    cut = seen.offsets.numpy()[1:-1]
    real = np.split((seen.scores > 0.5).numpy(), cut)
    boxes, labels = np.split(seen.boxes.numpy(), cut), np.split(seen.labels.numpy(), cut)
    return Annotations.from_lists(
        [b[r] for b, r in zip(boxes, real, strict=True)],
        [found[r] for found, r in zip(labels, real, strict=True)],
    )
