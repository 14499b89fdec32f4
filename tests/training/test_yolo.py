import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from detal.detectors.yolo import import_ultralytics, load_model
from detal.errors import ConfigError, DataError, DetectorError
from detal.training import yolo_trainer
from detal.training.progress import early_weights
from detal.training.yolo import train_yolo
from detal.training.yolo_trainer import StepPlan, _Stream


def train(data_yaml, init, output, **changes):
    settings = {"steps": 25, "image_size": 64, "batch_size": 4, "device": "cpu", **changes}
    return train_yolo(data_yaml=data_yaml, init=init, output=output, **settings)


def tensors(weights):
    library = import_ultralytics()
    return library.YOLO(str(weights)).model.state_dict()


def same(a, b):
    left, right = tensors(a), tensors(b)
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def plan(tmp_path, **changes):
    return StepPlan(
        **{"steps": 45, "batch_size": 4, "seed": 1, "data": None, "output": tmp_path, "key": ""}
        | changes
    )


@pytest.mark.parametrize(
    ("steps", "epochs", "epoch_steps"),
    [(1, 1, 1), (7, 7, 1), (45, 15, 3), (300, 20, 15), (30_000, 60, 500)],
)
def test_schedule_does_not_depend_on_the_number_of_images(tmp_path, steps, epochs, epoch_steps):
    schedule = plan(tmp_path, steps=steps)
    assert (schedule.epochs, schedule.epoch_steps) == (epochs, epoch_steps)
    assert steps <= schedule.epochs * schedule.epoch_steps < steps + epoch_steps


def test_stream_runs_through_permutations_whatever_the_start(tmp_path):
    whole = _Stream(5, plan=plan(tmp_path))
    first, second = list(whole), list(whole)
    assert len(first) == len(whole) == 12
    stream = first + second
    assert all(sorted(stream[i : i + 5]) == list(range(5)) for i in (0, 5, 10, 15))
    assert stream[:5] != stream[5:10]
    later = _Stream(5, plan=plan(tmp_path))
    later.position = 12
    assert list(later) == second


def test_exact_steps_finished_run_is_recognised_and_seed_decides(
    data_yaml, tiny_yolo, tmp_path, capfd
):
    first = train(data_yaml, tiny_yolo, tmp_path / "erster Lauf")
    assert (first.steps, first.how, first.stopped_by) == (25, "trained", "steps")
    assert set(first.losses) == {"box_loss", "cls_loss", "dfl_loss"}
    assert capfd.readouterr().out == ""
    again = train(data_yaml, tiny_yolo, tmp_path / "erster Lauf")
    assert again.how == "finished"
    assert (again.steps, again.seconds, again.weights) == (25, first.seconds, first.weights)
    repeat = train(data_yaml, tiny_yolo, tmp_path / "b")
    assert same(first.weights, repeat.weights)
    other = train(data_yaml, tiny_yolo, tmp_path / "b", seed=1)
    assert other.how == "trained"
    assert not same(first.weights, other.weights)
    model = import_ultralytics().YOLO(str(first.weights))
    assert model.names == {0: "grün", 1: "红"}
    files = sorted(p.name for p in data_yaml.parent.rglob("*") if p.is_file())
    assert not [name for name in files if name.endswith((".cache", ".npy"))]


def test_early_checkpoints_are_kept_and_change_nothing(data_yaml, tiny_yolo, tmp_path):
    plain = train(data_yaml, tiny_yolo, tmp_path / "plain", steps=12)
    kept = train(data_yaml, tiny_yolo, tmp_path / "kept", steps=12, keep_steps=[2, 12])
    assert same(plain.weights, kept.weights)
    early = [early_weights(tmp_path / "kept", step) for step in (2, 12)]
    assert sorted(path.name for path in early[0].parent.iterdir()) == ["12.pt", "2.pt"]
    assert same(early[1], kept.weights)
    assert not same(early[0], kept.weights)
    shorter = train(data_yaml, tiny_yolo, tmp_path / "kept", steps=12, keep_steps=[3])
    assert shorter.how == "trained"
    assert [path.name for path in early[0].parent.iterdir()] == ["3.pt"]


def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been(data_yaml, tiny_yolo, tmp_path):
    changes = {"steps": 30, "checkpoint_s": 0.0}
    whole = train(data_yaml, tiny_yolo, tmp_path / "whole", **changes)
    output = tmp_path / "killed"
    code = (
        "from detal.training.yolo import train_yolo\n"
        f"train_yolo(data_yaml={str(data_yaml)!r}, init={str(tiny_yolo)!r}, "
        f"output={str(output)!r}, steps=30, image_size=64, batch_size=4, device='cpu', "
        "checkpoint_s=0.0)"
    )
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen([sys.executable, "-c", code], cwd=root, env={**os.environ})
    deadline = time.monotonic() + 120
    while not (output / "resume.pt").is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (output / "weights.pt").exists()
    resumed = train(data_yaml, tiny_yolo, output, **changes)
    assert (resumed.how, resumed.steps) == ("resumed", 30)
    assert same(whole.weights, resumed.weights)
    assert not (output / "resume.pt").exists()


def test_a_run_stopped_after_its_last_mosaic_goes_on_without(
    data_yaml, tiny_yolo, tmp_path, monkeypatch
):
    changes = {"steps": 30, "checkpoint_s": 0.0}
    whole = train(data_yaml, tiny_yolo, tmp_path / "whole", **changes)
    begin = yolo_trainer._begin_epoch

    def stop_at_the_last(trainer, plan, torch_utils):
        if trainer.epoch == 14:
            raise KeyboardInterrupt
        begin(trainer, plan, torch_utils)

    with monkeypatch.context() as patched:
        patched.setattr(yolo_trainer, "_begin_epoch", stop_at_the_last)
        with pytest.raises(KeyboardInterrupt):
            train(data_yaml, tiny_yolo, tmp_path / "stopped", **changes)
    resumed = train(data_yaml, tiny_yolo, tmp_path / "stopped", **changes)
    assert (resumed.how, resumed.steps) == ("resumed", 30)
    assert same(whole.weights, resumed.weights)


def test_a_run_killed_before_its_first_checkpoint_starts_again(data_yaml, tiny_yolo, tmp_path):
    first = train(data_yaml, tiny_yolo, tmp_path / "a", steps=5)
    record = tmp_path / "a" / "train.json"
    record.write_text(record.read_text().replace('"done": true', '"done": false'))
    again = train(data_yaml, tiny_yolo, tmp_path / "a", steps=5)
    assert (again.how, again.steps) == ("restarted", 5)
    assert train(data_yaml, tiny_yolo, tmp_path / "a", steps=5, resume=False).how == "trained"
    assert first.weights.is_file()


def test_time_budget_ends_a_run(data_yaml, tiny_yolo, tmp_path):
    result = train(data_yaml, tiny_yolo, tmp_path / "a", steps=10_000, time_budget_s=0.5)
    assert result.stopped_by == "time"
    assert 0 < result.steps < 10_000
    assert result.weights.is_file()


def test_checkpoint_and_backbone_are_where_training_starts(data_yaml, tiny_yolo, tmp_path):
    start = train(data_yaml, tiny_yolo, tmp_path / "start", steps=3)
    freeze = {"extra": {"lr0": 0.0}, "steps": 1}
    kept = train(data_yaml, start.weights, tmp_path / "kept", **freeze)
    stem = "model.0.conv.weight"
    assert torch.equal(tensors(kept.weights)[stem], tensors(start.weights)[stem])
    backbone = {
        stem: torch.full_like(tensors(start.weights)[stem], 0.25).half(),
        "x": torch.ones(1),
    }
    from_dict = train(data_yaml, tiny_yolo, tmp_path / "dict", backbone=backbone, **freeze)
    assert (tensors(from_dict.weights)[stem] == 0.25).all()
    torch.save(backbone, tmp_path / "backbone.pt")
    from_file = train(
        data_yaml, tiny_yolo, tmp_path / "file", backbone=tmp_path / "backbone.pt", **freeze
    )
    assert same(from_dict.weights, from_file.weights)
    with pytest.raises(DetectorError, match="none of its 1 fits"):
        train(data_yaml, tiny_yolo, tmp_path / "no", backbone={"x": torch.ones(1)}, **freeze)


def test_an_activation_is_of_its_own_model_only(data_yaml, tiny_yolo, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(tiny_yolo.read_text() + "activation: nn.ReLU()\n")
    before = train(data_yaml, tiny_yolo, tmp_path / "before", steps=2)
    rectified = train(data_yaml, other, tmp_path / "other", steps=2)
    after = train(data_yaml, tiny_yolo, tmp_path / "after", steps=2)
    assert not same(before.weights, rectified.weights)
    assert same(before.weights, after.weights)
    load_model(other)
    assert not any(isinstance(layer, torch.nn.ReLU) for layer in load_model(tiny_yolo).modules())


def test_it_learns(data_yaml, tiny_yolo, tmp_path):
    few = train(data_yaml, tiny_yolo, tmp_path / "few", steps=2)
    many = train(data_yaml, tiny_yolo, tmp_path / "many", steps=60, extra={"lr0": 0.01})
    assert sum(many.losses.values()) < 0.8 * sum(few.losses.values())


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        pytest.param({"steps": 0}, ConfigError, "steps must be at least 1", id="no-steps"),
        pytest.param({"image_size": 100}, ConfigError, "multiple of 32, got 100", id="size"),
        pytest.param({"extra": {"epochs": 3}}, ConfigError, "sets itself: epochs", id="reserved"),
        pytest.param({"extra": {"cache": "disk"}}, ConfigError, "disk writes", id="disk-cache"),
        pytest.param({"extra": {"mosaik": 1}}, ConfigError, "refuses.*mosaik", id="unknown"),
        pytest.param({"device": "tpu7"}, DetectorError, "device", id="device"),
        pytest.param({"init": "nowhere.pt"}, DetectorError, "init must be", id="no-checkpoint"),
        pytest.param({"init": "no-such.yaml"}, DetectorError, "no-such", id="no-yaml"),
        pytest.param({"extra": {"box": 1e39}}, DetectorError, "must stay finite", id="diverges"),
        pytest.param({"data_yaml": Path("no.yaml")}, DataError, "cannot read", id="no-data"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*(encountered|overflow).*:RuntimeWarning")
def test_mistakes_are_named(data_yaml, tiny_yolo, tmp_path, changes, error, message):
    arguments = {"data_yaml": data_yaml, "init": tiny_yolo, "output": tmp_path / "x", **changes}
    with pytest.raises(error, match=f"(?s){message}"):
        train(**arguments)
