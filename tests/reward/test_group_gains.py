"""Gains of groups: what shrinkage leaves of them, and the file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detal.errors import DataError, StoreError
from detal.reward import GroupGains, shrunk_gains
from tests.reward.factories import group_gains

NAN = float("nan")


def test_without_noise_nothing_is_taken_off() -> None:
    controls = np.array([[0.5, 0.25], [0.5, 0.25]])
    groups = np.array([[0.6, 0.25], [0.5, 0.5]])
    shrunk = shrunk_gains(groups, controls)
    assert shrunk.class_gain == pytest.approx(groups - controls[0])
    assert shrunk.gain == pytest.approx([0.05, 0.125])
    assert (shrunk.noise, shrunk.deviation) == (0, 0)
    assert shrunk.spread == pytest.approx(np.std([0.05, 0.125], ddof=1))


def test_shrinkage_by_hand() -> None:
    """One class: the variance between controls is 2, that between groups 8, so 3/4 is kept."""
    controls = np.array([[-1.0], [1.0]])
    groups = np.array([[3.0], [7.0]])
    shrunk = shrunk_gains(groups, controls)
    assert shrunk.noise**2 == pytest.approx(2)
    assert shrunk.spread**2 == pytest.approx(6)
    assert shrunk.class_gain[:, 0] == pytest.approx([5 - 0.75 * 2, 5 + 0.75 * 2])
    # Of the group, of the mean that it is drawn to, and of the controls' mean.
    assert shrunk.deviation**2 == pytest.approx(0.75 * 2 + 0.25**2 * 8 / 2 + 2 / 2)


def test_groups_that_differ_less_than_controls_are_all_alike() -> None:
    shrunk = shrunk_gains(np.array([[0.1, 0.3], [0.2, 0.4]]), np.array([[0.0, 0.0], [0.4, 0.2]]))
    assert shrunk.spread == 0
    assert shrunk.class_gain[0] == pytest.approx(shrunk.class_gain[1])
    assert shrunk.class_gain[0] == pytest.approx([0.15 - 0.2, 0.35 - 0.1])


def test_controls_that_agree_by_chance_do_not_hide_the_noise_of_classes() -> None:
    """Equal means; each class differs by 0.2: a variance of 0.04, over 2 classes."""
    controls = np.array([[0.4, 0.6], [0.6, 0.4]])
    shrunk = shrunk_gains(np.array([[0.5, 0.5], [0.6, 0.6]]), controls)
    assert shrunk.noise**2 == pytest.approx(0.04 / 2)
    assert shrunk.spread == 0


def test_shrinkage_finds_the_truth_better_than_the_measurement(rng: np.random.Generator) -> None:
    truth = rng.normal(0.05, 0.02, size=(12, 1)) + rng.normal(0, 0.01, size=(12, 8))
    groups = truth + rng.normal(0, 0.05, size=truth.shape)
    controls = rng.normal(0, 0.05, size=(4, 8))
    shrunk = shrunk_gains(groups, controls).class_gain
    measured = groups - controls.mean(axis=0)
    assert ((shrunk - truth) ** 2).mean() < 0.5 * ((measured - truth) ** 2).mean()


def test_classes_without_truth_and_groups_without_a_variant() -> None:
    controls = np.array([[0.5, NAN, 0.2], [0.5, NAN, 0.2]])
    groups = np.array([[0.6, NAN, 0.2], [NAN, NAN, NAN], [0.8, NAN, 0.4]])
    shrunk = shrunk_gains(groups, controls)
    assert np.isnan(shrunk.class_gain[:, 1]).all()
    assert shrunk.class_gain[1, [0, 2]] == pytest.approx([0.2, 0.1])  # the mean of the others
    assert shrunk.gain == pytest.approx([0.05, 0.15, 0.25])


def test_no_group_has_a_variant() -> None:
    shrunk = shrunk_gains(np.array([[NAN, NAN]]), np.array([[0.4, NAN], [0.6, NAN]]))
    assert shrunk.class_gain == pytest.approx(np.array([[0, NAN]]), nan_ok=True)
    assert shrunk.noise == shrunk.deviation == pytest.approx(0.02**0.5)


def test_one_group_and_one_class() -> None:
    shrunk = shrunk_gains(np.array([[0.7]]), np.array([[0.5], [0.5]]))
    assert shrunk.class_gain == pytest.approx(np.array([[0.2]]))


@pytest.mark.parametrize(
    ("groups", "controls", "message"),
    [
        pytest.param([[0.5]], [[0.4]], "at least two controls, got 1", id="one-control"),
        pytest.param([[NAN, 0.1]], [[0.4, NAN]] * 2, "with ground truth", id="no-class"),
    ],
)
def test_nothing_to_go_by(groups: list[Any], controls: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        shrunk_gains(np.array(groups), np.array(controls))


def test_other_orders_of_classes() -> None:
    table = group_gains([[0.6, 0.2, NAN]] * 2, [[0.5, 0.1, NAN]] * 2)
    gains, before = table.for_classes(["owl", "dog", "newt", "cat"])
    assert gains[0] == pytest.approx([NAN, 0.1, NAN, 0.1], nan_ok=True)
    assert before == pytest.approx([NAN, 0.1, NAN, 0.5], nan_ok=True)
    with pytest.raises(DataError, match="must know the detector's classes"):
        table.for_classes(["newt"])


def test_the_file_is_the_table(tmp_path: Path) -> None:
    table = group_gains([[0.6, 0.2, NAN], [NAN, NAN, NAN]], [[0.5, 0.1, NAN]] * 2, trained=[10, 0])
    table.save(tmp_path / "t")
    read = GroupGains.load(tmp_path / "t")
    assert read.class_names == table.class_names
    assert read.made_of == table.made_of
    for name in ("centres", "images", "trained", "pseudo_boxes", "labeled"):
        assert np.array_equal(getattr(read, name), getattr(table, name))
    for name in ("group_ap", "control_ap", "measured"):
        assert getattr(read, name) == pytest.approx(getattr(table, name), nan_ok=True)
    assert table.measured == pytest.approx([0.1, NAN], nan_ok=True)
    assert len(read) == 2


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="detal tables build"):
        GroupGains.load(tmp_path)
    table = group_gains([[0.6, 0.2, 0.1]] * 2, [[0.5, 0.1, 0.1]] * 2)
    table.save(tmp_path)
    path = tmp_path / "groups.json"
    record = json.loads(path.read_text())
    for change in ({"version": 9}, {"images": [1]}, {"centres": [1, 2]}, {"group_ap": [[1.0]]}):
        path.write_text(json.dumps({**record, **change}))
        with pytest.raises(StoreError, match="must be a table of candidate groups"):
            GroupGains.load(tmp_path)
    path.write_text("{")
    with pytest.raises(StoreError, match="must be JSON"):
        GroupGains.load(tmp_path)
