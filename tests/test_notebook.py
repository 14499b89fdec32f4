"""Objects in a notebook."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import polars as pl

from detal.datasets import IMAGE_COLUMNS, Dataset
from detal.loop import MergeReport
from detal.notebook import notebook_table
from detal.reward import FittedCurves
from detal.runs.select import SelectResult
from detal.structures import Annotations
from tests.manifests.factories import selection_of

EVIL = "<script>alert(1)</script>"


def texts(html: str) -> list[str]:
    """What is read, in order; fails where the HTML is not well formed."""
    return [text for text in ET.fromstring(f"<r>{html}</r>").itertext() if text.strip()]


def test_ten_rows_and_the_rest() -> None:
    html = notebook_table(
        "t", {"a": 1234, "b": None}, columns=("x",), rows=[[i] for i in range(13)], total=13
    )
    assert texts(html) == ["t", "a 1,234", "x", *map(str, range(10)), "and 3 more"]


def test_selection() -> None:
    found = texts(selection_of(["b", EVIL], reasons=["r", EVIL])._repr_html_())
    assert found[:2] == ["Selection", "images 2 · spent 2.0 of 10 images"]
    assert found[6:] == ["b", "2", "1", "r", EVIL, "1", EVIL]  # the last score is no number


def test_dataset_with_and_without_annotations() -> None:
    rows = {"image_id": ["a"], "path": ["/a.jpg"], "width": [4], "height": [4], "group": [None]}
    pool = Dataset(
        name=EVIL,
        images=pl.DataFrame(rows, schema=IMAGE_COLUMNS),
        class_names=("cat", EVIL),
        category_ids=(1, 2),
    )
    assert texts(pool._repr_html_()) == [f"Dataset {EVIL}", "images 1 · classes 2"]
    boxes = Annotations.from_lists([np.ones((3, 4))], [np.array([1, 1, 0])])
    labelled = Dataset(**{**vars(pool), "annotations": boxes})
    assert texts(labelled._repr_html_())[1:] == [
        *("images 1 · boxes 3 · classes 2", "class", "objects"),
        *(EVIL, "2", "cat", "1"),
    ]


def test_curves() -> None:
    table = FittedCurves.fit(
        ("cat", EVIL),
        counts=np.array([[5.0, 5], [50, 50]]),
        ap=np.array([[0.1, 0.2], [0.4, 0.3]]),
        labeled_counts=np.array([5.0, 50]),
        made_of={},
    )
    found = texts(table._repr_html_())
    assert found[1] == "classes 2 · variants 2"
    assert found[6:8] == [EVIL, "50"]


def test_result_of_a_run() -> None:
    result = SelectResult(
        output=Path("/runs") / EVIL,
        contact_sheet=Path("/x.png"),
        selection=selection_of(["a"]),
        run={"strategy": {"name": "random"}},
    )
    found = texts(result._repr_html_())
    assert found[1] == f"strategy random · folder /runs/{EVIL}"
    assert "Selection" in found


def test_merge_report() -> None:
    report = MergeReport(
        round_idx=2,
        asked=3,
        added=("a", EVIL),
        changed=(),
        unchanged=(),
        missing=("c",),
        extra=(),
        other_size=(),
        new_classes=(),
        boxes=5,
        problems=(),
        labeled_images=12,
        labeled_boxes=40,
    )
    found = texts(report._repr_html_())
    assert found[:2] == ["Round 2", "asked 3 · labelled now 12 · boxes 40"]
    assert found[found.index("new") + 1 :][:2] == ["2", f"a, {EVIL}"]
    assert found[found.index("missing") + 1 :][:2] == ["1", "c"]
