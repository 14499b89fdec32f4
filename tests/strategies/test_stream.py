import json
from collections import Counter

import numpy as np
import pytest

from detal.errors import ConfigError, DataError
from detal.strategies import Candidates, make_strategy
from detal.strategies.stream import RateGate, WeightedReservoir, stream_scores
from tests.features.factories import detections_of


def gate(**options) -> RateGate:
    return RateGate(**{"rate": 0.25, "window": 4, "warm_up": 4, **options})


def test_gate_by_hand() -> None:
    """The top quarter of the last four: an image must exceed the third lowest of them."""
    stream = [1.0, 2, 3, 4, 3.5, 3.5, 9, 4, 5, 0, 10]
    found = gate()
    taken = [found.offer(score) for score in stream]
    # Windows from the fifth on: 1234, 2 3 4 3.5, 3 4 3.5 3.5, 4 3.5 3.5 9, 3.5 3.5 9 4, …
    thresholds = [3, 3.5, 3.5, 4, 4, 5, 5]
    expected = [score > limit for score, limit in zip(stream[4:], thresholds, strict=True)]
    assert taken == [False] * 4 + expected
    assert (found.seen, found.taken) == (11, sum(expected))


def test_gate_takes_its_rate_of_a_steady_stream_and_follows_a_drift() -> None:
    rng = np.random.default_rng(0)
    found = RateGate(rate=0.05, window=500, warm_up=100)
    steady = [found.offer(score) for score in rng.normal(size=5000)]
    assert np.mean(steady[100:]) == pytest.approx(0.05, abs=0.01)
    shifted = [found.offer(score) for score in rng.normal(loc=10, size=5000)]
    assert np.mean(shifted[500:]) == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize(("rate", "place"), [(0.1, 8), (0.3, 6), (0.7, 2), (0.9, 0)])
def test_threshold_is_not_a_place_off_by_rounding(rate: float, place: int) -> None:
    found = RateGate(rate=rate, window=10, warm_up=10)
    for score in range(10):
        found.offer(score)
    assert found.threshold == place


def test_gate_keeps_to_its_budget() -> None:
    found = gate(budget=5)
    for score in [0.0] * 4:
        found.offer(score)
    assert [found.offer(s, cost=c) for s, c in ((1, 3), (2, 3), (3, 2), (9, 1))] == [
        *(True, False, True, False)
    ]
    assert found.spent == 5


def test_equal_scores_are_not_taken() -> None:
    found = gate()
    assert not any(found.offer(0.5) for _ in range(50))


def test_a_reloaded_gate_goes_on_the_same() -> None:
    scores = np.random.default_rng(0).normal(size=300)
    whole, first = gate(window=40, budget=30), gate(window=40, budget=30)
    expected = [whole.offer(score) for score in scores]
    taken = [first.offer(score) for score in scores[:120]]
    second = RateGate.from_state(json.loads(json.dumps(first.state())))
    assert taken + [second.offer(score) for score in scores[120:]] == expected
    assert second.state() == whole.state()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"rate": 0}, r"rate must be in \(0, 1\)"),
        ({"rate": 1.5}, r"rate must be a number in \[0, 1\], got 1.5"),
        ({"rate": 0.1}, "window at least 1 / rate"),
        ({"warm_up": 5}, "warm_up at most window"),
        ({"budget": -1}, "budget must be a number >= 0"),
    ],
)
def test_wrong_gates(options, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        gate(**options)


def test_nan_is_refused() -> None:
    with pytest.raises(DataError, match="got nan at image 1 of the stream"):
        gate().offer(float("nan"))
    reservoir = WeightedReservoir(2, rng=np.random.default_rng(0))
    with pytest.raises(DataError, match=r"a weight must be finite and >= 0, got -1 \(image 'a'\)"):
        reservoir.offer("a", -1)


def test_reservoir_has_the_probabilities_of_weighted_draws() -> None:
    """Weights 1, 2, 5, two draws without replacement; a is drawn first with 1/8, and so on."""
    weights = {"a": 1.0, "b": 2.0, "c": 5.0}
    found: Counter[tuple[str, ...]] = Counter()
    rng = np.random.default_rng(0)
    runs = 8000
    for _ in range(runs):
        reservoir = WeightedReservoir(2, rng=rng)
        for image_id, weight in weights.items():
            reservoir.offer(image_id, weight)
        found[reservoir.image_ids] += 1
    for first, one in weights.items():
        for second, two in weights.items():
            if first != second:
                probability = one / 8 * two / (8 - one)
                deviation = (probability * (1 - probability) / runs) ** 0.5
                assert found[first, second] / runs == pytest.approx(probability, abs=4 * deviation)


def test_reservoir_says_what_is_out() -> None:
    reservoir = WeightedReservoir(1, rng=np.random.default_rng(0))
    assert reservoir.offer("nothing", 0) == "nothing"
    assert reservoir.offer("first", 1e-300) is None
    assert reservoir.offer("heavy", 1e300) == "first"
    assert reservoir.offer("light", 1e-300) == "light"
    assert reservoir.image_ids == ("heavy",)


def test_a_reloaded_reservoir_goes_on_the_same() -> None:
    weights = np.random.default_rng(1).uniform(size=200)
    whole = WeightedReservoir(10, rng=np.random.default_rng(3))
    first = WeightedReservoir(10, rng=np.random.default_rng(3))
    for i, weight in enumerate(weights):
        whole.offer(f"{i}", weight)
    for i, weight in enumerate(weights[:80]):
        first.offer(f"{i}", weight)
    second = WeightedReservoir.from_state(json.loads(json.dumps(first.state())))
    for i, weight in enumerate(weights[80:], start=80):
        second.offer(f"{i}", weight)
    assert second.image_ids == whole.image_ids
    broken = {**first.state(), "rng": {"bit_generator": "seed"}}
    with pytest.raises(ConfigError, match="unknown bit generator 'seed'"):
        WeightedReservoir.from_state(broken)


def chunk(names: str, *counts: int) -> Candidates:
    images = [[(0, 0.5)] * count for count in counts]
    return Candidates.from_detections(
        list(names), detections_of(images), class_names=("x", "y", "z")
    )


def test_scores_of_a_stream() -> None:
    """Half a nat-pair a box: the summed entropy counts the boxes; nothing else is read."""
    rng = np.random.default_rng(0)
    chunks = [chunk("bac", 2, 1, 0), chunk("", *()), chunk("z", 3)]
    strategy = make_strategy("entropy", over="top")
    found = list(stream_scores(strategy, chunks, rng=rng))
    assert [image_id for image_id, _ in found] == ["a", "b", "c", "z"]
    assert [score for _, score in found] == pytest.approx(np.log(2) * np.array([1, 2, 0, 3]))
    with pytest.raises(DataError, match=r"got nan \(image 'a'\)"):
        list(stream_scores(make_strategy("random"), [chunk("a", 1)], rng=rng))
