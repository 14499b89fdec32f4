"""Files that are whole or not there."""

from pathlib import Path

import pytest

from detal.files import replacing, write_atomic, write_json


def test_content_and_folder(tmp_path: Path) -> None:
    write_atomic(tmp_path / "new" / "a", b"1")
    write_atomic(tmp_path / "new" / "a", b"2")
    write_json(tmp_path / "new" / "b.json", {"ō": [1, None]})
    assert (tmp_path / "new" / "a").read_bytes() == b"2"
    assert (tmp_path / "new" / "b.json").read_text("utf-8") == '{\n "ō": [\n  1,\n  null\n ]\n}\n'
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a", "b.json"]


def test_what_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomic(path, b"old")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_bytes(b"ne")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert path.read_bytes() == b"old"
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, float("nan"))
    assert path.read_bytes() == b"old"
    write_json(path, float("nan"), allow_nan=True)
    assert path.read_text() == "NaN\n"
