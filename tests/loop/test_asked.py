"""Which image of a manifest is meant by an image of an annotation file."""

from pathlib import Path

import polars as pl
import pytest

from detal.datasets.listing import image_frame
from detal.errors import DataError
from detal.loop.asked import match_images
from detal.manifests import Image
from tests.manifests.factories import write_image

ASKED = ["/pool/one/a.jpg", "/pool/two/a.jpg", "/pool/b.png", "/pool/写 真.gif", "/pool/C.JPG"]
"""In the yolo/ folder: a.jpg, a_2.jpg, b.png, 写 真.gif.png, C.JPG."""


def asked(ids: str = "1 2 3 4 5") -> list[Image]:
    return [
        Image(image_id, path, 64, 48, None)
        for image_id, path in zip(ids.split(), ASKED, strict=True)
    ]


def returned(*images: tuple[str, str], source_ids: list[str | None] | None = None) -> pl.DataFrame:
    ids, paths = zip(*images, strict=True) if images else ((), ())
    metadata = None if source_ids is None else {"detal_image_id": source_ids}
    return image_frame(ids, paths, metadata=metadata)


@pytest.mark.parametrize(
    ("images", "expected", "extra"),
    [
        pytest.param([], {}, (), id="nothing"),
        pytest.param([("9", "/pool/b.png"), ("8", "/pool/one/a.jpg")], {2: 0, 0: 1}, (), id="path"),
        pytest.param([("9", "/else/b.png"), ("8", "/else/c.jpeg")], {2: 0, 4: 1}, (), id="name"),
        pytest.param([("9", "/x/写 真.gif.png")], {3: 0}, (), id="name-in-yolo"),
        pytest.param([("9", "/x/写 真.jpg")], {3: 0}, (), id="own-name-of-a-converted-image"),
        pytest.param([("9", "/x/a.jpg"), ("8", "/x/a_2.jpg")], {0: 0, 1: 1}, (), id="renamed"),
        pytest.param([("9", "/x/a_2.jpg")], {1: 0}, (), id="renamed-alone"),
        pytest.param([("2", "/x/a.jpg"), ("1", "/y/a.jpg")], {1: 0, 0: 1}, (), id="id-tells-apart"),
        pytest.param([("3", "/x/b.png"), ("5", "/x/77.jpg")], {2: 0, 4: 1}, (), id="believed-id"),
        # A tool numbered the images anew: 1 is no longer one/a.jpg, and 2 belongs to a stranger.
        pytest.param([("1", "/x/b.png"), ("2", "/x/s.jpg")], {2: 0}, (1,), id="numbered-anew"),
        pytest.param([("3", "/x/b.png"), ("70", "/x/s.jpg")], {2: 0}, (1,), id="not-asked"),
    ],
)
def test_matches(
    images: list[tuple[str, str]], expected: dict[int, int], extra: tuple[int, ...]
) -> None:
    assert match_images(asked(), returned(*images)) == (expected, extra)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        pytest.param(
            [("9", "/x/a.jpg")], r"/x/a\.jpg may be any of /pool/one/a\.jpg, /pool/two", id="name"
        ),
        pytest.param([("3", "/x/77.jpg")], r"has the id of /pool/b\.png, but another", id="id"),
        pytest.param(
            [("9", "/x/b.png"), ("8", "/y/B.jpg")], r"/x/b\.png, /y/B\.jpg are all", id="twice"
        ),
        pytest.param(
            [("2", "/x/a.jpg"), ("1", "/x/b.png")], r"may be any of", id="ids-numbered-anew"
        ),
    ],
)
def test_unclear(images: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        match_images(asked(), returned(*images))


def test_the_source_id_decides() -> None:
    images = returned(("1", "/x/a.jpg"), ("2", "/x/a.jpg"), ("3", "/x/b.png"), ("4", "/x/c.jpg"))
    ids: list[str | None] = ["id 2", "id 1", "other", None]
    table = images.with_columns(pl.Series("detal_image_id", ids))
    manifest = [
        Image(f"id {number}", path, 64, 48, None) for number, path in enumerate(ASKED, start=1)
    ]
    assert match_images(manifest, table) == ({0: 1, 1: 0, 4: 3}, (2,))


def test_a_source_id_on_another_images_file() -> None:
    images = returned(("1", "/pool/b.png"), source_ids=["5"])
    with pytest.raises(DataError, match=r"image 5 may be any of /pool/b\.png, /pool/C\.JPG"):
        match_images(asked(), images)


def test_source_ids_that_a_tool_made_numbers() -> None:
    images = returned(("1", "/x/7.png")).with_columns(pl.Series("detal_image_id", [3]))
    assert match_images(asked(), images) == ({2: 0}, ())


def test_links_are_followed(tmp_path: Path) -> None:
    target = write_image(tmp_path / "pool" / "a.png")
    (tmp_path / "link.png").symlink_to(target)
    manifest = [Image("a", str(target), 64, 48, None)]
    assert match_images(manifest, returned(("1", str(tmp_path / "link.png")))) == ({0: 0}, ())
