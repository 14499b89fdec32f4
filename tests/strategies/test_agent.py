"""The agent as a strategy."""

import json
import logging
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from detal.agents import load_policy, sensible_config
from detal.errors import ConfigError, DataError
from detal.reward import MeasuredTables
from detal.strategies import make_strategy
from detal.strategies.agent_trust import trust_policy
from detal.strategies.trust import trusted_share
from detal.structures import Budget
from tests.strategies.factories import pool_of, random_pool

QUICK = {"iterations": 3, "imitation": 6, "rollouts": 4}


def ask(pool, budget, seed=0, **options):
    strategy = make_strategy("mgral", **(QUICK | options))
    return strategy.query(pool, budget=budget, rng=np.random.default_rng(seed))


def test_reasons_and_log_tell_how_far_from_greedy_it_is(caplog) -> None:
    with caplog.at_level(logging.INFO, logger="detal"):
        selection = ask(random_pool(40), Budget(5))
    assert all("by a prior curve" in reason for reason in selection.reasons)
    assert all("% of greedy's" in reason for reason in selection.reasons)
    assert selection.reasons[2].startswith("the agent's pick 3, expected to add")
    [record] = [r for r in caplog.records if r.getMessage().startswith("mgral: 5 images worth")]
    assert "% of it; 40 candidates, " in record.getMessage()
    assert ("has the better batch" in record.getMessage()) == (record.levelno == logging.WARNING)


def test_a_batch_too_large_for_the_agent_is_told(caplog, monkeypatch) -> None:
    ask(random_pool(20), Budget(3), iterations=1)
    assert "takes hours" not in caplog.text
    monkeypatch.setattr("detal.strategies.agent._MANY_PICKS", 2)
    ask(random_pool(20), Budget(3), iterations=1)
    assert "buys about 3 images, for which the agent takes hours" in caplog.text


def test_what_is_saved_is_gone_on_with(tmp_path) -> None:
    first = ask(random_pool(40), Budget(5), save_to=str(tmp_path / "round1"))
    about = json.loads((tmp_path / "round1" / "agent.json").read_text())
    assert about["images"] == len(first) == 5
    assert about["ratio_to_greedy"] == pytest.approx(about["gain"] / about["greedy_gain"])
    assert {file.name for file in (tmp_path / "round1").iterdir()} >= {
        "learning_curve.csv",
        "learning_curve.json",
        "learning_curve.png",
        "policy.json",
        "policy.pt",
    }
    # Another dataset: other features and classes.
    options = {"start_from": str(tmp_path / "round1"), "save_to": str(tmp_path / "round2")}
    other = random_pool(30, dimensions=5, num_classes=4)
    selection = ask(other, Budget(4), iterations=0, imitation=None, **options)
    assert len(selection) == 4
    steps = json.loads((tmp_path / "round2" / "learning_curve.json").read_text())["steps"]
    assert [step["step"] for step in steps] == [0]
    assert load_policy(tmp_path / "round2").hidden == load_policy(tmp_path / "round1").hidden


def test_trust_alone_picks_the_trusted() -> None:
    pool = random_pool(24)
    trust = np.zeros(24)
    trust[[3, 8, 20]] = 1
    pool = replace(pool, metadata=pl.DataFrame({"trusted": trust}))
    options = {"weights": {"table": 0, "trust": 1}, "trust": "trusted"}
    selection = ask(pool, Budget(3), iterations=40, rollouts=32, imitation=0, **options)
    assert set(selection.image_ids) == {"003", "008", "020"}


def test_change_table_as_the_reward() -> None:
    selection = ask(random_pool(30), Budget(4), reward="change")
    assert len(selection) == 4
    assert not any("prior curve" in reason for reason in selection.reasons)


def test_variant_table_as_the_reward() -> None:
    pool = random_pool(30)
    selection = ask(pool, Budget(4), reward="variant")
    assert len(selection) == 4
    assert not any("prior curve" in reason for reason in selection.reasons)
    needed = make_strategy("mgral", reward="variant").needs.tables
    assert needed == ("groups",)
    with pytest.raises(ConfigError, match="needs gains of groups"):
        ask(replace(pool, tables=MeasuredTables()), Budget(4), reward="variant")


def test_a_policy_taught_by_the_trustset_goes_on_to_the_pool(caplog) -> None:
    with caplog.at_level(logging.INFO, logger="detal"):
        selection = ask(random_pool(30, labeled=24), Budget(4), teacher="trustset", iterations=0)
    assert len(selection) == 4
    [said] = [r.getMessage() for r in caplog.records if "taught to pick" in r.getMessage()]
    assert "labelled images; its picks hold" in said
    unlabeled = replace(pool_of([[(0, 0.5)]] * 4), reference=None)
    with pytest.raises(ConfigError, match="trust needs labelled images"):
        ask(unlabeled, Budget(2), teacher="trustset")


def test_trust_is_computed_where_no_column_is_named() -> None:
    pool = random_pool(30, labeled=24)
    shares = trusted_share(pool, rng=np.random.default_rng(0))
    assert ((shares >= 0) & (shares <= 1)).all()
    options = {"weights": {"table": 0, "trust": 1}, "iterations": 30, "rollouts": 32}
    selection = ask(pool, Budget(4), imitation=0, **options)
    place = [pool.image_ids.tolist().index(name) for name in selection.image_ids]
    assert shares[place].mean() > np.median(shares)


def test_guards_free_places_for_others() -> None:
    pool = pool_of([[(0, 0.5)]] * 6, features=np.repeat(np.eye(3), 2, axis=0))
    strategy = make_strategy("mgral", **QUICK)
    selection = strategy.query(
        pool, budget=Budget(3), rng=np.random.default_rng(0), min_distance=0.5
    )
    assert len(selection) == 3
    assert len({int(image) // 2 for image in selection.image_ids}) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reward": "loss"}, "unknown reward 'loss'"),
        ({"reward": "change", "table": "x"}, "goes with reward: curve or variant"),
        ({"baseline": "critic"}, "unknown baseline 'critic'"),
        ({"weights": {"gain": 1}}, "unknown term of the reward 'gain'"),
        ({"weights": {"table": -1}}, r"weights\.table must be a number >= 0"),
        ({"teacher": "nobody"}, "unknown teacher 'nobody'"),
        ({"shortlist": 0.5}, "shortlist must be a number >= 1"),
        ({"rollouts": 1}, "rollouts must be an integer >= 2"),
        ({"start_from": "nowhere"}, r"folder with policy\.json, found none: nowhere"),
    ],
)
def test_options_are_checked_before_anything_is_scored(options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        make_strategy("mgral", **options)


@pytest.mark.parametrize(
    ("column", "error", "message"),
    [
        (["a"] * 4, ConfigError, "must be a column of numbers, t is String"),
        ([0.5, 2.0, 0.1, 0.1], DataError, r"number in \[0, 1\] \(image '001'; 1 of 4"),
        ([0.5, None, 0.1, 0.1], DataError, r"number in \[0, 1\] \(image '001'; 1 of 4"),
        (None, ConfigError, "unknown metadata column 't'"),
    ],
)
def test_trust_is_checked(column, error, message) -> None:
    pool = pool_of([[(0, 0.5)]] * 4)
    if column is not None:
        pool = replace(pool, metadata=pl.DataFrame({"t": column}))
    with pytest.raises(error, match=message):
        ask(pool, Budget(2), trust="t")


class TestTrustPolicy:
    """Members of the TrustSet here are the images with an object of class 2."""

    def test_learned_on_the_labelled_images(self, rng) -> None:
        pool = random_pool(20, labeled=24)
        membership = (np.arange(24) % 3 == 2).astype(float)
        config = replace(sensible_config(24), iterations=15, rollouts=16, imitation=25)
        trained = trust_policy(
            pool.labeled, membership, class_names=pool.class_names, config=config, rng=rng
        )
        assert trained.curve[-1].held_out is not None
        assert trained.curve[-1].held_out > 80
        assert 2 * membership[trained.best].mean() > 1.8

    def test_membership_must_fit(self, rng) -> None:
        pool = random_pool(20, labeled=4)
        for wrong in (np.ones(3), np.zeros(4), np.full(4, 2.0)):
            with pytest.raises(DataError, match="membership must be 4 numbers"):
                trust_policy(
                    pool.labeled,
                    wrong,
                    class_names=pool.class_names,
                    config=sensible_config(4),
                    rng=rng,
                )
        with pytest.raises(DataError, match="needs labelled images"):
            trust_policy(
                pool_of([[]]).labeled,
                np.ones(1),
                class_names=pool.class_names,
                config=sensible_config(4),
                rng=rng,
            )
