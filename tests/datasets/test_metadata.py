from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from detal.datasets import Dataset, join_metadata
from detal.datasets.listing import image_frame
from detal.errors import DataError
from tests.datasets.making import kinds, write_text


@pytest.fixture
def dataset() -> Dataset:
    ids = ["7", "x/a.jpg", "y/a.jpg", "y/b c.png"]
    frame = image_frame(ids, [f"/d/{i}" for i in ids], metadata={"note": ["n", None, None, None]})
    return Dataset("d", frame, (), ())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("image_id,v\n7,1\ny/a.jpg,2\n", [1, None, 2, None], id="id"),
        pytest.param("v,file_name\n1,b c.png\n", [None, None, None, 1], id="name"),
        pytest.param("filename,v\nb c,1\n", [None, None, None, 1], id="stem"),
        pytest.param("path,v\n/d/x/a.jpg,1\n", [None, 1, None, None], id="path"),
        pytest.param("path,v\nx\\a.jpg,1\n", [None, 1, None, None], id="backslash"),
        pytest.param("image_id,v\n 7 ,1\n", [1, None, None, None], id="spaces"),
        pytest.param("\ufeffimage_id,v\n7,1\n", [1, None, None, None], id="byte_order_mark"),
        pytest.param("image_id,v\n", [None] * 4, id="no_rows"),
    ],
)
def test_rows_find_their_image(
    text: str, expected: list[int], dataset: Dataset, tmp_path: Path
) -> None:
    joined = join_metadata(dataset, write_text(tmp_path / "m.csv", text))
    assert joined.images["v"].to_list() == expected
    assert joined.images["image_id"].to_list() == dataset.images["image_id"].to_list()
    assert joined.problems == ()


def test_groups_types_and_overriding(dataset: Dataset, tmp_path: Path) -> None:
    text = "image_id,group,day,note,width\n7,01,true,,9\ny/b c.png,2,false,new,9\n"
    images = join_metadata(dataset, write_text(tmp_path / "m.csv", text)).images
    assert images["group"].to_list() == ["01", None, None, "2"]
    assert images["day"].to_list() == [True, None, None, False]
    assert images["note"].to_list() == ["n", None, None, "new"]
    assert images["width"].null_count() == 4  # sizes come from files


def test_values_of_another_type_are_kept_as_text(dataset: Dataset, tmp_path: Path) -> None:
    images = join_metadata(dataset, write_text(tmp_path / "m.csv", "image_id,note\n7,5\n")).images
    assert images["note"].to_list() == ["5", None, None, None]
    columns = {"image_id": ["7", "y/b c.png"], "group": ["g", None]}
    pl.DataFrame(columns).write_csv(tmp_path / "n.csv")
    assert join_metadata(dataset, tmp_path / "n.csv").images["group"].to_list()[0] == "g"


def test_rows_without_one_image_are_reported(dataset: Dataset, tmp_path: Path) -> None:
    text = "image_id,v\nnothing,1\na.jpg,2\n7,3\n7,4\n,5\n"
    path = write_text(tmp_path / "m.csv", text)
    joined = join_metadata(dataset, path)
    assert joined.images["v"].to_list() == [3, None, None, None]
    assert kinds(joined.problems) == {"unmatched_metadata": 3, "duplicate_metadata": 1}
    assert {(p.file, p.where) for p in joined.problems} == {
        (str(path), f"line {line}") for line in (2, 3, 5, 6)
    }
    assert "must name one image only" in joined.problems[1].message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("v,w\n1,2\n", "must have a column image_id or", id="no_key"),
        pytest.param("", "must be a CSV table", id="empty"),
        pytest.param("image_id,v\n7,1,2,3\n", "must be a CSV table", id="ragged"),
        pytest.param(None, "cannot read", id="missing"),
    ],
)
def test_bad_tables(text: str | None, message: str, dataset: Dataset, tmp_path: Path) -> None:
    if text is not None:
        write_text(tmp_path / "m.csv", text)
    with pytest.raises(DataError, match=message):
        join_metadata(dataset, tmp_path / "m.csv")


def test_empty_dataset(tmp_path: Path) -> None:
    empty = Dataset("d", image_frame([], []), (), ())
    joined = join_metadata(empty, write_text(tmp_path / "m.csv", "image_id,v\n7,1\n"))
    assert joined.images.schema["v"] == pl.Int64
    assert kinds(joined.problems) == {"unmatched_metadata": 1}
