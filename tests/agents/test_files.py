"""Shortlists, and what is written and read again."""

import json
import logging

import numpy as np
import pytest
import torch

from detal.agents import Point, Policy, load_policy, save_learning_curve, save_policy, shortlist
from detal.agents.inputs import NUM_INPUTS
from detal.errors import ConfigError, StoreError
from tests.agents.worlds import bundles_of


def a_policy(hidden: int = 6, num_inputs: int = NUM_INPUTS) -> Policy:
    return Policy(num_inputs, hidden=hidden, seed=torch.Generator().manual_seed(0))


class TestShortlist:
    GAINS = np.array([5.0, 4, 3, 2, 1, 0.5, 0.4, 0.3])
    AMOUNTS = np.array([[9, 0, 0]] * 5 + [[0, 1, 0], [0, 2, 0], [0, 0, 1]])

    def of(self, size: int, always: tuple[int, ...] = ()) -> list[int]:
        kept = shortlist(
            self.GAINS,
            costs=np.ones(8),
            objects=bundles_of(self.AMOUNTS),
            always=np.array(always, dtype=np.int64),
            size=size,
            rng=np.random.default_rng(0),
        )
        return [int(candidate) for candidate in kept]

    def test_half_by_gain_and_half_by_class(self) -> None:
        kept = self.of(5)
        assert kept[:2] == [0, 1]
        assert {6, 7} <= set(kept)
        assert len(kept) == 5

    def test_greedys_are_in_anyway(self) -> None:
        assert set(self.of(2, always=(3, 4, 5))) == {3, 4, 5}
        assert 5 in self.of(4, always=(5,))
        assert len(self.of(4, always=(5,))) == 4

    def test_a_small_pool_is_taken_whole(self) -> None:
        assert self.of(8) == list(range(8))


class TestPolicies:
    def test_read_as_written(self, tmp_path) -> None:
        policy = a_policy()
        save_policy(tmp_path / "policy", policy, trained_on={"images": 3})
        again = load_policy(tmp_path / "policy")
        inputs = torch.ones(1, 4, NUM_INPUTS)
        assert torch.equal(
            policy(inputs, torch.arange(4)[None]), again(inputs, torch.arange(4)[None])
        )
        about = json.loads((tmp_path / "policy" / "policy.json").read_text())
        assert about["trained_on"] == {"images": 3}

    def test_none_there(self, tmp_path) -> None:
        with pytest.raises(ConfigError, match=r"folder with policy\.json, found none"):
            load_policy(tmp_path)

    @pytest.mark.parametrize("damage", ["policy.json", "policy.pt"])
    def test_damaged(self, tmp_path, damage) -> None:
        save_policy(tmp_path, a_policy(), trained_on={})
        (tmp_path / damage).write_bytes((tmp_path / damage).read_bytes()[:20])
        with pytest.raises(StoreError, match=rf"{damage.replace('.', '[.]')} must"):
            load_policy(tmp_path)

    def test_of_other_inputs(self, tmp_path) -> None:
        save_policy(tmp_path, a_policy(num_inputs=5), trained_on={})
        with pytest.raises(ConfigError, match=r"found \{'format': 1, 'inputs': 5\}: train a new"):
            load_policy(tmp_path)


def test_learning_curve(tmp_path, caplog) -> None:
    curve = [
        Point(-1, 100.0, 2.0),
        Point(0, 97.0, float("nan"), 97.0),
        Point(1, 96.0, 1.5),
        Point(2, 98.0, 1.25, 99.5),
    ]
    with caplog.at_level(logging.WARNING):
        save_learning_curve(tmp_path, curve, greedy=100.0)
    rows = (tmp_path / "learning_curve.csv").read_text().splitlines()
    assert rows[0] == "step,reward,entropy,held_out,greedy"
    assert rows[2] == "0,97.0,,97.0,100.0"
    told = json.loads((tmp_path / "learning_curve.json").read_text())
    assert told["greedy"] == 100
    assert told["steps"][3] == {"step": 2, "reward": 98.0, "entropy": 1.25, "held_out": 99.5}
    picture = (tmp_path / "learning_curve.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert not caplog.records
