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


def ls_box(
    label: str = "cat",
    *,
    percent: Sequence[float] = (25, 20, 20, 40),
    size: tuple[int, int] | None = (40, 30),
    **fields: Any,
) -> dict[str, Any]:
    """A rectangle of Label Studio: x, y, width, height; by default xyxy 10, 6, 18, 18."""
    value = dict(zip(("x", "y", "width", "height"), percent, strict=True))
    return ls_region("rectangle", {**value, "rotation": 0}, label=label, size=size, **fields)


def ls_region(
    shape: str,
    value: dict[str, Any],
    *,
    label: str = "cat",
    size: tuple[int, int] | None = (40, 30),
    **fields: Any,
) -> dict[str, Any]:
    sides = {} if size is None else {"original_width": size[0], "original_height": size[1]}
    kind = f"{shape}labels"
    return {"id": "r1", "type": kind, "value": {**value, kind: [label]}, **sides, **fields}


def ls_annotation(result: Sequence[Any], number: int = 1, **fields: Any) -> dict[str, Any]:
    moment = f"2026-11-28T10:00:{number:02d}.000000Z"
    return {"id": number, "result": list(result), "was_cancelled": False, "created_at": moment} | {
        "updated_at": moment,
        "completed_by": number,
        "ground_truth": False,
        **fields,
    }


def ls_task(number: int, result: Sequence[Any] | None = None, **data: Any) -> dict[str, Any]:
    """A task with one annotation of these results, or none."""
    annotations = [] if result is None else [ls_annotation(result)]
    return {"id": number, "data": {"image": f"{number}.jpg", **data}, "annotations": annotations}


def cvat_shape(tag: str, text: str = "", **attributes: Any) -> str:
    fields = "".join(f' {k}="{v}"' for k, v in {"label": "cat", **attributes}.items())
    return f"<{tag}{fields}>{text}</{tag}>"


def cvat_xml(images: dict[str, Sequence[str]], *, labels: Sequence[str] = ("cat",)) -> str:
    """CVAT for images 1.1: shapes by image name."""
    declared = "".join(f"<label><name>{name}</name></label>" for name in labels)
    parts = [
        f'<image id="{n}" name="{name}" width="40" height="30">{"".join(shapes)}</image>'
        for n, (name, shapes) in enumerate(images.items())
    ]
    meta = f"<meta><job><labels>{declared}</labels></job></meta>"
    return f"<annotations><version>1.1</version>{meta}{''.join(parts)}</annotations>"


def kinds(problems: Iterable[Problem]) -> dict[str, int]:
    return dict(Counter(problem.kind for problem in problems))
