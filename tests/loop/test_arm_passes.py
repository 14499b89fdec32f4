"""Arms whose strategies need further forward passes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detal.config import StrategyConfig
from detal.errors import ConfigError
from detal.loop.arm import arm_folder, run_arm, run_initial
from detal.loop.study import Study, open_study
from detal.runs.scoring import Scorer
from tests.loop.test_arm import config


@pytest.fixture
def study(tmp_path: Path) -> Study:
    opened = open_study(config(tmp_path / "study", rounds=3))
    few = np.arange(20)
    return replace(
        opened,
        pool=opened.pool.take(few),
        test=opened.test.take(np.arange(4)),
        thumbs=opened.thumbs[few],
    )


def timings(study: Study, strategy: StrategyConfig, round_idx: int) -> dict[str, Any]:
    folder = arm_folder(Path(study.config.output), strategy, 0) / f"round-{round_idx}"
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = result["timings"]
    return found


def test_views_and_earlier_checkpoints(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []
    score = Scorer.score

    def noted(self: Scorer, dataset: Any, **options: Any) -> Any:
        if options.get("needs") is not None:
            asked.append(options["needs"].members)
        return score(self, dataset, **options)

    monkeypatch.setattr(Scorer, "score", noted)
    run_initial(study, 0)
    committee = StrategyConfig.model_validate({"name": "committee"})
    run_arm(study, committee, 0)
    assert [timings(study, committee, r)["passes"] for r in (1, 2, 3)] == [1, 2, 3]
    output = Path(study.config.output)
    initial = str(output / "initial" / "seed-0" / "weights.pt")
    first = str(arm_folder(output, committee, 0) / "round-1" / "weights.pt")
    assert asked == [(), (initial,), (initial, first)]

    cald = StrategyConfig.model_validate({"name": "cald", "views": ["flip", "rotate"]})
    short = replace(study, config=study.config.model_copy(update={"rounds": 1}))
    run_arm(short, cald, 0)
    assert timings(study, cald, 1)["passes"] == 3


def test_a_strategy_that_needs_dropout_says_so_before_it_scores(study: Study) -> None:
    run_initial(study, 0)
    with pytest.raises(ConfigError, match="dropout_samples"):
        run_arm(study, StrategyConfig.model_validate({"name": "bald"}), 0)
