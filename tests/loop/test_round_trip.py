"""Dataset, manifest, a tool's form, merge: the same boxes, ids and names, on real data."""

from __future__ import annotations

import json
import subprocess
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
    assert found.keys() == expected.keys()
    for stem, objects in expected.items():
        one, other = sorted(found[stem]), sorted(objects)
        assert [thing[0] for thing in one] == [thing[0] for thing in other], stem
        corners = [np.array([thing[1:] for thing in things]) for things in (one, other)]
        if objects:
            np.testing.assert_allclose(corners[0], corners[1], atol=atol, err_msg=stem)


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


def panlabel(*arguments: str | Path) -> dict[str, Any]:
    binary = pytest.importorskip("panlabel")
    del binary
    result = subprocess.run(
        ["panlabel", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return json.loads(result.stdout) if "json" in arguments else {}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("cvat", "cvat/annotations.xml"),
        ("label-studio", "label_studio/tasks.json"),
        ("yolo", "yolo"),
        ("voc", "voc"),
    ],
)
def test_panlabel_reads_the_same(handed: tuple[Dataset, Path, Path], kind: str, name: str) -> None:
    _, _, export = handed
    panlabel("validate", "--format", kind, export / name)
    report = panlabel(
        "diff", export / "coco.json", export / name, "--format-a", "coco", "--format-b", kind,
        "--output-format", "json",
    )  # fmt: skip
    assert report == {}
