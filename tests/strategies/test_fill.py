import numpy as np
import pytest

from detal.errors import ConfigError
from detal.strategies import Choice, Order, fill
from detal.structures import Budget
from tests.strategies.factories import in_order, pool_of

# Expected boxes 3.0, 0.5, 1.5, 2.0 -> costs in boxes 3, 1, 1.5, 2.
IMAGES = [[(0, 0.5)] * 6, [(0, 0.5)], [(0, 0.5)] * 3, [(0, 0.5)] * 4]


@pytest.mark.parametrize(
    ("budget", "order", "taken", "cost_skips"),
    [
        pytest.param(Budget(2), [0, 1, 2, 3], [0, 1], 0, id="images"),
        pytest.param(Budget(2.9), [0, 1, 2, 3], [0, 1], 0, id="part-of-an-image"),
        pytest.param(Budget(0.5), [0, 1, 2, 3], [], 0, id="less-than-one-image"),
        pytest.param(Budget(4.5, "boxes"), [0, 3, 2, 1], [0, 2], 1, id="skips-what-does-not-fit"),
        pytest.param(Budget(4, "boxes"), [0, 3, 2, 1], [0, 1], 2, id="skips-twice"),
        pytest.param(Budget(3.5, "boxes"), [0, 3, 2, 1], [0], 0, id="rest-under-cheapest-stops"),
        pytest.param(Budget(7.5, "boxes"), [0, 3, 2, 1], [0, 3, 2, 1], 0, id="exactly-all"),
        # Seconds 5 + 7 * boxes: 26, 8.5, 15.5, 19.
        pytest.param(Budget(30, "seconds"), [0, 1, 2, 3], [0], 0, id="seconds-stop"),
        pytest.param(Budget(35, "seconds"), [0, 3, 2, 1], [0, 1], 2, id="seconds-skip"),
    ],
)
def test_budget(budget: Budget, order: list[int], taken: list[int], cost_skips: int) -> None:
    picks = fill(in_order(order), pool_of(IMAGES), budget=budget)
    assert picks.index.tolist() == taken
    assert picks.passed_over == {"near_duplicate": 0, "group": 0, "cost": cost_skips}


def test_rounding_does_not_lose_the_last_image() -> None:
    pool = pool_of([[(0, 0.1)]] * 3)
    budget = Budget(0.3, "seconds", seconds_per_image=0.1, seconds_per_box=0)
    assert len(fill(in_order([0, 1, 2]), pool, budget=budget).choices) == 3


def test_stops_asking_when_nothing_can_fit() -> None:
    asked = []

    def order() -> Order:
        for candidate in range(4):
            asked.append(candidate)
            yield Choice(candidate, 0.0, "")

    fill(order(), pool_of(IMAGES), budget=Budget(1))
    assert asked == [0, 1]


def test_selector_is_told_what_was_taken() -> None:
    told = []

    def order() -> Order:
        for candidate in (0, 3, 2):
            told.append((candidate, (yield Choice(candidate, 0.0, ""))))

    fill(order(), pool_of(IMAGES), budget=Budget(4.6, "boxes"))
    assert told == [(0, True), (3, False), (2, True)]


def test_at_most_so_many_per_group() -> None:
    pool = pool_of([[]] * 6, groups=["a", "a", None, None, "b", "a"])
    picks = fill(in_order(range(6)), pool, budget=Budget(6), per_group=1)
    assert picks.index.tolist() == [0, 2, 3, 4]
    assert picks.passed_over["group"] == 2
    picks = fill(in_order(range(6)), pool, budget=Budget(6), per_group=2)
    assert picks.index.tolist() == [0, 1, 2, 3, 4]
    no_groups = pool_of([[]] * 3)
    assert len(fill(in_order(range(3)), no_groups, budget=Budget(3), per_group=1).choices) == 3


def test_near_duplicates_of_labelled_and_taken_images() -> None:
    features = np.array([[1, 0], [2, 0.01], [0, 1], [0, -1], [-1, 0], [0, 0], [0, 0]])
    pool = pool_of([[]] * 7, features=features, labeled=np.array([[0, 5.0]]))
    picks = fill(in_order(range(7)), pool, budget=Budget(7), min_distance=0.01)
    # 1 repeats 0, 2 repeats the labelled one; features without direction are far from everything.
    assert picks.index.tolist() == [0, 3, 4, 5, 6]
    assert picks.passed_over["near_duplicate"] == 2
    assert len(fill(in_order(range(7)), pool, budget=Budget(7)).choices) == 7


def test_distance_threshold_is_a_cosine_distance() -> None:
    angle = np.arccos(0.9)
    features = np.array([[1, 0], [np.cos(angle), np.sin(angle)]])
    pool = pool_of([[]] * 2, features=features)
    assert len(fill(in_order([0, 1]), pool, budget=Budget(2), min_distance=0.099).choices) == 2
    assert len(fill(in_order([0, 1]), pool, budget=Budget(2), min_distance=0.101).choices) == 1


def test_many_picks_are_compared_with_all_before() -> None:
    rng = np.random.default_rng(0)
    unique = rng.normal(size=(150, 16))
    features = np.concatenate([unique, unique])
    pool = pool_of([[]] * 300, features=features)
    picks = fill(in_order(range(300)), pool, budget=Budget(300), min_distance=1e-4)
    assert picks.index.tolist() == list(range(150))
    assert picks.passed_over["near_duplicate"] == 150


@pytest.mark.parametrize(
    ("guards", "match"),
    [
        ({"min_distance": -0.1}, r"distance must be in \[0, 2\], got -0.1"),
        ({"min_distance": 2.5}, r"distance must be in \[0, 2\], got 2.5"),
        ({"per_group": 0}, "images per group must be at least 1, got 0"),
        ({"min_distance": 0.1}, "near-duplicate guard needs image features"),
    ],
)
def test_guards_are_checked(guards, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        fill(in_order([0]), pool_of([[]]), budget=Budget(1), **guards)
