"""Tiny datasets on disk."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detal.datasets import Problem


def write_image(path: Path, *, width: int = 40, height: int = 30, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_text(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def write_coco(path: Path, **document: Any) -> Path:
    return write_text(path, json.dumps(document))


def coco_image(image_id: Any, **fields: Any) -> dict[str, Any]:
    return {"id": image_id, "file_name": f"{image_id}.jpg", "width": 40, "height": 30, **fields}


def coco_box(number: Any, image_id: Any, bbox: Any, **fields: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image_id, "category_id": 1, "bbox": bbox, **fields}


def voc_xml(
    objects: Iterable[tuple[str, Sequence[object]]] = (),
    *,
    size: tuple[object, object] | None = (40, 30),
    filename: str = "",
    difficult: int = 0,
) -> str:
    tags = ("xmin", "ymin", "xmax", "ymax")
    parts = ["<annotation>", f"<filename>{filename}</filename>"]
    if size is not None:
        parts.append(f"<size><width>{size[0]}</width><height>{size[1]}</height></size>")
    for name, corners in objects:
        box = "".join(f"<{t}>{v}</{t}>" for t, v in zip(tags, corners, strict=True))
        parts.append(
            f"<object><name>{name}</name><difficult>{difficult}</difficult>"
            f"<bndbox>{box}</bndbox></object>"
        )
    return "".join([*parts, "</annotation>"])


def kinds(problems: Iterable[Problem]) -> dict[str, int]:
    return dict(Counter(problem.kind for problem in problems))
