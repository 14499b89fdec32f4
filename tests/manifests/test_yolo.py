from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detal.datasets.images import read_image
from detal.manifests import Batch, write_yolo
from detal.manifests.yolo import file_names
from tests.manifests.factories import batch_of, dataset_of, write_image


@pytest.fixture
def ultralytics_reader(tmp_path_factory, monkeypatch):
    """Reads a data.yaml as `yolo train` does: names and labels by image."""
    monkeypatch.setenv("YOLO_OFFLINE", "true")
    monkeypatch.setenv("YOLO_AUTOINSTALL", "false")
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path_factory.mktemp("ultralytics")))
    utils = pytest.importorskip("ultralytics.data.utils")
    from ultralytics.data.dataset import YOLODataset

    # Fonts for non-Latin class names are fetched from the network.
    monkeypatch.setattr(utils, "check_font", lambda font: None)

    def read(data_yaml: Path) -> tuple[dict[int, str], dict[str, Any]]:
        data = utils.check_det_dataset(str(data_yaml))
        dataset = YOLODataset(img_path=data["train"], data=data, task="detect", augment=False)
        return data["names"], {
            Path(label["im_file"]).name: np.hstack([label["cls"], label["bboxes"]])
            for label in dataset.labels
        }

    return read


def test_ultralytics_reads_the_labels(tmp_path: Path, ultralytics_reader) -> None:
    names = ["it's", 'a "quote"', "emoji 🐟", "1", "yes", "null", "日本: #x", "- dash"]
    paths = [
        write_image(tmp_path / "in" / "plain.jpg"),
        write_image(tmp_path / "in" / "with space.v1.2.png", seed=1),
        write_image(tmp_path / "in" / "日本 [x] ü.jpg", seed=2),
        write_image(tmp_path / "images" / "images" / "none.jpg", seed=3),
        write_image(tmp_path / "in" / "no extension", seed=4),
        write_image(tmp_path / "in" / "odd.jfif", seed=5),
    ]
    boxes = [[(0, 0.9), (7, 0.5)], [(2, 0.8)], [(6, 0.4)], [], [(3, 0.9)], [(4, 0.9)]]
    batch = batch_of(dataset_of(paths), boxes, class_names=names)
    write_yolo(tmp_path / "images" / "out put" / "yolo", batch)
    read_names, labels = ultralytics_reader(tmp_path / "images" / "out put" / "yolo" / "data.yaml")
    assert read_names == dict(enumerate(names))
    assert sorted(labels) == sorted(
        [
            "plain.jpg",
            "with space.v1.2.png",
            "日本 [x] ü.jpg",
            "none.jpg",
            "no extension.png",
            "odd.jfif.png",
        ]
    )
    # 10 px squares at (0, 5) and (12, 5) of 64 x 48 px.
    square = [5 / 64, 10 / 48, 10 / 64, 10 / 48]
    expected = [[0, *square], [7, 17 / 64, *square[1:]]]
    assert labels["plain.jpg"] == pytest.approx(np.array(expected), abs=1e-6)
    assert labels["with space.v1.2.png"] == pytest.approx(np.array([[2, *square]]), abs=1e-6)
    assert labels["no extension.png"] == pytest.approx(np.array([[3, *square]]), abs=1e-6)
    assert labels["none.jpg"].shape == (0, 5)


def test_ultralytics_reads_three_thousand_classes(tmp_path: Path, ultralytics_reader) -> None:
    names = [f"class {i}" for i in range(3000)]
    dataset = dataset_of([write_image(tmp_path / "a.jpg")])
    write_yolo(tmp_path / "yolo", batch_of(dataset, [[(2999, 0.9)]], class_names=names))
    read_names, labels = ultralytics_reader(tmp_path / "yolo" / "data.yaml")
    assert read_names[2999] == "class 2999"
    assert labels["a.jpg"][0, 0] == 2999


def test_labels_fit_an_image_turned_by_exif(tmp_path: Path, ultralytics_reader) -> None:
    from PIL import Image

    pixels = Image.fromarray(np.zeros((48, 64, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown as 48 x 64
    pixels.save(tmp_path / "turned.jpg", exif=exif)
    batch = batch_of(dataset_of([tmp_path / "turned.jpg"]), [[(0, 0.9)]])
    assert (batch.images[0].width, batch.images[0].height) == (48, 64)
    write_yolo(tmp_path / "yolo", batch)
    _, labels = ultralytics_reader(tmp_path / "yolo" / "data.yaml")
    expected = [[0, 5 / 48, 10 / 64, 10 / 48, 10 / 64]]
    assert labels["turned.jpg"] == pytest.approx(np.array(expected), abs=1e-6)


def _names(tmp_path: Path, *paths: str) -> list[str]:
    written = [write_image(tmp_path / path) for path in paths]
    return file_names(batch_of(dataset_of(written), [[]] * len(paths)).images)


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        pytest.param(["a.jpg", "b c.png"], ["a.jpg", "b c.png"], id="kept"),
        pytest.param(["x/a.jpg", "y/a.jpg"], ["a.jpg", "a_2.jpg"], id="basename"),
        pytest.param(["a.jpg", "a.png"], ["a.jpg", "a_2.png"], id="labels-lose-the-extension"),
        pytest.param(["x/A.jpg", "y/a.jpg"], ["A.jpg", "a_2.jpg"], id="letter-case"),
        pytest.param(
            ["x/\u00fc.jpg", "y/u\u0308.jpg"], ["\u00fc.jpg", "u\u0308_2.jpg"], id="unicode"
        ),
        pytest.param(
            ["x/a.jpg", "y/a.jpg", "z/a_2.jpg", "z/a.jpg"],
            ["a.jpg", "a_3.jpg", "a_2.jpg", "a_4.jpg"],
            id="suffix-taken-by-an-original",
        ),
        pytest.param(["a\nb\u2028c.jpg"], ["a_b_c.jpg"], id="line-breaks"),
        pytest.param(["a.JPG", "b.gif", ".jpg"], ["a.JPG", "b.gif.png", ".jpg.png"], id="suffix"),
    ],
)
def test_file_names(tmp_path: Path, paths: list[str], expected: list[str]) -> None:
    assert _names(tmp_path, *paths) == expected


def test_colliding_names_keep_their_own_image_and_labels(tmp_path: Path) -> None:
    paths = [write_image(tmp_path / name / "a.jpg", seed=i) for i, name in enumerate("xy")]
    folder = tmp_path / "yolo"
    write_yolo(folder, batch_of(dataset_of(paths), [[(0, 0.9)], [(2, 0.9)]]))
    assert (folder / "images" / "a.jpg").resolve() == paths[0]
    assert (folder / "images" / "a_2.jpg").resolve() == paths[1]
    assert (folder / "labels" / "a.txt").read_text().startswith("0 ")
    assert (folder / "labels" / "a_2.txt").read_text().startswith("2 ")
    assert (folder / "images.txt").read_text() == "./images/a.jpg\n./images/a_2.jpg\n"


def test_copies_where_links_are_impossible(tmp_path: Path, monkeypatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(1314, "a required privilege is not held")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    path = write_image(tmp_path / "a.jpg")
    write_yolo(tmp_path / "yolo", batch_of(dataset_of([path]), [[]]))
    copy = tmp_path / "yolo" / "images" / "a.jpg"
    assert not copy.is_symlink()
    assert copy.read_bytes() == path.read_bytes()


def test_file_types_unknown_to_ultralytics_become_png(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.jfif")
    write_yolo(tmp_path / "yolo", batch_of(dataset_of([path]), [[]]))
    converted = read_image(tmp_path / "yolo" / "images" / "a.jfif.png")
    assert converted.file_format == "PNG"
    assert np.array_equal(converted.pixels, read_image(path).pixels)


def test_data_yaml_holds_no_absolute_path(tmp_path: Path) -> None:
    write_yolo(tmp_path / "yolo", batch_of(dataset_of([write_image(tmp_path / "a.jpg")]), [[]]))
    assert str(tmp_path) not in (tmp_path / "yolo" / "data.yaml").read_text(encoding="utf-8")


def test_empty_batch(tmp_path: Path) -> None:
    batch: Batch = batch_of(dataset_of([]), [])
    write_yolo(tmp_path / "yolo", batch)
    assert (tmp_path / "yolo" / "images.txt").read_text() == ""
