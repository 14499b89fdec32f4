import pytest
import yaml

from detal.errors import DataError
from detal.training.yolo_data import read_yolo_data


def rewrite(data_yaml, **changes):
    content = {**yaml.safe_load(data_yaml.read_text()), **changes}
    data_yaml.write_text(yaml.safe_dump({k: v for k, v in content.items() if v is not None}))


@pytest.mark.parametrize(
    "train",
    ["train.txt", "images", ["images", "train.txt"], "../images"],
    ids=["list", "folder", "both", "roboflow"],
)
def test_images_are_found_as_ultralytics_finds_them(data_yaml, train):
    rewrite(data_yaml, train=train, path=None)
    data = read_yolo_data(data_yaml)
    assert data.class_names == ("grün", "红")
    folder = data_yaml.parent / "images"
    assert list(data.images) == sorted(folder / f"bild {i}.png" for i in range(12))


def test_the_fingerprint_follows_labels_of_equal_length(data_yaml):
    before = read_yolo_data(data_yaml).fingerprint
    assert read_yolo_data(data_yaml).fingerprint == before
    label = data_yaml.parent / "labels" / "bild 0.txt"
    text = label.read_text()
    label.write_text(("1" if text[0] == "0" else "0") + text[1:])
    assert read_yolo_data(data_yaml).fingerprint != before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"train": None}, "train must name a folder", id="no-train"),
        pytest.param({"train": "nowhere"}, "no such folder or list file.*nowhere", id="missing"),
        pytest.param({"names": {0: "a", 2: "b"}}, r"numbered 0\.\.1", id="gap-in-names"),
        pytest.param({"names": None}, "names must list the classes", id="no-names"),
        pytest.param({"train": "labels"}, "no training image found", id="no-image"),
    ],
)
def test_malformed_files_are_refused(data_yaml, changes, message):
    rewrite(data_yaml, **changes)
    with pytest.raises(DataError, match=message):
        read_yolo_data(data_yaml)


def test_a_set_without_a_single_object_and_a_missing_image_are_refused(data_yaml):
    (data_yaml.parent / "images" / "bild 3.png").unlink()
    with pytest.raises(DataError, match=r"no such image file: .*bild 3\.png"):
        read_yolo_data(data_yaml)
    rewrite(data_yaml, train="images")
    for label in (data_yaml.parent / "labels").iterdir():
        label.write_text("\n")
    with pytest.raises(DataError, match="none of the 11 training images"):
        read_yolo_data(data_yaml)


@pytest.mark.parametrize("text", ["- a\n", "a: [", None], ids=["list", "broken", "missing"])
def test_what_is_no_mapping_is_refused(tmp_path, text):
    path = tmp_path / "data.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=r"data\.yaml"):
        read_yolo_data(path)
