from pathlib import Path

import pytest

from detal.errors import ConfigError, DataError
from detal.manifests import ImagePrefix
from detal.manifests.image_references import hand_images
from tests.manifests.factories import write_image


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        pytest.param("s3://bucket/x", "s3://bucket/x/a/b c&#?ü.jpg", id="s3-as-it-is"),
        pytest.param("gs://bucket/", "gs://bucket/a/b c&#?ü.jpg", id="gs"),
        pytest.param("https://h/x", "https://h/x/a/b%20c%26%23%3F%C3%BC.jpg", id="https"),
        pytest.param(
            "/data/local-files/?d=", "/data/local-files/?d=a/b%20c%26%23%3F%C3%BC.jpg", id="local"
        ),
        pytest.param("", "a/b c&#?ü.jpg", id="relative"),
    ],
)
def test_prefix(tmp_path: Path, prefix: str, expected: str) -> None:
    stands_for = ImagePrefix.parse(f"{tmp_path}={prefix}")
    assert stands_for.apply(str(tmp_path / "a" / "b c&#?ü.jpg")) == expected


def test_file_urls() -> None:
    assert ImagePrefix.parse("/=file://").apply("/x/a b.jpg") == "file:///x/a%20b.jpg"
    assert ImagePrefix.parse("/=file:///").apply("/x/a b.jpg") == "file:///x/a%20b.jpg"


@pytest.mark.parametrize("text", ["s3://bucket", "", "relative=s3://b", "/no such folder=s3://b"])
def test_what_is_no_prefix(text: str) -> None:
    with pytest.raises(ConfigError, match="must be FOLDER=PREFIX with the absolute path"):
        ImagePrefix.parse(text)


def test_image_elsewhere_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"every image must be below .*got /elsewhere/a\.jpg"):
        ImagePrefix.parse(f"{tmp_path}=s3://b").apply("/elsewhere/a.jpg")


def test_links_and_copies_have_names_of_their_own(tmp_path: Path) -> None:
    paths = [str(write_image(tmp_path / name / "a.jpg")) for name in "xy"]
    for mode, is_link in (("link", True), ("copy", False)):
        folder = tmp_path / mode
        folder.mkdir()
        handed = hand_images(paths, folder, final=Path("/final"), mode=mode)  # type: ignore[arg-type]
        assert handed.names == ("a.jpg", "a_2.jpg")
        assert handed.places == ("images/a.jpg", "images/a_2.jpg")
        assert handed.references == ("/final/images/a.jpg", "/final/images/a_2.jpg")
        placed = [folder / place for place in handed.places]
        assert [place.is_symlink() for place in placed] == [is_link] * 2
        assert [p.read_bytes() for p in placed] == [Path(p).read_bytes() for p in paths]


def test_prefix_of_copies(tmp_path: Path) -> None:
    path = str(write_image(tmp_path / "in" / "a.jpg"))
    prefix = ImagePrefix(tmp_path / "final", "s3://b")
    handed = hand_images([path], tmp_path, final=tmp_path / "final", mode="copy")
    assert handed.prefixed_by(prefix).references == ("s3://b/images/a.jpg",)


def test_nothing_is_written_for_references(tmp_path: Path) -> None:
    path = str(write_image(tmp_path / "in" / "a.jpg"))
    handed = hand_images([path], tmp_path / "out", final=tmp_path / "out")
    assert (handed.references, handed.places) == ((path,), ())
    assert not (tmp_path / "out").exists()
