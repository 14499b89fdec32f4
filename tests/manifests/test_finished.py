import json
from pathlib import Path

import numpy as np
import pytest
import torch

from detal.errors import DataError
from detal.manifests import Batch, model_version, read_batch, write_manifest
from tests.manifests.factories import batch_of, dataset_of, write_image

RECORD = {"detector": {"class_names": ["b", "a", "c"]}}


def make(tmp_path: Path, *, integer_ids: bool = False) -> tuple[Batch, Path]:
    paths = [write_image(tmp_path / "in" / f"{name}.jpg") for name in "abc"]
    ids = ["7", "10", "2"] if integer_ids else ["=x", "10", "y"]
    dataset = dataset_of(paths, ids=ids, integer_ids=integer_ids)
    batch = batch_of(
        dataset,
        [[(2, 0.91234), (0, 0.3)], [], [(1, 0.5)]],
        class_names=["b", "a", "c"],
        category_ids=[9, 3, 5],
        reasons=["why, =so", "@x", "z"],
    )
    write_manifest(tmp_path / "run", batch, run=RECORD)
    return batch, tmp_path / "run"


@pytest.mark.parametrize("integer_ids", [False, True])
def test_everything_that_was_written_comes_back(tmp_path: Path, integer_ids: bool) -> None:
    batch, run = make(tmp_path, integer_ids=integer_ids)
    back = read_batch(run)
    assert back.images == batch.images
    assert back.class_names == ("b", "a", "c")
    assert back.category_ids == (9, 3, 5)
    assert back.integer_ids == integer_ids
    assert back.selection.image_ids == batch.selection.image_ids
    assert back.selection.reasons == batch.selection.reasons
    np.testing.assert_array_equal(back.selection.scores, batch.selection.scores)
    assert back.selection.spent == 3
    assert torch.equal(back.detections.offsets, batch.detections.offsets)
    assert torch.equal(back.detections.boxes, batch.detections.boxes)
    assert torch.equal(back.detections.labels, batch.detections.labels)
    assert back.detections.scores.tolist() == pytest.approx([0.9123, 0.3, 0.5])
    assert back.expected_boxes.tolist() == pytest.approx([1.212, 0, 0.5], abs=5e-4)


def test_written_again_it_is_the_same(tmp_path: Path) -> None:
    _, run = make(tmp_path)
    write_manifest(tmp_path / "again", read_batch(run), run=RECORD)
    for name in ("selection.csv", "coco.json", "boxes.csv", "yolo/labels/a.txt"):
        assert (run / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_nothing_selected(tmp_path: Path) -> None:
    write_manifest(tmp_path / "run", batch_of(dataset_of([]), []), run=RECORD)
    assert len(read_batch(tmp_path / "run")) == 0


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a run must be a folder written by detal select"):
        read_batch(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("{}", "must be written by detal select: KeyError", id="empty"),
        pytest.param("[]", "must be written by detal select: TypeError", id="list"),
        pytest.param("{", "must be JSON", id="cut"),
    ],
)
def test_broken_coco_file(tmp_path: Path, text: str, message: str) -> None:
    _, run = make(tmp_path)
    (run / "coco.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_batch(run)


def test_files_of_two_runs(tmp_path: Path) -> None:
    _, run = make(tmp_path)
    document = json.loads((run / "coco.json").read_text(encoding="utf-8"))
    document["images"][0]["detal_image_id"] = "other"
    (run / "coco.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"must have the images of .*selection\.csv"):
        read_batch(run)


def test_selection_in_an_unknown_unit(tmp_path: Path) -> None:
    _, run = make(tmp_path)
    text = (run / "selection.csv").read_text(encoding="utf-8").replace(",images,", ",metres,")
    (run / "selection.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="cost_unit 'metres'"):
        read_batch(run)


def test_name_of_the_model() -> None:
    record = {"detector": {"fingerprint": "0123456789abcdef"}}
    assert model_version(record) == "detal 0123456789ab"
    weights = {"config": {"detector": {"weights": "/x/best.pt"}}}
    assert model_version({**record, **weights}) == "best.pt 0123456789ab"
    assert model_version({}) == "detal"
