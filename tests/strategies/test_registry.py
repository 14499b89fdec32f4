import pytest

from detal.errors import ConfigError
from detal.strategies import STRATEGIES, make_strategy


def test_the_controls_are_there() -> None:
    assert {"random", "entropy", "box_count", "core_set"} <= set(STRATEGIES)


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("entropie", {}, r"unknown strategy 'entropie': did you mean entropy\?"),
        (
            "entropy",
            {"agregation": "sum"},
            r"option of entropy 'agregation': did you mean aggregat",
        ),
        ("entropy", {"aggregation": "men"}, r"unknown aggregation 'men': did you mean mean\?"),
        ("entropy", {"over": "box"}, r"unknown entropy scope 'box'.*auto, classes, top"),
        ("entropy", {"k": 2.5}, r"must be an integer >= 1, got 2.5"),
        ("margin", {"rivals": "all"}, r"unknown kind of rivals 'all'"),
        ("least_confidence", {"empty": "never"}, r"without detections 'never'"),
        ("core_set", {"metric": "cosin"}, r"unknown metric 'cosin': did you mean cosine\?"),
        ("kmeans", {"k": 3}, r"unknown option of kmeans 'k'.*valid are metric"),
        ("random", {"seed": 3}, r"strategy random has no options, got 'seed'"),
        ("box_count", {"aggregation": "sum"}, r"strategy box_count has no options"),
    ],
)
def test_wrong_names_and_options(name: str, options, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        make_strategy(name, **options)
