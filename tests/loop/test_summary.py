import csv
import json
from pathlib import Path

import pytest

from detal.errors import DataError
from detal.loop.curves import StopRule
from detal.loop.summary import read_points, summarise, summary_markdown, write_summary


def write_result(folder: Path, *, boxes: int, mean_ap: float) -> None:
    folder.mkdir(parents=True)
    result = {
        "steps": 10,
        "images": boxes // 2,
        "boxes": boxes,
        "seconds": 7.0 * boxes,
        "mean_ap": mean_ap,
        "ap50": mean_ap * 1.5,
        "rare_third_ap": None,
        "batch_near_duplicates": 0.25,
        "batch_class_entropy": 1.0,
        "timings": {"selection_s": 0.5},
    }
    (folder / "result.json").write_text(json.dumps(result))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two seeds, two rounds; `better` gains twice as much per round as `random`."""
    for seed in (0, 1):
        write_result(tmp_path / "initial" / f"seed-{seed}", boxes=100, mean_ap=0.1)
        for name, gain in (("random", 0.1), ("better", 0.2)):
            for round_idx in (1, 2):
                write_result(
                    tmp_path / "arms" / name / f"seed-{seed}" / f"round-{round_idx}",
                    boxes=100 + 100 * round_idx,
                    mean_ap=0.1 + gain * round_idx,
                )
    return tmp_path


def test_points_repeat_round_zero_for_each_strategy(study: Path) -> None:
    points = read_points(study)
    assert len(points) == 2 * 2 * 3
    assert points.filter(round=0)["boxes"].to_list() == [100] * 4


def test_figures_by_hand(study: Path) -> None:
    summary = summarise(read_points(study))
    assert summary["seeds"] == [0, 1]
    area = {
        name: figures["area"]["boxes"]["mean_ap"]["mean"]
        for name, figures in summary["strategies"].items()
    }
    assert area == {"random": pytest.approx(0.2), "better": pytest.approx(0.3)}
    # `better` reaches random's final 0.3 after 200 of its 300 boxes.
    efficiency = summary["strategies"]["better"]["boxes_to_reach_random"]
    assert efficiency["boxes"] == [pytest.approx(200)] * 2
    assert efficiency["share_saved"] == [pytest.approx(1 / 3)] * 2
    assert summary["win_matrix"]["better"]["random"]["low"] == pytest.approx(0.1)
    assert summary["strategies"]["random"]["near_duplicate_share"] == pytest.approx(0.25)


def test_a_stopping_rule_tells_where_it_would_have_ended_the_arms(study: Path) -> None:
    never = summarise(read_points(study), stop=StopRule(under=0.1))
    assert never["strategies"]["better"]["stopped"] == [None, None]
    at_once = summarise(read_points(study), stop=StopRule(under=90.0))
    assert (
        at_once["strategies"]["better"]["stopped"] == [{"boxes": 300.0, "mean_ap_later": 0.0}] * 2
    )
    assert "the rule would have stopped at 300 boxes" in summary_markdown(at_once)


def test_the_table_puts_the_best_first(study: Path) -> None:
    rows = [
        line
        for line in summary_markdown(summarise(read_points(study))).splitlines()
        if line.startswith("| ") and "0." in line
    ]
    assert [row.split("|")[1].strip() for row in rows] == ["better", "random"]
    assert "33%, 33%" in rows[0]


def test_an_unfinished_arm_is_cut_to_what_all_arms_cover(study: Path) -> None:
    (study / "arms" / "random" / "seed-1" / "round-2" / "result.json").unlink()
    summary = summarise(read_points(study))
    assert len(summary["strategies"]["random"]["points"]) == 5
    # On seed 1 both are measured over 100..200 boxes only: means 0.15 and 0.2.
    difference = summary["win_matrix"]["better"]["random"]
    assert difference["mean"] == pytest.approx((0.1 + 0.05) / 2)


def test_files(study: Path, tmp_path: Path) -> None:
    output = tmp_path / "figures"
    write_summary(study, output)
    assert {path.name for path in output.iterdir()} == {
        "summary.json",
        "summary.md",
        "points.csv",
        "curves.png",
        "curves.svg",
    }
    with (output / "points.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 12
    assert json.loads((output / "summary.json").read_text())["seeds"] == [0, 1]


def test_nothing_finished(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no finished round"):
        write_summary(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
