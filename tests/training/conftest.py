"""A tiny labelled dataset on disk and models that train in seconds."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
import yaml

from detal.datasets.dataset import IMAGE_COLUMNS, Dataset
from detal.structures import Annotations

TINY_YOLO = {
    "nc": 2,
    "scales": {"n": [0.33, 0.125, 64]},
    "backbone": [
        [-1, 1, "Conv", [32, 3, 2]],
        [-1, 1, "Conv", [64, 3, 2]],
        [-1, 1, "C3k2", [64, False, 0.25]],
        [-1, 1, "Conv", [64, 3, 2]],
    ],
    "head": [[[2, 3], 1, "Detect", ["nc"]]],
}


def draw_images(
    folder: Path, *, count: int, size: int = 64, seed: int = 0
) -> list[list[list[int]]]:
    """Grey noise with bright squares of two colours; every fourth image is empty.

    Returns:
        For each image rows of class, x1, y1, x2, y2 in pixels.
    """
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    truth: list[list[list[int]]] = []
    for i in range(count):
        image = rng.integers(60, 100, (size, size, 3), dtype=np.uint8)
        rows = []
        for _ in range(0 if i % 4 == 3 else rng.integers(1, 3)):
            label, side = int(rng.integers(2)), int(rng.integers(14, 30))
            x, y = (int(v) for v in rng.integers(0, size - side, 2))
            image[y : y + side, x : x + side] = (250, 40, 40) if label else (40, 250, 40)
            rows.append([label, x, y, x + side, y + side])
        cv2.imwrite(str(folder / "images" / f"bild {i}.png"), image)
        truth.append(rows)
    return truth


@pytest.fixture
def data_yaml(tmp_path: Path) -> Path:
    """Twelve images with YOLO labels under a path with a space; names are not ASCII."""
    folder = tmp_path / "mein Datensatz"
    truth = draw_images(folder, count=12)
    (folder / "labels").mkdir()
    for i, rows in enumerate(truth):
        lines = [
            f"{c} {(x1 + x2) / 128} {(y1 + y2) / 128} {(x2 - x1) / 64} {(y2 - y1) / 64}"
            for c, x1, y1, x2, y2 in rows
        ]
        (folder / "labels" / f"bild {i}.txt").write_text("\n".join(lines))
    (folder / "train.txt").write_text("\n".join(f"./images/bild {i}.png" for i in range(12)))
    content = {"path": str(folder), "train": "train.txt", "names": ["grün", "红"]}
    (folder / "data.yaml").write_text(yaml.safe_dump(content, allow_unicode=True))
    return folder / "data.yaml"


@pytest.fixture
def tiny_yolo(tmp_path: Path) -> Path:
    """A model YAML of a few thousand weights."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY_YOLO))
    return path


@pytest.fixture
def boxes_dataset(tmp_path: Path) -> Dataset:
    """Eight annotated images; the fourth and the eighth without objects."""
    folder = tmp_path / "Bilder und mehr"
    truth = draw_images(folder, count=8)
    images = pl.DataFrame(
        {
            "image_id": [str(i) for i in range(8)],
            "path": [
                str(tmp_path / "Bilder und mehr" / "images" / f"bild {i}.png") for i in range(8)
            ],
            "width": [64] * 8,
            "height": [64] * 8,
            "group": [None] * 8,
        },
        schema=IMAGE_COLUMNS,
    )
    rows = [np.array(boxes).reshape(-1, 5) for boxes in truth]
    return Dataset(
        name="squares",
        images=images,
        class_names=("green", "blue"),
        category_ids=(0, 1),
        annotations=Annotations.from_lists([r[:, 1:] for r in rows], [r[:, 0] for r in rows]),
    )
