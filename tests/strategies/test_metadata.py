import logging
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from detal.errors import ConfigError, DataError
from detal.strategies import Candidates, make_strategy
from detal.structures import Budget
from tests.strategies.factories import pool_of

TABLE = pl.DataFrame(
    {
        "weather": ["rain", "sun", None, "rain", "rain"],
        "sharpness": [60.0, 90, 70, 40, None],
        "luminance": [100.0, 10, 20, float("nan"), 5],
        "Tag der Ärzte": [1, 2, 3, 4, 5],
        "time": ["2024-01-01", "2024-06-01", None, "2025-01-01", "2023-01-01"],
    }
)


def pool(**changes) -> Candidates:
    made = pool_of([[(0, 0.5)] * n for n in (1, 2, 3, 4, 5)], groups=["a", "a", None, "b", "b"])
    return replace(made, metadata=TABLE, **changes)


def picked(name: str, candidates: Candidates | None = None, k: int = 9, **options):
    strategy = make_strategy(name, **options)
    candidates = pool() if candidates is None else candidates
    return strategy.query(candidates, budget=Budget(k), rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        pytest.param("weather == 'rain' and sharpness > 50", "0", id="issue"),
        pytest.param("weather != 'rain'", "1", id="null-never-matches"),
        pytest.param("not weather = 'rain'", "1", id="nor-negated"),
        pytest.param("weather is null", "2", id="unless-asked-for"),
        pytest.param("luminance > 50", "0", id="nan-is-missing"),
        pytest.param("weather in ('rain', 'sun') and luminance < 15", "14", id="in"),
        pytest.param("weather like 's%' or sharpness between 65 and 75", "12", id="like-between"),
        pytest.param('"Tag der Ärzte" >= 4', "34", id="quoted-name"),
        pytest.param("time >= '2024-06'", "13", id="iso-time-as-text"),
        pytest.param("\"group\" = 'b'", "34", id="group"),
        pytest.param("expected_boxes > 1.9", "34", id="expected-boxes"),
        pytest.param("image_id < '002'", "01", id="id"),
        pytest.param("sharpness > avg(sharpness)", "12", id="above-average"),
        pytest.param("true", "01234", id="all"),
        pytest.param("1 > 2", "", id="none"),
    ],
)
def test_filter(where: str, expected: str) -> None:
    selection = picked("filter", where=where)
    assert sorted(selection.image_ids) == [f"00{i}" for i in expected]
    assert all(reason.startswith(f"matches {where};") for reason in selection.reasons)


def test_filter_says_when_nothing_matches(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert len(picked("filter", where="weather = 'snow'")) == 0
    assert "none of the 5 images matches weather = 'snow'" in caplog.text


def test_a_column_without_values_is_named(caplog: pytest.LogCaptureFixture) -> None:
    empty = replace(pool(), metadata=TABLE.with_columns(sharpness=pl.lit(None, pl.Float32)))
    with caplog.at_level(logging.WARNING):
        assert len(picked("filter", empty, where="sharpness > 5")) == 0
    assert "column sharpness is empty for all 5 images" in caplog.text


def test_weighted_by_hand() -> None:
    """0.5 x sharpness - luminance: -70, 35, 15, missing, missing."""
    selection = picked("weighted", score="0.5 * sharpness - luminance")
    assert selection.image_ids[:3] == ("001", "002", "000")
    assert selection.scores[:3] == pytest.approx([35, 15, -70])
    assert np.isnan(selection.scores[3:]).all()
    assert sorted(selection.image_ids[3:]) == ["003", "004"]
    assert selection.reasons[0].startswith("0.5 * sharpness - luminance 35, rank 1 of 5;")
    assert picked("weighted", k=1, score="sharpness > 80").image_ids == ("001",)


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("filter", {}, r"option where must be an expression, for example weather == 'rain'"),
        ("filter", {"where": 3}, "option where must be an expression"),
        ("filter", {"where": "weather =="}, r"where must be an SQL expression.*got 'weather =='"),
        ("filter", {"where": ""}, "where must be an SQL expression"),
        # Old versions of polars read no farther than the semicolon.
        ("filter", {"where": "a = 1; drop table b"}, "must be an SQL expression|column 'a'"),
        ("filter", {"where": "image_id in (select x from t)"}, "where must be an SQL expression"),
        ("filter", {"where": "wether = 'rain'"}, r"unknown column 'wether': did you mean weather"),
        ("filter", {"where": "sharpness"}, "where must be true or false.*Float64"),
        ("filter", {"where": "weather > 3"}, r"fails \(weather is String\): cannot compare"),
        ("weighted", {}, "option score must be an expression"),
        ("weighted", {"score": "sharpnes * 2"}, r"unknown column 'sharpnes': did you mean sharpn"),
        ("weighted", {"score": "weather"}, "score must be a number, 'weather' is of type String"),
    ],
)
def test_wrong_expressions(name: str, options, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        picked(name, **options)


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(DataError, match=r"score must be finite.*image '000' \(1 of 5 images\)"):
        picked("weighted", score="1 / (sharpness - 60)")


def test_without_metadata_the_columns_of_the_pool_are_there() -> None:
    bare = replace(pool(), metadata=None)
    assert picked("filter", bare, where="expected_boxes > 2.4").image_ids == ("004",)
    with pytest.raises(ConfigError, match="valid are expected_boxes, group, image_id"):
        picked("filter", bare, where="sharpness > 1")
