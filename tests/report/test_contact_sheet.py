from pathlib import Path

import cv2
import numpy as np
import pytest

from detal.manifests import Batch
from detal.report import write_contact_sheet
from tests.manifests.factories import batch_of, dataset_of, write_image


def draw(path: Path, batch: Batch, *, before: int = 10, added: float = 2.0) -> np.ndarray:
    classes = len(batch.class_names)
    write_contact_sheet(
        path,
        batch,
        counts_before=np.full(classes, before, dtype=np.int64),
        counts_added=np.full(classes, added),
    )
    picture = cv2.imread(str(path))
    assert picture is not None
    return np.asarray(picture)


def test_one_image(tmp_path: Path) -> None:
    dataset = dataset_of([write_image(tmp_path / "a.jpg")])
    picture = draw(tmp_path / "sheet.png", batch_of(dataset, [[(0, 0.9)]]))
    assert 300 < picture.shape[0] < 800
    assert picture.std() > 5


def test_large_batch_shows_some_of_it(tmp_path: Path) -> None:
    paths = [write_image(tmp_path / f"{i:02d}.jpg", width=16, height=16) for i in range(41)]
    batch = batch_of(dataset_of(paths), [[]] * 41)
    some = draw(tmp_path / "sheet.png", batch)
    first_forty = batch_of(dataset_of(paths[:40]), [[]] * 40)
    assert draw(tmp_path / "forty.png", first_forty).shape == some.shape


@pytest.mark.parametrize("before", [0, 100_000])
def test_empty_batch(tmp_path: Path, before: int) -> None:
    draw(tmp_path / "sheet.png", batch_of(dataset_of([]), []), before=before, added=0.0)


def test_any_class_name(tmp_path: Path) -> None:
    """Glyphs without a font, mathematics and line breaks; warnings are errors here."""
    names = ["日本語 🐟", "$\\frac{$", "a\nb\tc", "x" * 200, "", "100%", "עברית"]
    dataset = dataset_of([write_image(tmp_path / "a.jpg", width=200)])
    boxes = [[(i, 0.9 - i / 10) for i in range(7)]]
    batch = batch_of(dataset, boxes, class_names=names, reasons=["$x 日本 {} % \\ \n" * 5])
    draw(tmp_path / "sheet.png", batch)


def test_three_thousand_classes(tmp_path: Path) -> None:
    dataset = dataset_of([write_image(tmp_path / "a.jpg")])
    batch = batch_of(dataset, [[(2999, 0.9)]], class_names=[f"class {i}" for i in range(3000)])
    assert max(draw(tmp_path / "sheet.png", batch).shape) < 4000


def test_image_that_vanished(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.jpg")
    batch = batch_of(dataset_of([path]), [[(0, 0.9)]])
    path.unlink()
    draw(tmp_path / "sheet.png", batch)


def test_same_input_same_picture(tmp_path: Path) -> None:
    batch = batch_of(dataset_of([write_image(tmp_path / "a.jpg")]), [[(0, 0.9)]])
    first, second = tmp_path / "1.png", tmp_path / "2.png"
    draw(first, batch)
    draw(second, batch)
    assert first.read_bytes() == second.read_bytes()
