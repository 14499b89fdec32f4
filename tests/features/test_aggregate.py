import math

import numpy as np
import pytest
import torch

from detal.errors import ConfigError
from detal.features import AGGREGATIONS, aggregate
from detal.structures import Detections
from tests.features.factories import detections_of

DETECTIONS = detections_of([[(0, 0.9), (0, 0.8), (0, 0.7)], [], [(1, 0.6)]])
VALUES = torch.tensor([1.0, 4.0, 2.0, 0.5])


@pytest.mark.parametrize(
    ("how", "expected"),
    [("sum", [7.0, 0.0, 0.5]), ("mean", [7 / 3, 0.0, 0.5]), ("max", [4.0, 0.0, 0.5])],
)
def test_table(how, expected: list[float]) -> None:
    assert aggregate(VALUES, DETECTIONS, how=how).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("k", "expected"), [(1, [4.0, 0.0, 0.5]), (2, [3.0, 0.0, 0.5]), (9, [7 / 3, 0.0, 0.5])]
)
def test_top_k_mean(k: int, expected: list[float]) -> None:
    result = aggregate(VALUES, DETECTIONS, how="top_k_mean", k=k)
    assert result.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("how", AGGREGATIONS)
def test_negative_values_are_values(how) -> None:
    result = aggregate(-VALUES, DETECTIONS, how=how, k=1)
    assert result[2] == -0.5
    assert result[0] == {"sum": -7.0, "mean": -7 / 3, "max": -1.0, "top_k_mean": -1.0}[how]


@pytest.mark.parametrize(
    ("empty", "expected"), [("first", math.inf), ("last", -math.inf), ("score", 0.25)]
)
@pytest.mark.parametrize("how", AGGREGATIONS)
def test_images_without_detections(how, empty, expected: float) -> None:
    result = aggregate(VALUES, DETECTIONS, how=how, empty=empty, empty_score=0.25)
    assert result[1] == expected
    assert result[[0, 2]].isfinite().all()
    only_empty = Detections.empty(2, num_classes=3)
    result = aggregate(torch.zeros(0), only_empty, how=how, empty=empty, empty_score=0.25)
    assert result.tolist() == [expected, expected]


@pytest.mark.parametrize("how", AGGREGATIONS)
def test_against_a_loop_on_many_images(how) -> None:
    rng = np.random.default_rng(3)
    counts = rng.integers(0, 6, size=500)
    detections = detections_of([[(0, 0.5)] * int(count) for count in counts])
    values = rng.normal(size=int(counts.sum())).round(1)  # rounded, so that there are ties
    parts = np.split(values, np.cumsum(counts)[:-1])
    loop = {
        "sum": lambda part: part.sum(),
        "mean": lambda part: part.mean() if len(part) else 0.0,
        "max": lambda part: part.max() if len(part) else 0.0,
        "top_k_mean": lambda part: np.sort(part)[::-1][:2].mean() if len(part) else 0.0,
    }[how]
    result = aggregate(torch.tensor(values), detections, how=how, k=2)
    assert result.tolist() == pytest.approx([loop(part) for part in parts])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"how": "avg"}, r"unknown aggregation 'avg'"),
        ({"how": "maxx"}, r"did you mean max or mean\?"),
        ({"empty": "middle"}, r"images without detections 'middle'.*first, last, score"),
        ({"k": 0}, r"k .* must be an integer >= 1, got 0"),
        ({"k": True}, r"k .* must be an integer >= 1, got True"),
        ({"empty_score": math.nan}, r"empty_score must be a finite number, got nan"),
        ({"empty_score": "high"}, r"empty_score must be a finite number, got 'high'"),
    ],
)
def test_options_are_checked(options, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        aggregate(VALUES, DETECTIONS, **options)
