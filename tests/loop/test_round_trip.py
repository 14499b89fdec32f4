"""Dataset, manifest, a tool's form, merge: the same boxes, ids and names, on real data."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detal.config import DatasetConfig
from detal.datasets import Dataset, open_dataset
from detal.loop import merge
from detal.manifests import WRITERS, Batch, HandOver, write_manifest
from detal.runs.export import export_run
from detal.structures import Detections
from tests.loop.worlds import Object, objects_of
from tests.manifests.factories import selection_of

DATASETS = ["voc100", "aquarium"]
RUN = {"detector": {"fingerprint": "0123456789abcdef", "class_names": []}, "config": {}}


def source(name: str, shared_data: Path) -> Dataset:
    if name == "aquarium":
        return open_dataset(shared_data / "aquarium" / "data.yaml", split="test")
    root = shared_data / "voc100_formats" / "database"
    return open_dataset(root / "gts" / "pascalvoc_format", images_root=root / "images")


def batch_of_truth(dataset: Dataset) -> Batch:
    """A batch of all images, last first, whose predictions are the true boxes."""
    rows = np.arange(len(dataset))[::-1]
    assert dataset.annotations is not None
    truth = dataset.annotations.take(rows)
    scores = torch.linspace(1, 0.3, len(truth.boxes))
    return Batch.of(
        selection_of(dataset.image_ids[rows].tolist()),
        dataset=dataset,
        detections=Detections(
            offsets=torch.from_numpy(truth.offsets),
            boxes=torch.from_numpy(truth.boxes),
            scores=scores,
            labels=torch.from_numpy(truth.labels),
            logits=torch.zeros(len(scores), len(dataset.class_names)),
            score_kind="sigmoid",
        ),
        class_names=dataset.class_names,
        category_ids=dataset.category_ids,
    )


@pytest.fixture(scope="module", params=DATASETS)
def handed(
    request: pytest.FixtureRequest, shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Dataset, Path, Path]:
    """A dataset, a run that asks for all of it, and the run in all formats."""
    dataset = source(request.param, shared_data)
    folder = tmp_path_factory.mktemp(request.param)
    record = {**RUN, "detector": {"class_names": list(dataset.class_names)}}
    formats = HandOver(formats=("coco", "csv", "yolo"))
    write_manifest(folder / "run", batch_of_truth(dataset), run=record, hand_over=formats)
    export = export_run(folder / "run", HandOver(formats=tuple(WRITERS)))
    return dataset, folder / "run", export


def annotated(export: Path, kind: str, folder: Path) -> Path:
    """What a tool gives back if people accept every box."""
    if not kind.startswith("label_studio"):
        return {"coco": export / "coco.json", "cvat": export / "cvat" / "annotations.xml"}.get(
            kind, export / kind
        )
    tasks = json.loads((export / "label_studio" / "tasks.json").read_text(encoding="utf-8"))
    answers: list[dict[str, Any]] = []
    for number, task in enumerate(tasks, start=1):
        result = task["predictions"][0]["result"] if task["predictions"] else []
        moment = {"created_at": "2026-11-28T10:00:00Z", "updated_at": "2026-11-28T10:00:00Z"}
        if kind == "label_studio":
            done = {"id": number, "result": result, "was_cancelled": False, **moment}
            answers.append({"id": number, **task, "annotations": [done]})
        else:
            sizes = ("original_width", "original_height")
            flat = [{**r["value"], **{key: r[key] for key in sizes}} for r in result]
            entry = {**task["data"], "id": number, "annotation_id": number, **moment}
            answers.append({**entry, "label": flat} if flat else entry)
    file = folder / "export.json"
    file.write_text(json.dumps(answers, ensure_ascii=False), encoding="utf-8")
    return file


def same_objects(
    found: dict[str, list[Object]], expected: dict[str, list[Object]], atol: float = 0.0151
) -> None:
    """Each expected object has one of its own that is the same within rounding."""
    assert found.keys() == expected.keys()
    for stem, objects in expected.items():
        left = list(found[stem])
        assert len(left) == len(objects), stem
        for name, *box in objects:
            gaps = [
                max(abs(a - b) for a, b in zip(other[1:], box, strict=True))
                if other[0] == name
                else np.inf
                for other in left
            ]
            assert min(gaps) <= atol, f"{stem}: {name} {box}"
            left.pop(int(np.argmin(gaps)))


@pytest.mark.parametrize(
    "kind", ["coco", "yolo", "voc", "cvat", "label_studio", "label_studio_min"]
)
def test_boxes_ids_and_names_come_back(
    handed: tuple[Dataset, Path, Path], kind: str, tmp_path: Path
) -> None:
    dataset, run, export = handed
    back = DatasetConfig(path=str(annotated(export, kind, tmp_path)))
    report = merge(run, back, into=tmp_path / "set")
    assert sorted(report.added) == sorted(dataset.image_ids)
    assert (report.missing, report.extra, report.other_size, report.problems) == ((),) * 4
    labeled = open_dataset(tmp_path / "set" / "labeled.json")
    assert sorted(labeled.images["detal_image_id"]) == sorted(dataset.image_ids)
    assert set(labeled.class_names) >= set(np.array(dataset.class_names)[labels_of(dataset)])
    same_objects(objects_of(labeled), objects_of(dataset))


def labels_of(dataset: Dataset) -> list[int]:
    assert dataset.annotations is not None
    return sorted(set(dataset.annotations.labels.tolist()))


@pytest.mark.parametrize("kind", ["cvat", "label-studio", "yolo", "voc"])
def test_panlabel_reads_the_same(
    handed: tuple[Dataset, Path, Path], kind: str, tmp_path: Path
) -> None:
    """Another program's reading of our files against our COCO, image by image."""
    _, _, export = handed
    source = {"cvat": export / "cvat" / "annotations.xml"}.get(kind, export / kind)
    if kind == "label-studio":
        source = export / "label_studio" / "tasks.json"
    if kind == "cvat":  # it knows no image tags
        text = source.read_text(encoding="utf-8")
        source = tmp_path / "annotations.xml"
        source.write_text(re.sub(r"<tag .*?</tag>", "", text, flags=re.DOTALL), encoding="utf-8")
    panlabel("validate", "--format", kind, str(source))
    converted = tmp_path / "converted.json"
    panlabel(
        *("convert", "--from", kind, "--to", "coco", "--allow-lossy"),
        *("-i", str(source), "-o", str(converted)),
    )
    same_objects(coco_objects(converted), coco_objects(export / "coco.json"))


def panlabel(*arguments: str) -> None:
    pytest.importorskip("panlabel")
    command = [str(Path(sys.executable).with_name("panlabel")), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def coco_objects(file: Path) -> dict[str, list[Object]]:
    """Class and corners of the objects by the stem of the image; of YOLO the training part."""
    document = json.loads(file.read_text(encoding="utf-8"))
    name_of = {entry["id"]: entry["name"] for entry in document["categories"]}
    images = [i for i in document["images"] if not i["file_name"].startswith("val/")]
    objects: dict[int, list[Object]] = {image["id"]: [] for image in images}
    for entry in document["annotations"]:
        if entry["image_id"] in objects:
            x, y, width, height = entry["bbox"]
            box = (name_of[entry["category_id"]], x, y, x + width, y + height)
            objects[entry["image_id"]].append(box)
    return {Path(image["file_name"]).stem: objects[image["id"]] for image in images}


FIFTYONE = os.environ.get("DETAL_FIFTYONE_PYTHON")


@pytest.mark.skipif(not FIFTYONE, reason="DETAL_FIFTYONE_PYTHON names no Python with FiftyOne")
def test_fiftyone_reads_the_same(handed: tuple[Dataset, Path, Path], tmp_path: Path) -> None:
    """Its own importer, which needs no database."""
    _, _, export = handed
    code = (
        "import json, sys\n"
        "from fiftyone.utils.data.importers import LegacyFiftyOneDatasetImporter\n"
        "with LegacyFiftyOneDatasetImporter(sys.argv[1]) as samples:\n"
        "    print(json.dumps([s.to_dict() for s in samples], default=str))\n"
    )
    answer = subprocess.run(
        [str(FIFTYONE), "-c", code, str(export / "fiftyone")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HOME": str(tmp_path), "PYTHONPATH": "", "FIFTYONE_DO_NOT_TRACK": "1"},
    )
    samples = json.loads(answer.stdout.splitlines()[-1])
    found = {}
    for sample in samples:
        width, height = (sample["metadata"][side] for side in ("width", "height"))
        found[Path(sample["filepath"]).stem] = [
            (d["label"], x * width, y * height, (x + w) * width, (y + h) * height)
            for d in sample["predictions"]["detections"]
            for x, y, w, h in [d["bounding_box"]]
        ]
        assert sample["tags"] == ["detal"]
    same_objects(found, coco_objects(export / "coco.json"))
    assert [sample["detal_rank"] for sample in samples] == list(range(1, len(samples) + 1))
    first = samples[0]["predictions"]["detections"][0]
    assert 0.3 <= first["confidence"] <= 1


def test_ultralytics_reads_the_same(handed: tuple[Dataset, Path, Path]) -> None:
    from ultralytics.data.utils import verify_image_label

    _, _, export = handed
    expected = coco_objects(export / "coco.json")
    names = json.loads((export / "coco.json").read_text(encoding="utf-8"))["categories"]
    found: dict[str, list[Object]] = {}
    for image in sorted((export / "yolo" / "images").iterdir()):
        label = export / "yolo" / "labels" / f"{image.stem}.txt"
        arguments = (str(image), str(label), "", False, len(names), 0, 0, False)
        _, rows, (height, width), *_ = verify_image_label(arguments)
        found[image.stem] = [
            (
                names[int(row[0])]["name"],
                *((row[1:3] - row[3:5] / 2) * (width, height)).tolist(),
                *((row[1:3] + row[3:5] / 2) * (width, height)).tolist(),
            )
            for row in rows
        ]
    same_objects(found, expected)
