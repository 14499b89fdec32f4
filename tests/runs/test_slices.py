"""What torchrun and SLURM say about a process."""

import pytest

from detal.errors import ConfigError
from detal.runs.slices import WHOLE, Slice, slice_of

SRUN = {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1"}
ARRAY = {
    "SLURM_ARRAY_TASK_ID": "12",
    "SLURM_ARRAY_TASK_MIN": "10",
    "SLURM_ARRAY_TASK_COUNT": "5",
}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        pytest.param(
            {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", **SRUN},
            Slice(index=5, count=8, local_index=1, local_count=4),
            id="torchrun, within srun",
        ),
        pytest.param(SRUN, Slice(index=3, count=4, local_index=1), id="srun"),
        pytest.param(ARRAY, Slice(index=2, count=5), id="array"),
        pytest.param(
            {**ARRAY, **SRUN}, Slice(index=11, count=20, local_index=1), id="array of several tasks"
        ),
    ],
)
def test_slice_of(environment: dict[str, str], expected: Slice) -> None:
    assert slice_of(environment) == expected


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        pytest.param({}, "needs RANK and WORLD_SIZE .* or SLURM_PROCID", id="none"),
        pytest.param({"RANK": "2", "WORLD_SIZE": "2"}, "got 2 of 2", id="too high"),
        pytest.param({"RANK": "x", "WORLD_SIZE": "2"}, "RANK must be a number", id="no number"),
        pytest.param({"SLURM_ARRAY_TASK_ID": "1"}, "SLURM_ARRAY_TASK_COUNT must be", id="no count"),
    ],
)
def test_what_cannot_be_is_refused(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        slice_of(environment)


def test_slices_share_the_work_without_overlap() -> None:
    owners = [[Slice(i, 3).has(number) for i in range(3)] for number in range(20)]
    assert all(sum(row) == 1 for row in owners)
    assert all(WHOLE.has(number) for number in range(20))


def test_processes_of_one_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detal.runs.slices._cores", lambda: 8)
    assert Slice(0, 3, local_count=3).threads(None) == 2
    assert Slice(0, 30, local_count=30).threads(None) == 1
    assert Slice(0, 3, local_count=3).threads(5) == 5
    assert WHOLE.threads(None) is None


def test_processes_of_one_machine_take_a_gpu_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert [Slice(i, 4, local_index=i).device("auto") for i in range(3)] == [
        "cuda:0",
        "cuda:1",
        "cuda:0",
    ]
    assert Slice(1, 4, local_index=1).device("cpu") == "cpu"
    assert WHOLE.device("auto") == "auto"
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert Slice(1, 4, local_index=1).device("auto") == "auto"
