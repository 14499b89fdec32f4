from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detal.datasets import Dataset, Problem, check_dataset, open_dataset, problems_table
from detal.datasets.listing import image_frame
from tests.datasets.making import coco_box, coco_image, kinds, write_coco, write_image, write_text


def dirty(root: Path) -> Dataset:
    """Nine images, each but the first two wrong in its own way."""
    write_image(root / "1.jpg", seed=1)
    write_image(root / "2.jpg", seed=2)
    (root / "3.jpg").write_bytes((root / "1.jpg").read_bytes())
    data = write_image(root / "4.jpg", seed=4).read_bytes()
    (root / "4.jpg").write_bytes(data[: len(data) // 2])
    write_text(root / "5.jpg", "text")
    write_text(root / "6.jpg", "")
    tags = Image.Exif()
    tags[274] = 6
    Image.new("RGB", (40, 30)).save(root / "8.jpg", exif=tags)
    write_image(root / "9.jpg", width=20, height=30, seed=9)
    boxes = [
        coco_box(1, 1, [1, 1, 5, 5]),
        coco_box(2, 9, [10, 1, 20, 5]),
        coco_box(3, 1, [1, 1, 0, 0]),
    ]
    path = write_coco(
        root / "a.json",
        images=[coco_image(i) for i in range(1, 10)],
        annotations=boxes,
        categories=[{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}],
    )
    return open_dataset(path)


@pytest.mark.parametrize("workers", [1, 4, None])
def test_everything_is_reported_at_once(workers: int | None, tmp_path: Path) -> None:
    dataset = dirty(tmp_path)
    problems = check_dataset(dataset, workers=workers)
    assert problems[: len(dataset.problems)] == dataset.problems
    found = {(p.kind, Path(p.file).name, p.where) for p in problems}
    assert found == {
        ("zero_area_box", "a.json", "annotation 3"),
        ("duplicate_content", "3.jpg", "3"),
        ("undecodable", "4.jpg", "4"),
        ("undecodable", "5.jpg", "5"),
        ("undecodable", "6.jpg", "6"),
        ("missing_file", "7.jpg", "7"),
        ("size_mismatch", "8.jpg", "8"),
        ("size_mismatch", "9.jpg", "9"),
        ("box_outside", "9.jpg", "9, annotation 2"),
        ("duplicate_category", "a", "class 1"),
    }
    message = next(p.message for p in problems if p.where == "8")
    assert "got 40 x 30 for 30 x 40; sides are swapped" in message


def test_without_decoding_contents_stay_unknown(tmp_path: Path) -> None:
    found = kinds(check_dataset(dirty(tmp_path), decode=False))
    assert "duplicate_content" not in found
    assert found["undecodable"] == 2  # the truncated image has a sound header
    assert found["size_mismatch"] == 2


def test_reader_and_check_do_not_report_the_same_twice(tmp_path: Path) -> None:
    write_text(tmp_path / "images/a.jpg", "broken")
    write_text(tmp_path / "labels/a.txt", "0 .5 .5 .5 .5")
    problems = check_dataset(open_dataset(tmp_path))
    assert kinds(problems) == {"undecodable": 1}


def test_pool_and_empty_pool(tmp_path: Path) -> None:
    assert check_dataset(open_dataset(tmp_path)) == ()
    write_image(tmp_path / "a.jpg")
    assert check_dataset(open_dataset(tmp_path)) == ()


def test_progress_counts_up(tmp_path: Path) -> None:
    ids = [f"{i}.jpg" for i in range(1100)]
    dataset = Dataset("d", image_frame(ids, [str(tmp_path / i) for i in ids]), (), ())
    seen: list[int] = []
    problems = check_dataset(dataset, decode=False, progress=seen.append)
    assert seen == list(range(1, 1101))
    assert [p.where for p in problems] == ids


def test_problems_table() -> None:
    problems = [Problem("a", "f", "1", "m"), Problem("b", "g", "", "n, o", "warning")]
    table = problems_table(problems)
    assert table.columns == ["kind", "file", "where", "message", "severity"]
    assert table.rows() == [("a", "f", "1", "m", "error"), ("b", "g", "", "n, o", "warning")]
    assert problems_table([]).columns == table.columns
    assert np.all([dtype == table["kind"].dtype for dtype in problems_table([]).dtypes])
