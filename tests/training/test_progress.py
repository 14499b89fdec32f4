import pytest

from detal.errors import ConfigError, StoreError
from detal.files import write_atomic
from detal.training.progress import (
    TrainRecord,
    check_amounts,
    check_steps,
    digest,
    file_digest,
    learning_rate_factor,
)


@pytest.mark.parametrize(
    ("step", "cosine", "expected"),
    [
        pytest.param(0, True, 0.25, id="first-of-four-warm-up-steps"),
        pytest.param(3, True, 1.0, id="warm"),
        pytest.param(4, True, 1.0, id="top"),
        pytest.param(9, True, 0.55, id="halfway-down-the-cosine"),
        pytest.param(9, False, 0.55, id="halfway-down-the-line"),
        pytest.param(13, False, 0.19, id="last"),
    ],
)
def test_learning_rate_rises_then_falls(step, cosine, expected):
    factor = learning_rate_factor(step, steps=14, warmup_steps=4, final=0.1, cosine=cosine)
    assert factor == pytest.approx(expected)


def test_one_step_without_warm_up_has_the_full_rate():
    assert learning_rate_factor(0, steps=1, warmup_steps=0) == 1.0


def test_record_returns_as_written_and_a_foreign_file_is_refused(tmp_path):
    assert TrainRecord.read(tmp_path) is None
    record = TrainRecord(key="k", done=True, steps=3, seconds=1.5, losses={"ü": 0.5})
    record.write(tmp_path)
    assert TrainRecord.read(tmp_path) == record
    assert record.result(tmp_path, "finished").losses == {"ü": 0.5}
    (tmp_path / "train.json").write_text('{"epochs": 3}')
    with pytest.raises(StoreError, match=r"train\.json must be a training record"):
        TrainRecord.read(tmp_path)


@pytest.mark.parametrize(
    ("amounts", "message"),
    [
        pytest.param({"steps": 0, "time_budget_s": None}, "steps must be at least 1", id="0"),
        pytest.param({"steps": 1, "time_budget_s": 0.0}, "greater than 0, got 0", id="no-time"),
        pytest.param({"steps": 1, "time_budget_s": float("nan")}, "got nan", id="nan"),
    ],
)
def test_amounts_out_of_range_are_refused(amounts, message):
    with pytest.raises(ConfigError, match=message):
        check_amounts(**amounts)


def test_digests_tell_contents_apart(tmp_path):
    assert digest(["ab", "c"]) != digest(["a", "bc"])
    write_atomic(tmp_path / "a", b"1")
    write_atomic(tmp_path / "b", b"2")
    assert file_digest(tmp_path / "a") != file_digest(tmp_path / "b")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a", "b"]


@pytest.mark.parametrize(
    "steps", [[0], [3, 3], [5, 2], [11]], ids=["zero", "twice", "down", "late"]
)
def test_early_steps_must_rise_and_be_steps(steps):
    check_steps([1, 10], steps=10)
    check_steps([], steps=10)
    with pytest.raises(ConfigError, match=r"must rise and be in 1\.\.10"):
        check_steps(steps, steps=10)
