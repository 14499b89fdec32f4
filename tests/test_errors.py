"""Words for faults of the machine."""

import errno
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from detal.errors import is_out_of_memory, machine_fault, reason


@pytest.mark.parametrize(
    ("error", "words"),
    [
        pytest.param(
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/a/b"),
            "the disk is full (No space left on device: /a/b): make room",
            id="full",
        ),
        pytest.param(OSError("400 requested and 131 written"), "the disk is full (No", id="numpy"),
        pytest.param(
            pl.exceptions.ComputeError("parquet: No space left on device (os error 28)"),
            "the disk is full (No space left on device): make room",
            id="polars",
        ),
        pytest.param(OSError(errno.EROFS, "Read-only file system"), "not permitted", id="ro"),
        pytest.param(OSError(errno.ESTALE, "Stale file handle"), "still mounted", id="stale"),
        pytest.param(
            FileNotFoundError(2, "No such file", "x"), "is gone (No such file: x)", id="x"
        ),
        pytest.param(OSError(errno.EMFILE, "Too many open files"), "ulimit -n", id="files"),
        pytest.param(OSError("odd"), "odd", id="other"),
        pytest.param(MemoryError(), "memory ran out (MemoryError): lower batch_size", id="memory"),
        pytest.param(torch.OutOfMemoryError("CUDA out of memory.\nx"), "(CUDA out", id="cuda"),
    ],
)
def test_what_the_user_is_told(error: Exception, words: str) -> None:
    told = machine_fault(error)
    assert told is not None
    assert words in told


def test_bugs_are_none() -> None:
    assert machine_fault(ValueError("x")) is None
    assert machine_fault(RuntimeError("x")) is None
    assert machine_fault(pl.exceptions.ComputeError("x")) is None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_in_the_words_of_numpy() -> None:
    with Path("/dev/full").open("wb", buffering=0) as file, pytest.raises(OSError) as caught:  # noqa: PT011
        np.save(file, np.zeros(100_000), allow_pickle=False)
    assert reason(caught.value) == os.strerror(errno.ENOSPC)


def test_memory() -> None:
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    assert is_out_of_memory(torch.OutOfMemoryError())
    assert not is_out_of_memory(ValueError("out of memory"))
