from xml.etree import ElementTree as ET

import numpy as np
import pytest

from detal.report.svg import Frame, Series, bars, histogram, line_chart, scatter, tag, ticks


def test_text_and_attributes_are_escaped() -> None:
    made = tag("text", "<b>&", class_='"><script>', x=1.5, y=None)
    assert str(made) == '<text class="&#34;&gt;&lt;script&gt;" x="1.5">&lt;b&gt;&amp;</text>'


def test_ticks_lie_within_the_range() -> None:
    assert ticks(0.0, 10.0, count=5) == [0, 2, 4, 6, 8, 10]
    assert ticks(3.0, 3.0, count=5) == [3.0]


def test_corners_of_a_frame() -> None:
    frame = Frame(x=(10.0, 20.0), y=(0.0, 1.0), width=156.0, height=146.0)
    assert (float(frame.px(10)), float(frame.px(20))) == (44.0, 144.0)
    assert (float(frame.py(0)), float(frame.py(1))) == (112.0, 12.0)


def test_a_line_leaves_out_what_is_no_number() -> None:
    series = Series("a<b", np.array([0.0, 1, 2]), np.array([0.1, np.nan, 0.3]), dots=True)
    root = ET.fromstring(str(line_chart([series], x_label="boxes", label="x & y")))
    assert root.get("aria-label") == "x & y"
    line = root.find(".//polyline")
    assert line is not None
    assert len((line.get("points") or "").split()) == 2
    assert [t.text for t in root.iter("title")] == ["a<b"]


@pytest.mark.parametrize("y", [[0.0], [0.5, 0.5]], ids=["one-point", "flat"])
def test_degenerate_lines(y: list[float]) -> None:
    series = Series("a", np.arange(len(y), dtype=float), np.array(y))
    assert "nan" not in str(line_chart([series], x_label="x", label="l"))


def test_histogram_of_nothing() -> None:
    nothing = np.zeros(2)
    made = str(
        histogram(
            np.array([0.0, 1, 2]), [("pool", nothing), ("batch", nothing)], x_label="x", label="l"
        )
    )
    ET.fromstring(made)
    assert "nan" not in made


def test_scatter_keeps_proportions() -> None:
    """Points 0..2 wide and 0..1 high: the height fills half of the square."""
    groups = [("pool", np.array([[0.0, 0], [2, 1]])), ("selected", np.array([[1.0, 0.5]]))]
    root = ET.fromstring(str(scatter(groups, label="map")))
    paths = {path.get("class"): path.get("d") for path in root.iter("path")}
    assert paths["selected"] == "M200.0 200.0h0"
    assert paths["pool"] == "M7.7 296.2h0M392.3 103.8h0"
    assert root.get("data-middle") == "1,0.5"


def test_lengths_of_bars() -> None:
    root = ET.fromstring(str(bars(30, 20, 100, log=False)))
    assert [(r.get("x"), r.get("width")) for r in root.iter("rect")] == [("0", "30"), ("30", "20")]
    root = ET.fromstring(str(bars(9, 90, 99, log=True)))
    assert [(r.get("x"), r.get("width")) for r in root.iter("rect")] == [("0", "50"), ("50", "50")]
    ET.fromstring(str(bars(0, 0, 0, log=True)))
