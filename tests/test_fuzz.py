"""A few changed files for each reader, and what longer fuzzing found; `make fuzz` goes on."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest


def _load() -> Any:
    path = Path(__file__).resolve().parents[1] / "tools" / "bench" / "fuzz.py"
    spec = importlib.util.spec_from_file_location("detal_fuzz", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["detal_fuzz"] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


fuzz = _load()

_BOMB = b"GIF89a" + b"\1\0\1\0\0\0\0" + b"," + b"\0" * 4 + b"\xff\x7f\xff\x7f\0\2\0\0;"
_ARRAY = b"\x93NUMPY\x01\0v\0" + b"{'descr': '<f2', 'fortrcr': '<".ljust(117) + b"\n" + bytes(12)

# Each, or its like, once led to something else than an error of ours.
FOUND: list[tuple[str, bytes]] = [
    ("images", _BOMB),
    ("store", b"\x02" + _ARRAY),
    ("checkpoints", b"\x87\xff"),
    ("checkpoints", b"J"),
    ("checkpoints", b"h?"),
]


@pytest.mark.parametrize("name", fuzz.READERS)
@pytest.mark.filterwarnings("ignore")
def test_changed_files_are_read_or_refused(name: str, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    session = fuzz.Session(name, fuzz.READERS[name], tmp_path / "found", scratch)
    for seed in fuzz.READERS[name].seeds():
        session.meet(seed)
    assert session.refused == 0, "the seeds must be valid"
    fuzz.run_blindly(session, seconds=60, examples=40, seed=1)
    assert session.figures()["findings"] == []


@pytest.mark.parametrize(("name", "data"), FOUND)
@pytest.mark.filterwarnings("ignore")
def test_what_was_found_is_read_or_refused(name: str, data: bytes, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    session = fuzz.Session(name, fuzz.READERS[name], tmp_path / "found", scratch)
    session.meet(data)
    assert session.figures()["findings"] == []
