import csv
from pathlib import Path

import pytest

from detal.errors import DataError
from detal.manifests import read_csv, write_csv
from tests.manifests.factories import batch_of, dataset_of, write_image


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_rows(tmp_path: Path) -> None:
    paths = [write_image(tmp_path / "a.jpg"), write_image(tmp_path / 'ü, "b".png')]
    batch = batch_of(dataset_of(paths), [[(0, 0.9), (1, 0.2)], []], reasons=["doubt, much", "x"])
    write_csv(tmp_path / "selection.csv", batch)
    first, second = read(tmp_path / "selection.csv")
    assert first == {
        "rank": "1",
        "image_id": "img0",
        "path": str(paths[0]),
        "width": "64",
        "height": "48",
        "group": "",
        "score": "2",
        "expected_boxes": "1.100",
        "cost": "1.000",
        "cost_unit": "images",
        "boxes": "1",
        "reason": "doubt, much",
    }
    assert second["path"] == str(paths[1])
    assert second["score"] == ""
    assert second["rank"] == "2"


def test_texts_are_not_run_as_formulas(tmp_path: Path) -> None:
    ids = ["=1+1", "+a", "-a", "@a", "\ta", "plain-a"]
    paths = [write_image(tmp_path / f"{i}.jpg") for i in range(6)]
    batch = batch_of(dataset_of(paths, ids=ids), [[]] * 6, reasons=["=HYPERLINK(1)"] * 6)
    write_csv(tmp_path / "selection.csv", batch)
    rows = read(tmp_path / "selection.csv")
    assert [row["image_id"] for row in rows] == [*(f"'{i}" for i in ids[:5]), "plain-a"]
    assert rows[0]["reason"] == "'=HYPERLINK(1)"


def test_reading_gives_the_images_back(tmp_path: Path) -> None:
    ids = ["=1+1", "'=1+1", "''@a", "'quoted'", 'a, "b"\nc', "plain", "@x"]
    paths = [write_image(tmp_path / f"{i} ü.jpg") for i in range(7)]
    batch = batch_of(dataset_of(paths, ids=ids), [[]] * 7)
    write_csv(tmp_path / "selection.csv", batch)
    assert read_csv(tmp_path / "selection.csv") == batch.images


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a,b\n1,2\n", "KeyError", id="columns"),
        pytest.param("rank,image_id,path,width,height,group\n1,a,b,,3,\n", "invalid", id="no-size"),
        pytest.param("rank\nx\n", "invalid", id="no-rank"),
        pytest.param(
            "rank,image_id,path,width,height,group\n1,a,b,2,3,\n2,a,c,2,3,\n", "once", id="twice"
        ),
    ],
)
def test_what_is_no_selection(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "selection.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_csv(tmp_path / "selection.csv")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_csv(tmp_path / "selection.csv")
