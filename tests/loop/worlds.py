"""Tiny runs and the annotations that come back for them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from detal.datasets import Dataset, open_dataset
from detal.manifests import write_manifest
from tests.manifests.factories import batch_of, dataset_of, write_image

CLASSES = ("cat", "dog", "owl")
WIDTH, HEIGHT = 64, 48

Object = tuple[str, float, float, float, float]
"""Class and xyxy in pixels."""
Objects = Mapping[str, Sequence[Object]]
"""Objects by image name; an image without any is labelled, an absent one is not."""

OBJECTS: Objects = {
    "a": [("cat", 1, 2, 11, 12), ("dog", 20, 10, 40.5, 30.25)],
    "b": [("dog", 0, 0, 64, 48)],
    "c": [],
    "d": [("owl", 3.5, 4, 60, 47)],
}


def write_pool(folder: Path, names: Sequence[str] = "abcdef") -> list[Path]:
    """Images ``<name>.png`` of noise, no two alike."""
    return [write_image(folder / f"{name}.png", seed=ord(name[-1])) for name in names]


def write_run(
    folder: Path,
    paths: Sequence[Path],
    *,
    ids: Sequence[str] | None = None,
    class_names: Sequence[str] = CLASSES,
    labeled: str | None = None,
) -> Path:
    """A run of `detal select` that asks for the images; its ids are their names by default."""
    ids = [path.name for path in paths] if ids is None else ids
    dataset = dataset_of(paths, ids=ids, integer_ids=all(i.isdecimal() for i in ids))
    batch = batch_of(dataset, [[(0, 0.9)]] * len(paths), class_names=class_names)
    config = {"labeled": None if labeled is None else {"path": labeled}}
    write_manifest(
        folder, batch, run={"detector": {"class_names": list(class_names)}, "config": config}
    )
    return folder


def write_coco(
    file: Path,
    objects: Objects,
    *,
    classes: Sequence[str] = CLASSES,
    sizes: Mapping[str, tuple[int, int]] | None = None,
) -> Path:
    """COCO as a tool exports it: images numbered from 1, bare file names."""
    ids = {name: number for number, name in enumerate(objects, start=1)}
    flat = [(ids[name], thing) for name, things in objects.items() for thing in things]
    document: dict[str, Any] = {
        "images": [
            {
                "id": ids[name],
                "file_name": name if "." in name else f"{name}.png",
                "width": (sizes or {}).get(name, (WIDTH, HEIGHT))[0],
                "height": (sizes or {}).get(name, (WIDTH, HEIGHT))[1],
            }
            for name in objects
        ],
        "annotations": [
            {
                "id": number,
                "image_id": image_id,
                "category_id": classes.index(thing[0]) + 1,
                "bbox": [thing[1], thing[2], thing[3] - thing[1], thing[4] - thing[2]],
            }
            for number, (image_id, thing) in enumerate(flat, start=1)
        ],
        "categories": [{"id": n, "name": name} for n, name in enumerate(classes, start=1)],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document), encoding="utf-8")
    return file


def write_yolo(folder: Path, objects: Objects, *, classes: Sequence[str] = CLASSES) -> Path:
    """YOLO with all images of the pool, and label files of those that are labelled."""
    (folder / "labels").mkdir(parents=True)
    for path in write_pool(folder / "images"):
        things = objects.get(path.stem)
        if things is None:
            continue
        lines = [
            f"{classes.index(c)} {(x1 + x2) / 2 / WIDTH:.6f} {(y1 + y2) / 2 / HEIGHT:.6f} "
            f"{(x2 - x1) / WIDTH:.6f} {(y2 - y1) / HEIGHT:.6f}\n"
            for c, x1, y1, x2, y2 in things
        ]
        (folder / "labels" / f"{path.stem}.txt").write_text("".join(lines), encoding="utf-8")
    content = {"train": "images", "val": "images", "names": list(classes)}
    (folder / "data.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


def write_voc(folder: Path, objects: Objects) -> Path:
    """XML files without images, as labelling tools save them."""
    folder.mkdir(parents=True)
    for name, things in objects.items():
        parts = [
            f"<object><name>{c}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
            f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
            for c, x1, y1, x2, y2 in things
        ]
        size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
        text = f"<annotation><filename>{name}.png</filename>{size}{''.join(parts)}</annotation>"
        (folder / f"{name}.xml").write_text(text, encoding="utf-8")
    return folder


def write_as(kind: str, folder: Path, objects: Objects) -> Path:
    """The annotations in one of the formats."""
    if kind == "coco":
        return write_coco(folder / "export.json", objects)
    return write_yolo(folder, objects) if kind == "yolo" else write_voc(folder, objects)


def objects_of(dataset: Dataset) -> dict[str, list[Object]]:
    """The objects of a dataset by the stem of the image, to 0.01 px."""
    found = dataset.annotations
    assert found is not None
    result: dict[str, list[Object]] = {}
    for row, path in enumerate(dataset.images["path"]):
        part = slice(int(found.offsets[row]), int(found.offsets[row + 1]))
        names = [dataset.class_names[label] for label in found.labels[part].tolist()]
        boxes = found.boxes[part].astype(float).round(2).tolist()
        result[Path(path).stem] = [(n, *b) for n, b in zip(names, boxes, strict=True)]
    return result


def labeled_objects(into: Path) -> dict[str, list[Object]]:
    """The objects of a labelled set."""
    return objects_of(open_dataset(into / "labeled.json"))


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but the report of the last merge and the digests with it."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in {"merge.json", ".detal.json"}
    }
