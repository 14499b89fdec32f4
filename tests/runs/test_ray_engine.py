"""What fits into a Ray cluster, and work on a real one (`make test-ray`)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from detal.errors import ConfigError
from detal.loop.arm import run_arm, run_initial
from detal.loop.simulate import run_simulation
from detal.loop.study import open_study
from detal.runs.partitions import shortlist
from detal.runs.ray_engine import ActorPool, RayOptions, fit_actors, ray_scoring, ray_tasks
from detal.runs.score import run_score
from tests.loop.test_arm import RANDOM, config, results
from tests.runs.test_partitions import here, pool_of, question
from tests.runs.test_score import config_of, files, part


def nodes(*resources: dict[str, float]) -> list[dict[str, Any]]:
    return [{"Alive": True, "Resources": found} for found in resources]


@pytest.mark.parametrize(
    ("cluster", "options", "device", "expected"),
    [
        pytest.param(
            nodes({"CPU": 3}), RayOptions(), "auto", ActorPool(1, 2, 0), id="this machine"
        ),
        pytest.param(
            nodes({"CPU": 2}, {"CPU": 2}), RayOptions(), "cpu", ActorPool(3, 1, 0), id="one spare"
        ),
        pytest.param(nodes({"CPU": 64}), RayOptions(), "cpu", ActorPool(7, 8, 0), id="large node"),
        pytest.param(
            nodes({"CPU": 4}, {"CPU": 5}),
            RayOptions(cpus=2),
            "cpu",
            ActorPool(4, 2, 0),
            id="a CPU that no actor can use is spare",
        ),
        pytest.param(
            nodes({"CPU": 4}, {"CPU": 16, "GPU": 4}),
            RayOptions(),
            "auto",
            ActorPool(4, 3, 1),
            id="GPUs",
        ),
        pytest.param(
            nodes({"CPU": 16, "GPU": 1}),
            RayOptions(gpus=0.5, cpus=2),
            "cuda",
            ActorPool(2, 2, 0.5),
            id="two a GPU",
        ),
        pytest.param(
            nodes({"CPU": 16, "GPU": 1}), RayOptions(cpus=4), "cpu", ActorPool(3, 4, 0), id="no GPU"
        ),
        pytest.param(
            nodes({"CPU": 9}), RayOptions(actors=2, cpus=2), "cpu", ActorPool(2, 2, 0), id="fewer"
        ),
    ],
)
def test_actors_leave_a_cpu(
    cluster: list[dict[str, Any]], options: RayOptions, device: str, expected: ActorPool
) -> None:
    assert fit_actors(cluster, options, device=device) == expected


def test_more_actors_than_fit_are_said(caplog: pytest.LogCaptureFixture) -> None:
    pool = fit_actors(nodes({"CPU": 5}), RayOptions(actors=9, cpus=1), device="cpu")
    assert pool.actors == 4
    assert "4 actors of 1 CPUs and 0 GPUs fit" in caplog.text


@pytest.mark.parametrize(
    ("cluster", "options", "device"),
    [
        pytest.param(nodes({"CPU": 1}), RayOptions(), "cpu", id="one CPU"),
        pytest.param(nodes({"CPU": 4}), RayOptions(cpus=5), "cpu", id="too many CPUs"),
        pytest.param(nodes({"CPU": 8}), RayOptions(), "cuda", id="no GPU"),
        pytest.param([{"Alive": False, "Resources": {"CPU": 8}}], RayOptions(), "cpu", id="dead"),
    ],
)
def test_a_cluster_that_is_too_small(
    cluster: list[dict[str, Any]], options: RayOptions, device: str
) -> None:
    with pytest.raises(ConfigError, match=r"must have a node for an actor of .* and one more CPU"):
        fit_actors(cluster, options, device=device)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray on this machine, connected."""
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    os.environ.update(RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0")
    root = Path(__file__).resolve().parents[2]
    ray.init(
        "local",
        num_cpus=3,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=200 * 2**20,
        runtime_env={"env_vars": {"PYTHONPATH": str(root)}},
    )
    yield
    ray.shutdown()


def actor_processes() -> list[psutil.Process]:
    below = psutil.Process().children(recursive=True)
    return [process for process in below if "MapWorker" in " ".join(process.cmdline())]


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
def test_a_killed_actor_costs_nothing_but_time(cluster: None, tmp_path: Path) -> None:
    local, spread = tmp_path / "local", tmp_path / "ray"
    run_score(config_of(local))
    assert run_score(config_of(spread), runner=part(1, 4))[0]["scored_now"] == 24
    killed: list[int] = []
    counted: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        counted.append((done, total))
        if done >= 24 and not killed:
            (process, *_) = actor_processes()
            os.kill(process.pid, signal.SIGKILL)
            killed.append(process.pid)

    with ray_scoring(RayOptions(actors=1, cpus=1)) as runner:
        (outcome,) = run_score(config_of(spread), runner=runner, progress=lambda title: progress)
    assert killed
    assert counted[-1] == (76, 76)
    assert (outcome["scored_now"], outcome["left"]) == (76, 0)
    assert files(spread) == files(local)


def _double(number: int) -> int:
    return 2 * number


def _refuse(number: int) -> int:
    raise ConfigError(f"number must not be {number}")


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
def test_tasks_and_their_errors(cluster: None) -> None:
    with ray_tasks(device="cpu") as run:
        assert dict(run([(_double, i) for i in range(5)])) == {i: 2 * i for i in range(5)}
        with pytest.raises(ConfigError, match=r"^number must not be 3$"):
            list(run([(_refuse, 3)]))


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
def test_parts_are_selected_from_as_here(cluster: None, tmp_path: Path) -> None:
    pool = pool_of(tmp_path)
    with ray_tasks(device="cpu") as tasks:
        found = shortlist(pool, question(), parts=2, runner=tasks).dataset.image_ids
    expected = shortlist(pool, question(), parts=2, runner=here).dataset.image_ids
    assert list(found) == list(expected)


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
def test_arms_of_a_study_give_what_they_give_here(cluster: None, tmp_path: Path) -> None:
    there, alone = (
        config(tmp_path / name, rounds=1, strategies=["random"]) for name in ("there", "here")
    )
    run_simulation(there, runner=ray_tasks(device="cpu"))
    study = open_study(alone)
    run_initial(study, 0)
    run_arm(study, RANDOM, 0)
    assert results(tmp_path / "there") == results(tmp_path / "here")
