"""Devices, weight files and their fingerprints."""

from __future__ import annotations

import hashlib
import logging
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detal.errors import DetectorError
from detal.files import UNREADABLE, is_file

__all__ = ["check_archive", "fingerprint", "half_type", "read_state_dict", "resolve_device"]

log = logging.getLogger(__name__)

_WRAPPERS = ("model", "state_dict", "model_state_dict", "model_state")


def resolve_device(name: str) -> torch.device:
    """``auto`` (CUDA, then Apple's MPS, then the CPU), ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Raises:
        DetectorError: If torch knows no such device or cannot use it here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DetectorError(
            f"device must be auto, cpu, cuda, cuda:<number> or mps, got {name!r}"
        ) from error
    usable = {
        "cpu": True,
        "cuda": (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not usable.get(device.type, False):
        raise DetectorError(
            f"device {name!r} cannot be used here: torch {torch.__version__} sees "
            f"{torch.cuda.device_count()} CUDA devices; use device=auto or device=cpu"
        )
    return device


def half_type(device: torch.device) -> torch.dtype:
    """What half precision is on a device: processors are fast with bfloat16 only, if at all."""
    if device.type != "cpu":
        return torch.float16
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        log.warning(
            "this processor has no bfloat16: half precision is several times slower than full here "
            "(leave detector.half out)"
        )
    return torch.bfloat16


def fingerprint(module: nn.Module) -> str:
    """Hash of all parameters and buffers, by name, type and value."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return digest.hexdigest()


def check_archive(path: Path) -> None:
    """Refuse a checkpoint that unpacks to more than the file holds; torch itself never packs.

    Raises:
        DetectorError: If it does.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return  # none of torch's archives; whoever reads it says so
    if unpacked > path.stat().st_size:
        raise DetectorError(
            f"a checkpoint must not unpack to more than its {path.stat().st_size:,} bytes, {path} "
            f"does to {unpacked:,}"
        )


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a plain state dict, or the one in a training checkpoint, without running its pickle.

    Raises:
        DetectorError: If the file is missing, damaged or holds no state dict.
    """
    if not is_file(path):
        raise DetectorError(f"weights must be a file, found none at {path}")
    check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it comments on pickles that it then refuses
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise DetectorError(
            f"weights must be a state dict saved by torch.save (tensors by name), {path} cannot be "
            f"read as one: {(str(error).splitlines() or [type(error).__name__])[0][:200]}"
        ) from error
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not _is_state_dict(content):
        raise DetectorError(
            f"weights must be a state dict (tensors by name), {path} holds {_describe(content)}"
        )
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def _is_state_dict(content: Any) -> bool:
    return (
        isinstance(content, Mapping)
        and len(content) > 0
        and all(isinstance(value, Tensor) for value in content.values())
    )


def _describe(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"a dict with the keys {', '.join(map(str, list(content)[:6]))}"
    return f"a {type(content).__name__}"
