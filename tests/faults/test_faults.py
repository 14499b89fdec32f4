"""A few of the faults of `tools/bench/faults.py`, which does all of them."""

import errno
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.faults import scenarios
from tests.faults.scenarios import Bench, Outcome

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="processes are forked from a server"
)


@pytest.fixture(scope="module", params=["merge", "review", "select", "simulate"])
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    os.environ.setdefault("POLARS_MAX_THREADS", "1")  # for the processes that are started here
    return Bench(request.param, tmp_path_factory.mktemp(request.param))


def only(bench: Bench, *names: str) -> None:
    if bench.name not in names:
        pytest.skip(f"shown by {', '.join(names)}")


def survived(outcome: Outcome) -> bool:
    assert not outcome.failures
    return outcome.injected > 0


def spread(bench: Bench, number: int) -> list[int]:
    return [int(at) for at in np.linspace(2, bench.writes - 1, number)]


def test_killed_at_a_write(bench: Bench) -> None:
    number = {"merge": 8, "review": 4, "select": 4, "simulate": 2}[bench.name]
    assert survived(scenarios.boundary_kills(bench, spread(bench, number)))


def test_killed_at_any_moment(bench: Bench, rng: np.random.Generator) -> None:
    only(bench, "merge", "review", "select")
    assert survived(scenarios.random_kills(bench, kills=3, rng=rng))


def test_a_full_disk(bench: Bench) -> None:
    only(bench, "merge", "select", "simulate")
    full = scenarios.failing_writes(
        bench,
        errno.ENOSPC,
        fault="full disk",
        says="No space left on device",
        boundaries=spread(bench, 3)[1:2],
    )
    assert survived(full)


def test_a_read_only_folder(bench: Bench) -> None:
    only(bench, "merge", "select")
    locked = scenarios.failing_writes(
        bench,
        errno.EROFS,
        fault="read-only folder",
        says="must be in a folder that can be written to",
        boundaries=[1],
    )
    assert survived(locked)


def test_an_interrupt(bench: Bench, rng: np.random.Generator) -> None:
    only(bench, "merge", "select")
    assert survived(scenarios.interrupts(bench, number=1, rng=rng))


def test_a_second_run(bench: Bench, rng: np.random.Generator) -> None:
    only(bench, "merge", "review", "select")
    assert survived(scenarios.two_at_once(bench, number=1, rng=rng))


@pytest.mark.parametrize(
    ("where", "injection", "code", "says"),
    [
        pytest.param("select", "a detector that gives NaN", 1, "must be finite", id="nan"),
        pytest.param("select", "a detector that gives no answer", 1, "for each image", id="none"),
        pytest.param("select", "no memory for a batch", 0, "going on with 2", id="batch"),
        pytest.param("select", "no memory for an image", 1, "not fit into memory", id="image"),
        pytest.param("select", "no memory for the report", 1, "memory ran out", id="machine"),
        pytest.param("simulate", "no memory for a training", 1, "lower batch_size", id="training"),
    ],
)
def test_inside_the_process(bench: Bench, where: str, injection: str, code: int, says: str) -> None:
    only(bench, where)
    assert survived(scenarios.injected(bench, injection, fault=injection, code=code, says=says))


def test_a_lost_write_would_be_seen(tmp_path: Path) -> None:
    """The harness itself: another file makes a difference."""
    bench = Bench("merge", tmp_path)
    (tmp_path / "work" / "set" / "labeled.json").write_text("{}")
    outcome = Outcome("none", "merge", injected=1)
    bench.finish(outcome, "changed by hand")
    assert outcome.row()["lost"] == 1
