"""What every format says, and that names survive or are refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from detal.config import ManifestConfig
from detal.datasets import open_dataset
from detal.datasets.cvat import read_cvat
from detal.errors import ConfigError, DataError
from detal.manifests import (
    WRITERS,
    Batch,
    HandOver,
    ImagePrefix,
    check_names,
    parse_formats,
    write_formats,
)
from detal.manifests.manifest import write_manifest
from tests.manifests.factories import batch_of, dataset_of, write_image

RECORD = {"detector": {"class_names": ["cat", "dog", "owl"], "fingerprint": "f" * 32}}


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    """Two images of 64 x 48; the first has a cat at 0, 5, 10, 15 and an owl at 12, 5, 22, 15."""
    paths = [write_image(tmp_path / "in" / name) for name in ("a.jpg", "b.jpg")]
    dataset = dataset_of(paths, ids=["x/a", "x/b"])
    return batch_of(dataset, [[(0, 0.9), (2, 0.5)], []], reasons=["2.00 doubt, <much>", "far"])


def written(batch: Batch, folder: Path, *formats: str) -> Path:
    folder.mkdir()
    hand_over = HandOver(formats=formats or tuple(WRITERS))
    write_formats(folder, batch, hand_over, final=folder, model_version="m 1")
    return folder


def test_label_studio(batch: Batch, tmp_path: Path) -> None:
    folder = written(batch, tmp_path / "out", "label_studio") / "label_studio"
    first, second = json.loads((folder / "tasks.json").read_text(encoding="utf-8"))
    assert first["data"] == {
        "image": batch.images[0].path,
        "detal_image_id": "x/a",
        "detal_rank": 1,
        "detal_score": 2.0,
        "detal_reason": "2.00 doubt, <much>",
        "detal_expected_boxes": 1.4,
        "detal_group": None,
    }
    (prediction,) = first["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("m 1", 0.7)
    cat, owl = prediction["result"]
    assert (cat["id"], owl["id"]) == ("detal1", "detal2")
    assert (cat["original_width"], cat["original_height"]) == (64, 48)
    assert cat["score"] == 0.9
    assert owl["value"] == {
        "x": 18.75,
        "y": 10.416667,
        "width": 15.625,
        "height": 20.833333,
        "rotation": 0.0,
        "rectanglelabels": ["owl"],
    }
    assert second["predictions"] == []
    assert second["data"]["detal_score"] is None
    config = ElementTree.parse(folder / "config.xml")
    assert [label.get("value") for label in config.iter("Label")] == ["cat", "dog", "owl"]
    control = config.find("RectangleLabels")
    assert control is not None
    assert control.attrib == {"name": "label", "toName": "image"}


def test_cvat(batch: Batch, tmp_path: Path) -> None:
    folder = written(batch, tmp_path / "out", "cvat") / "cvat"
    root = ElementTree.parse(folder / "annotations.xml").getroot()
    first, second = root.findall("image")
    assert first.attrib == {"id": "0", "name": "a.jpg", "width": "64", "height": "48"}
    cat, owl = first.findall("box")
    assert owl.attrib == {
        "label": "owl",
        "source": "auto",
        "occluded": "0",
        "z_order": "0",
        "xtl": "12.00",
        "ytl": "5.00",
        "xbr": "22.00",
        "ybr": "15.00",
    }
    assert cat.findtext("attribute[@name='detal_conf']") == "0.9000"
    assert first.findtext("tag/attribute[@name='detal_reason']") == "2.00 doubt, <much>"
    assert second.findtext("tag/attribute[@name='detal_rank']") == "2"
    assert second.findall("box") == []
    labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    kinds = [(label["name"], label["type"]) for label in labels]
    assert kinds == [(name, "rectangle") for name in ("cat", "dog", "owl")] + [
        ("detal_selection", "tag")
    ]
    assert [attribute["name"] for attribute in labels[0]["attributes"]] == ["detal_conf"]
    back = read_cvat(folder)
    assert back.class_names == ("cat", "dog", "owl")
    assert back.images["detal_image_id"].to_list() == ["x/a", "x/b"]


def test_voc(batch: Batch, tmp_path: Path) -> None:
    folder = written(batch, tmp_path / "out", "voc") / "voc"
    root = ElementTree.parse(folder / "Annotations" / "a.xml").getroot()
    assert root.findtext("filename") == "a.jpg"
    assert root.findtext("path") == batch.images[0].path
    assert [root.findtext(f"size/{side}") for side in ("width", "height")] == ["64", "48"]
    assert root.findtext("detal/reason") == "2.00 doubt, <much>"
    _, owl = root.findall("object")
    assert [owl.findtext(tag) for tag in ("name", "score", "difficult")] == ["owl", "0.5000", "0"]
    corners = [owl.findtext(f"bndbox/{tag}") for tag in ("xmin", "ymin", "xmax", "ymax")]
    assert corners == ["12", "5", "22", "15"]
    assert ElementTree.parse(folder / "Annotations" / "b.xml").getroot().find("object") is None
    assert (folder / "ImageSets" / "Main" / "default.txt").read_text() == "a\nb\n"


def test_fiftyone(batch: Batch, tmp_path: Path) -> None:
    folder = written(batch, tmp_path / "out", "fiftyone") / "fiftyone"
    first, second = json.loads((folder / "samples.json").read_text(encoding="utf-8"))["samples"]
    assert first["filepath"] == batch.images[0].path
    assert (first["tags"], first["detal_rank"], first["detal_score"]) == (["detal"], 1, 2.0)
    _, owl = first["predictions"]["detections"]
    assert (owl["label"], owl["confidence"]) == ("owl", 0.5)
    assert owl["bounding_box"] == pytest.approx([12 / 64, 5 / 48, 10 / 64, 10 / 48])
    assert second["predictions"]["detections"] == []
    metadata = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
    assert metadata["info"] == {"classes": ["cat", "dog", "owl"]}


def test_the_form_of_one_tool_is_for_that_tool_alone(batch: Batch, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    prefix = ImagePrefix(tmp_path, "/data/local-files/?d=")
    hand_over = HandOver(formats=("label_studio", "cvat", "coco"), prefix=prefix)
    write_formats(folder, batch, hand_over, final=folder, model_version="m")
    tasks = json.loads((folder / "label_studio" / "tasks.json").read_text(encoding="utf-8"))
    assert tasks[0]["data"]["image"] == "/data/local-files/?d=in/a.jpg"
    assert 'name="a.jpg"' in (folder / "cvat" / "annotations.xml").read_text(encoding="utf-8")
    images = json.loads((folder / "coco.json").read_text(encoding="utf-8"))["images"]
    assert images[0]["file_name"] == batch.images[0].path


def test_boxes_csv(tmp_path: Path) -> None:
    dataset = dataset_of([write_image(tmp_path / "a.jpg")], ids=["=1+1"])
    batch = batch_of(dataset, [[(0, 0.9)]], class_names=["@sum", "b", "c"])
    with (written(batch, tmp_path / "out", "csv") / "boxes.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row == {
        "rank": "1",
        "image_id": "'=1+1",
        "image": str(tmp_path / "a.jpg"),
        "class": "'@sum",
        "score": "0.9000",
        "x1": "0.00",
        "y1": "5.00",
        "x2": "10.00",
        "y2": "15.00",
    }


def test_images_are_named_where_they_were_copied(batch: Batch, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    hand_over = HandOver(formats=("coco", "fiftyone", "voc"), mode="copy")
    write_formats(folder, batch, hand_over, final=folder, model_version="m")
    images = json.loads((folder / "coco.json").read_text(encoding="utf-8"))["images"]
    assert [image["file_name"] for image in images] == ["images/a.jpg", "images/b.jpg"]
    samples = json.loads((folder / "fiftyone" / "samples.json").read_text())["samples"]
    assert (folder / "fiftyone" / samples[0]["filepath"]).resolve() == folder / "images" / "a.jpg"
    root = ElementTree.parse(folder / "voc" / "Annotations" / "b.xml")
    assert root.findtext("path") == str(folder / "images" / "b.jpg")


HARD_NAMES = ["a \"b\" <c> & 'd'", "line\nbreak", "🐱 ü 日本", "=1+1", "&amp;", "]]>"]


@pytest.mark.parametrize("name", ["cvat", "voc", "coco", "yolo"])
def test_hard_class_names_come_back(name: str, tmp_path: Path) -> None:
    dataset = dataset_of([write_image(tmp_path / "in" / "a.jpg")])
    boxes = [[(label, 0.9 - label / 10) for label in range(6)]]
    batch = batch_of(dataset, boxes, class_names=HARD_NAMES)
    folder = written(batch, tmp_path / "out", name)
    path = {"coco": folder / "coco.json"}.get(name, folder / name)
    back = open_dataset(path, images_root=tmp_path / "in" if name in {"cvat", "voc"} else None)
    assert back.annotations is not None
    assert sorted(back.class_names[label] for label in back.annotations.labels) == sorted(
        HARD_NAMES
    )
    assert {problem.kind for problem in back.problems} <= {"shared_images"}


@pytest.mark.parametrize("tool", ["label_studio", "cvat", "voc"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("bell\a", "characters that XML can hold", id="control"),
        pytest.param("re\rturn", "characters that XML can hold", id="carriage-return"),
        pytest.param(" padded", "without white space around it", id="padded"),
        pytest.param("", "without white space around it", id="empty"),
        pytest.param("dog", "be there once", id="twice"),
    ],
)
def test_names_that_would_come_back_changed(
    batch: Batch, tmp_path: Path, tool: str, name: str, message: str
) -> None:
    dataset = dataset_of([write_image(tmp_path / "a.jpg")])
    batch = batch_of(dataset, [[]], class_names=["cat", "dog", name])
    with pytest.raises(DataError, match=message):
        written(batch, tmp_path / "out", tool)


@pytest.mark.parametrize(
    ("tool", "name", "message"),
    [
        ("label_studio", "$image", r"must not begin with \$"),
        ("cvat", "x" * 65, "at most 64 characters"),
        ("cvat", "detal_selection", "not be the label that detal uses itself"),
    ],
)
def test_names_that_a_tool_refuses(tmp_path: Path, tool: str, name: str, message: str) -> None:
    batch = batch_of(dataset_of([]), [], class_names=[name])
    with pytest.raises(DataError, match=message):
        written(batch, tmp_path / "out", tool)


def test_id_that_xml_cannot_hold(tmp_path: Path) -> None:
    dataset = dataset_of([write_image(tmp_path / "a.jpg")], ids=["a\x01"])
    with pytest.raises(DataError, match="an image's id must have characters that XML can hold"):
        written(batch_of(dataset, [[]]), tmp_path / "out", "cvat")


def test_manifest_with_formats_of_ones_own(batch: Batch, tmp_path: Path) -> None:
    hand_over = HandOver(formats=("voc", "label_studio"))
    write_manifest(tmp_path / "run", batch, run=RECORD, hand_over=hand_over)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        ".detal.json",
        "coco.json",
        "label_studio",
        "run.json",
        "selection.csv",
        "voc",
    ]


def test_empty_batch_in_every_format(tmp_path: Path) -> None:
    written(batch_of(dataset_of([]), []), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "label_studio" / "tasks.json").read_text()) == []


def test_equal_batches_equal_bytes(batch: Batch, tmp_path: Path) -> None:
    folders = [written(batch, tmp_path / name) for name in ("one", "two")]
    one, two = (
        {
            path.relative_to(folder): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
        for folder in folders
    )
    assert one == two


def test_names_are_checked_before_the_work() -> None:
    check_names(HandOver(formats=tuple(WRITERS)), ["cat", "dog"])
    check_names(HandOver(formats=("coco", "yolo")), [" padded"])
    for name in ("label_studio", "cvat", "voc"):
        with pytest.raises(DataError, match="without white space"):
            check_names(HandOver(formats=(name,)), [" padded"])


def test_config_knows_every_format() -> None:
    names = tuple(WRITERS)
    assert ManifestConfig(formats=names).formats == names  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cvatt"):
        ManifestConfig(formats=("cvatt",))  # type: ignore[arg-type]


def test_names_of_formats() -> None:
    assert parse_formats(["label-studio", " cvat", "label_studio"]) == ("label_studio", "cvat")
    with pytest.raises(ConfigError, match="unknown manifest format 'cvatt': did you mean cvat"):
        parse_formats(["cvatt"])
    with pytest.raises(ConfigError, match="at least one format"):
        parse_formats([])
