from __future__ import annotations

import math

import numpy as np
import pytest

from detal.errors import ConfigError
from detal.strategies import Candidates, make_strategy
from detal.structures import Budget
from tests.features.factories import detections_of
from tests.strategies.factories import pool_of

# Boxes are 10 px squares; the factories give a box of score s a box spread of (1 - s) * (1, 2, 1.5,
# 0.5) and a cluster spread of (1 - s) * (0.5, 0, 1, 1): shares (1 - s) / 8 and (1 - s) / 16.
POOL = pool_of([[(0, 0.5), (1, 0.9)], [(1, 0.2)], []])
ENTROPY = -0.2 * math.log(0.2) - 0.8 * math.log(0.8)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({}, [0.5 * 0.5 + 0.1 * 0.9, 0.8 * 0.2, 0], id="times-score"),
        pytest.param({"times": "nothing"}, [0.8, 0.6, 0], id="alone"),
        pytest.param(
            {"times": "entropy", "aggregation": "max"},
            [0.5 * math.log(2), 0.8 * ENTROPY, 0],
            id="times-entropy",
        ),
    ],
)
@pytest.mark.parametrize(("name", "share"), [("box_spread", 1 / 8), ("cluster_spread", 1 / 16)])
def test_scores_by_hand(name: str, share: float, options, expected: list[float]) -> None:
    selection = make_strategy(name, **options).query(
        POOL, budget=Budget(3), rng=np.random.default_rng(0)
    )
    assert selection.scores.tolist() == pytest.approx(
        sorted((share * value for value in expected), reverse=True), rel=1e-4
    )


@pytest.mark.parametrize("name", ["box_spread", "cluster_spread"])
def test_detectors_without_it(name: str) -> None:
    seen = detections_of([[(0, 0.5)]])
    bare = Candidates.from_detections(["a"], seen, class_names=("x", "y", "z"))
    with pytest.raises(ConfigError, match=f"`{name}` needs .* use "):
        make_strategy(name).query(bare, budget=Budget(1), rng=np.random.default_rng(0))


def test_unknown_factor() -> None:
    with pytest.raises(ConfigError, match="unknown factor of the spread 'scores'"):
        make_strategy("box_spread", times="scores")


def test_the_most_conflicting_box_counts() -> None:
    """The factories give a box of score s a tightness of 1 - s / 2: its conflict is 1 - s / 2."""
    chosen = make_strategy("localisation_tightness").query(
        POOL, budget=Budget(3), rng=np.random.default_rng(0)
    )
    assert chosen.image_ids == ("001", "000", "002")
    assert chosen.scores.tolist() == pytest.approx([0.9, 0.75, 0.0])
