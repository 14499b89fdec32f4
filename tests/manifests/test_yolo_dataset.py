from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detal.datasets import Dataset, open_dataset
from detal.errors import ConfigError, DataError
from detal.manifests import staged_folder, write_yolo_dataset
from detal.structures import Annotations
from tests.manifests.factories import dataset_of, write_image


def labeled(
    paths: list[Path], boxes: list[list[tuple[int, float, float, float, float]]]
) -> Dataset:
    annotations = Annotations.from_lists(
        [np.array([box[1:] for box in part]) for part in boxes],
        [np.array([box[0] for box in part]) for part in boxes],
    )
    return replace(dataset_of(paths), annotations=annotations)


@pytest.fixture
def pets(tmp_path: Path) -> Dataset:
    paths = [write_image(tmp_path / "in" / f"{name}.png", seed=i) for i, name in enumerate("abc")]
    return labeled(paths, [[(1, 16, 12, 48, 36), (2, 0, 0, 64, 48)], [], [(0, 1, 1, 2, 2)]])


def test_files(pets: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "yolo"
    write_yolo_dataset(folder, pets)
    lines = (folder / "labels" / "a.txt").read_text().splitlines()
    assert lines == [
        "1 0.500000 0.500000 0.500000 0.500000",
        "2 0.500000 0.500000 1.000000 1.000000",
    ]
    assert (folder / "labels" / "b.txt").read_text() == ""
    assert (folder / "images.txt").read_text() == "./images/a.png\n./images/b.png\n./images/c.png\n"
    assert (folder / "images" / "a.png").resolve() == Path(pets.images["path"][0])
    assert "train: images.txt\nval: images.txt\n" in (folder / "data.yaml").read_text()
    assert (folder / "data.yaml").read_text().startswith("# `val` is the training set itself")
    read = open_dataset(folder / "data.yaml", split="train")
    assert read.class_names == ("cat", "dog", "owl")
    assert read.annotations is not None
    assert read.annotations.labels.tolist() == [1, 2, 0]


def test_equal_datasets_give_equal_files(pets: Dataset, tmp_path: Path) -> None:
    files = []
    for name in ("one", "two"):
        write_yolo_dataset(tmp_path / name, pets)
        paths = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        files.append({path.relative_to(tmp_path / name): path.read_bytes() for path in paths})
    assert files[0] == files[1]
    assert len(files[0]) == 8


def test_validation_has_the_training_classes(pets: Dataset, tmp_path: Path) -> None:
    paths = [
        write_image(tmp_path / "val" / f"{name}.png", seed=7 + i) for i, name in enumerate("ab")
    ]
    val = replace(
        labeled(paths, [[(0, 0, 0, 32, 24), (1, 0, 0, 64, 48)], [(2, 0, 0, 8, 8)]]),
        class_names=("owl", "yak", "dog"),
    )
    write_yolo_dataset(tmp_path / "out", pets, val=val)
    assert (tmp_path / "out" / "val.txt").read_text() == "./images/a_2.png\n./images/b_2.png\n"
    assert (tmp_path / "out" / "images.txt").read_text().count("\n") == 3
    labels = tmp_path / "out" / "labels"
    assert (labels / "a_2.txt").read_text() == "2 0.250000 0.250000 0.500000 0.500000\n"
    assert (labels / "b_2.txt").read_text().startswith("1 ")
    assert "val: val.txt" in (tmp_path / "out" / "data.yaml").read_text()
    assert "#" not in (tmp_path / "out" / "data.yaml").read_text()


def test_crowds_are_left_out(pets: Dataset, tmp_path: Path) -> None:
    assert pets.annotations is not None
    crowd = replace(pets.annotations, is_crowd=np.array([True, False, True]))
    write_yolo_dataset(tmp_path / "out", replace(pets, annotations=crowd))
    assert (tmp_path / "out" / "labels" / "a.txt").read_text().startswith("2 ")
    assert (tmp_path / "out" / "labels" / "c.txt").read_text() == ""


def test_classes_of_one_name_stay_apart(pets: Dataset, tmp_path: Path) -> None:
    write_yolo_dataset(tmp_path / "out", replace(pets, class_names=("cat", "cat", "cat")))
    assert (tmp_path / "out" / "labels" / "a.txt").read_text()[0] == "1"


def test_no_image(tmp_path: Path) -> None:
    write_yolo_dataset(tmp_path / "out", labeled([], []))
    assert (tmp_path / "out" / "images.txt").read_text() == ""


def test_into_an_empty_folder_only(pets: Dataset, tmp_path: Path) -> None:
    with staged_folder(tmp_path / "staged") as folder:
        write_yolo_dataset(folder, pets)
    assert open_dataset(tmp_path / "staged").annotations is not None
    with pytest.raises(ConfigError, match="absent or empty"):
        write_yolo_dataset(tmp_path / "staged", pets)


def test_what_cannot_be_written(pets: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="pool must have annotations"):
        write_yolo_dataset(tmp_path / "a", replace(pets, annotations=None))
    Path(pets.images["path"][1]).unlink()
    with pytest.raises(DataError, match=r"found no file .*b\.png"):
        write_yolo_dataset(tmp_path / "b", pets)
