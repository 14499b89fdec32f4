"""Small pools with everything a strategy reads."""

from pathlib import Path

import numpy as np
import polars as pl
import torch

from detal.datasets import IMAGE_COLUMNS, Dataset
from detal.runs.pool import ScoredDataset
from detal.store import Store
from detal.structures import Annotations, Detections

CLASSES = ("cat", "dog")


def scored_pool(
    folder: Path,
    ids: list[str],
    hashes: list[str | None],
    *,
    class_names: tuple[str, ...] = CLASSES,
    labels: list[list[int]] | None = None,
) -> ScoredDataset:
    """A dataset in a store of its own; a hash of None marks an unreadable image.

    Image i has one detection with score (i + 1) / 10, and the image feature (i, 1).
    """
    n = len(ids)
    keys = [f"{folder.name}-{i}" for i in range(n)]
    store = Store(folder, fingerprint="f", settings={}, class_names=CLASSES, score_kind="sigmoid")
    images = pl.DataFrame(
        {
            "width": pl.Series([40] * n, dtype=pl.Int32),
            "height": pl.Series([30] * n, dtype=pl.Int32),
            "content_hash": pl.Series(hashes, dtype=pl.String),
            "error": pl.Series([None if h else "broken" for h in hashes], dtype=pl.String),
        }
    )
    store.write(
        keys,
        images,
        Detections(
            offsets=torch.arange(n + 1),
            boxes=torch.tensor([[0.0, 0, 5, 5]] * n).reshape(n, 4),
            scores=(torch.arange(n) + 1) / 10,
            labels=torch.zeros(n, dtype=torch.int64),
            logits=torch.zeros(n, 2),
            score_kind="sigmoid",
            image_features=torch.stack([torch.arange(n).float(), torch.ones(n)], dim=1),
        ),
    )
    table = pl.DataFrame(
        {
            "image_id": ids,
            "path": [f"/{i}.jpg" for i in ids],
            "width": [None] * n,
            "height": [None] * n,
            "group": [None] * n,
        },
        schema=IMAGE_COLUMNS,
    )
    annotations = None
    if labels is not None:
        annotations = Annotations.from_lists(
            [np.tile([0.0, 0, 5, 5], (len(row), 1)) for row in labels],
            [np.array(row) for row in labels],
        )
    dataset = Dataset(
        name=folder.name,
        images=table,
        class_names=class_names,
        category_ids=tuple(range(len(class_names))),
        annotations=annotations,
    )
    return ScoredDataset(dataset=dataset, stored=store.read(keys))
