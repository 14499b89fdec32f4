import json
from pathlib import Path

import pytest

from detal.errors import DataError
from detal.loop.study_report import is_study, write_study_report


def write_study(folder: Path, *, strategies: tuple[str, ...] = ("random", "entropy")) -> Path:
    """Two seeds, two rounds; entropy gains 0.02 a round more than random."""
    for seed in (0, 1):
        for name in strategies:
            for r in range(3):
                arm = folder / "arms" / name / f"seed-{seed}" / f"round-{r}"
                _result(
                    folder / "initial" / f"seed-{seed}" if r == 0 else arm,
                    spent=10 * (r + 1),
                    mean_ap=0.1 + 0.05 * r + (0.02 * r if name == "entropy" else 0) + seed / 100,
                )
    return folder


def _result(folder: Path, *, spent: int, mean_ap: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    result = {
        **dict.fromkeys(("images", "boxes", "seconds", "steps"), spent),
        **dict.fromkeys(("mean_ap", "ap50", "rare_third_ap"), mean_ap),
        "class_ap": [mean_ap, None, 0.5],
        "batch_near_duplicates": 0.0,
        "batch_class_entropy": 1.0,
    }
    (folder / "result.json").write_text(json.dumps(result))


def test_figures_by_hand(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    assert is_study(study)
    page = write_study_report(study).read_text(encoding="utf-8")
    assert "2 strategies compared" in page
    # Areas of means over the range: random 0.155, entropy 0.175.
    assert page.count("17.5 [17.0, 18.0]") >= 1
    assert '<td class="number better">+2.0</td>' in page
    assert '<td class="number worse">-2.0</td>' in page
    assert '<td class="number better">24.5</td>' in page  # AP of class 0 at the end, mean of seeds
    assert "class 1" in page
    assert page.count('class="curves"') == 6


def test_a_strategy_name_is_text(tmp_path: Path) -> None:
    study = write_study(tmp_path, strategies=("random", "<b>&"))
    page = write_study_report(study, tmp_path / "s.html").read_text(encoding="utf-8")
    assert "<b>&" not in page
    assert "&lt;b&gt;&amp;" in page


def test_arms_that_are_behind_are_told(tmp_path: Path) -> None:
    study = write_study(tmp_path)
    (study / "arms" / "random" / "seed-1" / "round-2" / "result.json").unlink()
    assert "1 of 4 arms have fewer rounds" in write_study_report(study).read_text("utf-8")


def test_nothing_measured(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no finished round"):
        write_study_report(tmp_path)
