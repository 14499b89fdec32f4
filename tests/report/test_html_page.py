import base64
import hashlib
import json
from pathlib import Path

import pytest

from detal.report.html_page import plural, policy, script_json, write_page


def test_json_cannot_end_its_element() -> None:
    value = {"a</script><!--": ["<script>", "&", "\u2028\u2029", 1.5, None]}
    text = str(script_json(value))
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == value


def test_json_has_no_nan() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        script_json(float("nan"))


@pytest.mark.parametrize("served", [False, True])
def test_policy(served: bool) -> None:
    digest = base64.b64encode(hashlib.sha256(b"let a;").digest()).decode()
    rules = dict(
        rule.split(" ", 1) for rule in policy(["b{}"], ["let a;"], served=served).split("; ")
    )
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert ("connect-src" in rules) is served
    assert ("'self'" in rules["img-src"]) is served


def test_names_that_are_no_text(tmp_path: Path) -> None:
    write_page(tmp_path / "new" / "a.html", "bad \udcff name")
    assert (tmp_path / "new" / "a.html").read_bytes() == b"bad ? name"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.html"]


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (1, "image", "1 image"),
        (0, "image", "0 images"),
        (1234567, "box", "1,234,567 boxes"),
        (2, "class", "2 classes"),
        (3, "strategy", "3 strategies"),
    ],
)
def test_plural(number: int, noun: str, text: str) -> None:
    assert plural(number, noun) == text
