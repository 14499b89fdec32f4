"""Advice on one's own rounds."""

from pathlib import Path

import pytest

from detal.errors import DataError
from detal.loop.advice import read_curve, stopping_advice
from detal.loop.curves import StopRule


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_flat_curve_says_stop_and_a_steep_one_go_on(tmp_path: Path) -> None:
    flat = write(tmp_path / "flat.csv", "boxes,mean_ap\n300,0.5\n100,0.5\n200,0.5\n")
    steep = write(tmp_path / "steep.csv", "boxes,mean_ap\n100,0.1\n200,0.2\n300,0.3\n")
    rule = StopRule(under=0.2)
    assert str(stopping_advice(read_curve(flat), rule)).endswith("points of mAP: stop")
    assert str(stopping_advice(read_curve(steep), rule)).endswith("points of mAP: go on")
    advice = stopping_advice(read_curve(steep))
    assert advice.stop is None
    assert advice.to_dict()["gain"]["mean"] == advice.gain.mean > 0.02


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("boxes,map\n1,0.1\n", "must have columns boxes and mean_ap", id="column"),
        pytest.param("boxes,mean_ap\n1,31.6\n", "must be in 0..1", id="percent"),
        pytest.param("boxes,mean_ap\n1,\n", "must be in 0..1", id="empty"),
        pytest.param("boxes,mean_ap\nmany,0.1\n", "must be numbers", id="words"),
        pytest.param("boxes,mean_ap\n5,0.1\n5,0.2\n", "increase", id="twice"),
        pytest.param("", "cannot read the curve", id="nothing"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_curve(write(tmp_path / "curve.csv", text))


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read the curve .*nowhere.csv"):
        read_curve(tmp_path / "nowhere.csv")


def test_two_measurements_are_too_few(tmp_path: Path) -> None:
    short = write(tmp_path / "short.csv", "boxes,mean_ap\n1,0.1\n2,0.2\n")
    with pytest.raises(DataError, match="at least three"):
        stopping_advice(read_curve(short))
