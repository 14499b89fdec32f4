"""A sample of the bad inputs; `make bad-inputs` meets all of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bad_inputs.recipes import all_cases

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "data" / "results" / "faults.json"
SAMPLE = (
    *("images/truncated.jpg", "images/bomb-30000x30000.png", "COCO boxes/nan", "images/loop.tif"),
    *("COCO image ids/2^63", "COCO images/name-fifo", "COCO images/name-device", "JSON/deep-lists"),
    *("JSON/duplicate-keys", "XML in VOC/billion-laughs", "XML in CVAT/external-file"),
    *("YOLO data.yaml/value-python-system", "checkpoints/trap", "checkpoints/zip-bomb"),
    *("model YAMLs/trap", "run, fields/no-config", "decisions/replaced-in-circle"),
    *("store/boxes-truncated", "paths/output-is-the-labelled-set", "paths/links-in-a-circle"),
)


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="forks")
def test_a_sample_is_refused_or_named(tmp_path: Path) -> None:
    """In a process of its own: forks must not follow on threads that other tests started."""
    command = [sys.executable, "tools/bench/bad_inputs.py", "--scratch", str(tmp_path), "--only"]
    done = subprocess.run(
        [*command, *SAMPLE], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "0 traceback" in done.stdout


def test_the_sample_and_the_committed_result_are_of_these_recipes() -> None:
    names = {f"{case.family}/{case.name}" for case in all_cases()}
    assert {name for name in SAMPLE if not any(name in known for known in names)} == set()
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    counts = {row["family"]: row["count"] for row in result["bad_input_table"]}
    assert counts == {f: sum(c.family == f for c in all_cases()) for f in counts}
    assert result["bad_inputs"] == len(names) >= 300
    assert result["tracebacks"] == 0
