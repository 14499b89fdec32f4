"""Runs that measure their tables themselves, with trainings of two steps."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detal.config import SelectConfig
from detal.errors import ConfigError
from detal.reward import FittedCurves
from detal.runs import curve_variants
from detal.runs.group_variants import images_of
from detal.runs.select import run_select
from detal.runs.training import train_detector
from detal.structures import Budget
from tests.strategies.factories import pool_of

SANDBOX = Path(__file__).resolve().parents[2] / "data" / "sandbox"


def config(output: Path, **changes: Any) -> SelectConfig:
    values: dict[str, Any] = {
        "pool": {"path": str(SANDBOX / "reference.json")},
        "labeled": {"path": str(SANDBOX / "seed.json")},
        "reference": {"path": str(SANDBOX / "test.json")},
        "detector": {"weights": str(SANDBOX / "yolo_seed.pt"), "image_size": 64},
        "training": {
            "init": str(SANDBOX / "yolo_seed.pt"),
            "steps": 2,
            "image_size": 64,
            "batch_size": 2,
        },
        "tables": {"shares": [0.5]},
        "strategy": {"name": "curve_greedy", "curves": "fitted"},
        "budget": {"amount": 5},
        "output": str(output),
        "device": "cpu",
        **changes,
    }
    return SelectConfig.model_validate(values)


@pytest.mark.slow
def test_curves_are_measured_once_beside_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []

    def train(training: Any, dataset: Any, **options: Any) -> Any:
        trained.append(len(dataset))
        return train_detector(training, dataset, **options)

    monkeypatch.setattr(curve_variants, "train_detector", train)
    first = run_select(config(tmp_path / "a"))
    assert len(trained) == 1
    assert "by a prior curve" not in first.selection.reasons[0]
    (folder,) = (tmp_path / "detal_store" / "tables").iterdir()
    assert folder.name.startswith("curves-")
    assert (folder / "curves.png").is_file()
    curves = FittedCurves.load(folder)
    assert curves.counts.shape == (2, 10)

    again = run_select(config(tmp_path / "b"))
    assert len(trained) == 1  # the same round: nothing is trained again
    assert again.selection.image_ids == first.selection.image_ids
    named = run_select(
        config(tmp_path / "c", strategy={"name": "curve_greedy", "table": str(folder)})
    )
    assert named.selection.image_ids == first.selection.image_ids


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            {"training": None, "reference": None}, r"set training, reference \(", id="sections"
        ),
        pytest.param(
            {"strategy": {"name": "variant_greedy"}, "labeled": None}, "set labeled", id="labeled"
        ),
        pytest.param(
            {"detector": {"type": "predictions", "weights": "x.json"}},
            "training.type is yolo, detector.type is predictions",
            id="kind",
        ),
    ],
)
def test_what_is_missing_is_said_before_anything_is_read(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run_select(config(tmp_path / "a", **changes))
    assert list(tmp_path.iterdir()) == []


def test_images_that_a_budget_buys() -> None:
    pool = pool_of([[(0, 0.5)] * 4, [(0, 0.5)] * 12])  # 2 and 6 expected boxes
    assert images_of(Budget(7), pool) == 7
    assert images_of(Budget(40, "boxes"), pool) == 10
    assert images_of(Budget(1, "boxes"), pool) == 1
    assert images_of(Budget(5), pool_of([])) == 1
    assert np.isfinite(pool.expected_boxes).all()
