import contextlib
import io
import json
from pathlib import Path

import pytest
from pycocotools.coco import COCO

from detal.manifests import write_coco
from tests.manifests.factories import batch_of, dataset_of, write_image


def open_coco(path: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


@pytest.mark.parametrize(
    ("ids", "integer_ids", "expected"),
    [
        pytest.param(["900", "17"], True, [900, 17], id="integers-kept"),
        pytest.param(["900", "17"], False, [1, 2], id="text-numbered"),
        pytest.param(["scène 1", "日本"], False, [1, 2], id="text"),
    ],
)
def test_opens_in_pycocotools(tmp_path: Path, ids, integer_ids: bool, expected) -> None:
    paths = [write_image(tmp_path / "a.jpg"), write_image(tmp_path / "日 本.png")]
    dataset = dataset_of(paths, ids=ids, integer_ids=integer_ids)
    batch = batch_of(dataset, [[(0, 0.9), (2, 0.5)], [(1, 0.3)]], category_ids=(3, 7, 90))
    write_coco(tmp_path / "coco.json", batch)
    coco = open_coco(tmp_path / "coco.json")
    assert list(coco.imgs) == expected
    assert [image["detal_image_id"] for image in coco.loadImgs(expected)] == ids
    assert [image["file_name"] for image in coco.loadImgs(expected)] == [str(p) for p in paths]
    assert {c["id"]: c["name"] for c in coco.loadCats(coco.getCatIds())} == {
        3: "cat",
        7: "dog",
        90: "owl",
    }
    first, second, third = coco.loadAnns([1, 2, 3])
    assert first["bbox"] == [0.0, 5.0, 10.0, 10.0]
    assert second["bbox"] == [12.0, 5.0, 10.0, 10.0]
    assert (first["category_id"], second["category_id"], third["category_id"]) == (3, 90, 7)
    assert (first["score"], first["area"], third["image_id"]) == (0.9, 100.0, expected[1])
    with contextlib.redirect_stdout(io.StringIO()):
        results = coco.loadRes(list(coco.anns.values()))
    assert len(results.anns) == 3


def test_scores_and_reasons(tmp_path: Path) -> None:
    dataset = dataset_of([write_image(tmp_path / "a.jpg"), write_image(tmp_path / "b.jpg")])
    write_coco(tmp_path / "coco.json", batch_of(dataset, [[], []]))
    first, second = json.loads((tmp_path / "coco.json").read_text(encoding="utf-8"))["images"]
    assert (first["detal_rank"], first["detal_score"]) == (1, 2.0)
    assert first["detal_reason"] == "reason 0"
    assert second["detal_score"] is None  # NaN is not JSON


def test_file_names_of_ones_own(tmp_path: Path) -> None:
    dataset = dataset_of([write_image(tmp_path / "a.jpg"), write_image(tmp_path / "b.jpg")])
    names = ["s3://bucket/a.jpg", "images/b.jpg"]
    write_coco(tmp_path / "coco.json", batch_of(dataset, [[], []]), file_names=names)
    images = json.loads((tmp_path / "coco.json").read_text(encoding="utf-8"))["images"]
    assert [image["file_name"] for image in images] == names


def test_empty_batch_and_many_classes(tmp_path: Path) -> None:
    names = [f"class {i}" for i in range(3000)]
    write_coco(tmp_path / "coco.json", batch_of(dataset_of([]), [], class_names=names))
    coco = open_coco(tmp_path / "coco.json")
    assert len(coco.imgs) == 0
    assert len(coco.cats) == 3000
