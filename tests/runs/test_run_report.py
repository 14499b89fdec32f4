import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detal.reward import FittedCurves
from detal.runs.gallery import reason_kind
from detal.runs.kept import FOLDER
from detal.runs.run_folder import read_run
from detal.runs.run_report import _GAIN_STRATEGIES, run_view, write_run_report
from detal.runs.table_view import curve_panel
from detal.strategies import STRATEGIES
from tests.runs.run_folders import as_older, write_run

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)> &amp; ' \" \u2028 {{ 7*7 }}"


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found.group(1))
    return data


def test_everything_is_in_one_file(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    page = write_run_report(folder).read_text(encoding="utf-8")
    assert "6 images to label next" in page
    assert not re.search(r'(?:src|href)="(?!#|data:,)', page)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)
    assert len(re.findall(r'<script type="text/plain" id="t\d+">\w', page)) == 6
    data = data_of(page)
    assert [image["n"] for image in data["images"]] == [f"000{i}.png" for i in range(6)]
    assert data["images"][0]["b"] == [0, 5, 10, 10, 0, 0.9, 12, 5, 10, 10, 1, 0.5]
    assert data["images"][5]["s"] is None
    assert "2 near duplicate" in page


def test_names_stay_text(tmp_path: Path) -> None:
    names = [f"{i} {EVIL.replace('/', '|')}.png" for i in range(3)]
    folder = write_run(
        tmp_path / "run",
        count=3,
        reserve=0,
        class_names=(EVIL, "b" + EVIL, "c"),
        names=names,
        reasons=[EVIL] * 3,
    )
    page = write_run_report(folder).read_text(encoding="utf-8")
    data = data_of(page)
    assert data["classes"][0] == EVIL
    assert data["images"][0]["r"] == EVIL
    assert data["images"][0]["n"] == names[0]
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert page.count("<script>") == 3  # the page's own


def test_the_policy_names_every_script_by_its_hash(tmp_path: Path) -> None:
    page = write_run_report(write_run(tmp_path / "run")).read_text(encoding="utf-8")
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert found
    policy = found.group(1)
    assert policy.startswith("default-src &#39;none&#39;")
    assert "unsafe" not in policy
    assert policy.count("sha256-") == 1 + page.count("<script>")
    assert not re.search(r'\s(?:style|on[a-z]+)="', page)


def test_an_older_run_says_what_it_lacks(tmp_path: Path) -> None:
    page = write_run_report(as_older(write_run(tmp_path / "run"))).read_text(encoding="utf-8")
    assert "written by an older detal" in page
    assert 'id="map"' not in page
    assert 'id="classes"' not in page
    assert len(data_of(page)["images"]) == 6


def test_images_that_are_gone_are_counted(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    (tmp_path / "pool" / "0001.png").unlink()
    page = write_run_report(folder, tmp_path / "out" / "r.html").read_text(encoding="utf-8")
    assert "1 image cannot be read any more" in page


def test_no_features_no_map(tmp_path: Path) -> None:
    view = run_view(read_run(write_run(tmp_path / "run", features=False)))
    assert view.map is None
    assert "no image features" in view.notices[0]


def test_quotas_that_cannot_be_met_are_told(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    told = "the pool does not hold the quota of <b>cat</b> (about 1 of 9)"
    (folder / "run.json").write_text(json.dumps({**record, "notes": [told]}), encoding="utf-8")
    assert run_view(read_run(folder)).notices == [told]
    page = write_run_report(folder).read_text(encoding="utf-8")
    assert "the pool does not hold the quota of &lt;b&gt;cat&lt;/b&gt; (about 1 of 9)" in page


def test_one_image_and_no_box(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", count=1, reserve=0)
    assert "1 image to label next" in write_run_report(folder).read_text(encoding="utf-8")


def test_gain_and_measured_curves(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", strategy="curve_greedy")
    view = run_view(read_run(folder))
    assert view.gain is not None
    assert not view.gain.measured
    # Scores fall from 2 to 1 in five steps, the last of them not a number.
    assert view.gain.gain.tolist() == pytest.approx(100 * np.cumsum([2, 1.8, 1.6, 1.4, 1.2, 0]))
    FittedCurves.fit(
        ("dog", "cat", "owl"),
        counts=np.array([[5.0, 5, 5], [50, 50, 50]]),
        ap=np.array([[0.1, 0.2, 0.1], [0.4, 0.3, 0.2]]),
        labeled_counts=np.array([50.0, 20, 10]),
        made_of={},
    ).save(folder / FOLDER)
    view = run_view(read_run(folder))
    assert view.gain is not None
    assert view.gain.measured
    # Two pictures with cat 0.9 and dog 0.5, two with owl 0.8, two with nothing.
    assert [panel.name for panel in view.panels] == ["cat", "owl", "dog"]
    assert view.after == pytest.approx({0: 51.0, 1: 21.8, 2: 11.6})
    assert "Learning curve of cat" in write_run_report(folder).read_text(encoding="utf-8")


def test_a_panel_reaches_as_far_as_the_batch() -> None:
    table = FittedCurves.fit(
        ("cat",),
        counts=np.array([[5.0], [50]]),
        ap=np.array([[0.1], [0.4]]),
        labeled_counts=np.array([50.0]),
        made_of={},
    )
    assert curve_panel(table, 0).grid[-1] == 80
    assert curve_panel(table, 0, upto=500.0).grid[-1] == 500


def test_the_reserve_is_there_for_a_review_only(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run"))
    assert len(run_view(run).gallery["images"]) == 6
    gallery = run_view(run, with_reserve=True).gallery
    assert (len(gallery["images"]), gallery["count"]) == (9, 6)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("summed entropy 15.9, rank 1 of 360; most uncertain: 4 × seven", "summed entropy …"),  # noqa: RUF001
        ("drawn at random", "drawn at random"),
        (
            "expected to add 1,234.5 points of mAP by a prior curve",
            "expected to add … points of mAP by a prior curve",
        ),
        ("", ""),
    ],
)
def test_kinds_of_reasons(reason: str, kind: str) -> None:
    assert reason_kind(reason) == kind


def test_strategies_whose_scores_are_gains_exist() -> None:
    assert set(STRATEGIES) >= _GAIN_STRATEGIES
