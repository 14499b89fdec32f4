from dataclasses import replace

import pytest
import torch

from detal.errors import ConfigError
from detal.features import localisation
from detal.structures import Detections
from tests.features.factories import detections_of

MEASURES = [localisation.box_spread, localisation.cluster_spread]


def spread_of(boxes: list[list[float]], spread: list[list[float]], name: str) -> Detections:
    seen = detections_of([[(0, 0.5)] * len(boxes)])
    seen = replace(seen, boxes=torch.tensor(boxes))
    if name == "box_spread":
        return replace(seen, box_spread=torch.tensor(spread))
    return replace(seen, cluster_spread=torch.tensor(spread))


@pytest.mark.parametrize("measure", MEASURES)
def test_by_hand(measure) -> None:
    # 20 wide, 10 high: (2/20 + 1/10 + 4/20 + 0/10) / 4; a lone box; a box without extent.
    boxes = [[0.0, 0, 20, 10], [0.0, 0, 5, 5], [3.0, 3, 3, 3]]
    spread = [[2.0, 1, 4, 0], [0.0, 0, 0, 0], [1.0, 2, 3, 4]]
    seen = spread_of(boxes, spread, measure.__name__)
    assert measure(seen).tolist() == pytest.approx([0.1, 0, 2.5])


@pytest.mark.parametrize("measure", MEASURES)
def test_the_same_at_every_scale(measure) -> None:
    small = spread_of([[0.0, 0, 20, 10]], [[2.0, 1, 4, 3]], measure.__name__)
    large = spread_of([[0.0, 0, 200, 100]], [[20.0, 10, 40, 30]], measure.__name__)
    assert measure(small).tolist() == pytest.approx(measure(large).tolist())


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (localisation.box_spread, "`box_spread` needs .* use `cluster_spread`, `entropy`"),
        (localisation.cluster_spread, "`cluster_spread` needs .* use `entropy`, `margin`"),
        (localisation.tightness_conflict, "`localisation_tightness` needs .* use `cluster_spread`"),
    ],
)
def test_absent(measure, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        measure(detections_of([[(0, 0.5)]]))
    assert measure(detections_of([[], []])).shape == (0,)


def test_tightness_and_score_in_conflict() -> None:
    seen = detections_of([[(0, 0.9), (0, 0.8), (0, 0.5), (0, 0.1)]])
    seen = replace(seen, tightness=torch.tensor([0.2, 0.9, 0.5, 0.1]))
    # Sure and loose, sure and tight, undecided, unsure and loose.
    expected = [0.9, 0.3, 1.0, 0.2]
    assert localisation.tightness_conflict(seen).tolist() == pytest.approx(expected)
