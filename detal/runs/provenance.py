"""Where a result comes from: versions, commit, machine."""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import detal
from detal.datasets import Dataset

__all__ = ["commit", "content_hashes", "dataset_digest", "machine", "rounded", "versions"]

_PACKAGES = ("torch", "torchvision", "ultralytics", "numpy", "opencv-python", "polars")


def versions() -> dict[str, str]:
    """Versions of detal, Python and the packages that shape a result; absent ones are left out."""
    found = {"detal": detal.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit(folder: Path) -> str | None:
    """The commit of ``folder``, with ``+`` if its tree was changed; None outside git."""
    try:
        head = _git(folder, "rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git(folder, "status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def machine() -> dict[str, Any]:
    """The processor and its cores."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    return {"processor": model, "cores": os.cpu_count()}


def content_hashes(paths: Sequence[str]) -> list[str]:
    """A hash of each file's bytes; of what cannot be read, the path stands for it."""
    hashes = []
    for path in paths:
        try:
            hashes.append(hashlib.blake2b(Path(path).read_bytes(), digest_size=16).hexdigest())
        except OSError:
            hashes.append(path)
    return hashes


def dataset_digest(dataset: Dataset, hashes: Sequence[str]) -> str:
    """A hash of what an annotated dataset says, wherever its files lie.

    Args:
        dataset: P images.
        hashes: Of their P files.
    """
    digest = hashlib.blake2b("\x1f".join((*dataset.class_names, *hashes)).encode(), digest_size=16)
    truth = dataset.annotations
    if truth is not None:
        for array in (truth.offsets, truth.boxes, truth.labels, truth.is_crowd):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def rounded(value: Any) -> Any:
    """The same JSON value with numbers to six digits, None in place of NaN and infinity."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value
