"""Read checkpoints and model YAMLs of ultralytics without running what a stranger put into them.

A checkpoint is a pickle of a whole model. It is read by torch's restricted unpickler
(``weights_only=True``), which gets in addition the layers of ultralytics and torch that the file
names, and nothing else:

* Layers are made as `pickle` makes them, empty, with their state filled in. To *call* a class is
  refused, because the constructors of models read files and evaluate text.
* A model's YAML is looked at before the library builds it: the library evaluates ``activation`` as
  Python and calls whatever a layer's name stands for among its own functions.
* An archive must not unpack to more than the file holds, nor a tensor be larger than its storage.
"""

from __future__ import annotations

import importlib
import pickle
import re
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn

from detal.detectors.weights import check_archive
from detal.errors import DetectorError

__all__ = ["activation_kept", "check_architecture", "check_model_yaml", "read_checkpoint"]

_LAYERS = ("torch.nn.modules.", "ultralytics.nn.modules.", "ultralytics.nn.tasks.")
_LOSSES = ("ultralytics.utils.loss.", "ultralytics.utils.tal.")
# Names of earlier versions of the library.
_RENAMED = {
    "ultralytics.nn.modules.block.Silence": "torch.nn.modules.linear.Identity",
    "ultralytics.nn.tasks.YOLOv10DetectionModel": "ultralytics.nn.tasks.DetectionModel",
    "ultralytics.utils.loss.v10DetectLoss": "ultralytics.utils.loss.E2EDetectLoss",
}
_PLAIN: dict[str, Callable[..., Any]] = {
    "pathlib.PosixPath": PurePosixPath,
    "pathlib.WindowsPath": PureWindowsPath,
    "types.SimpleNamespace": SimpleNamespace,
    "ultralytics.utils.IterableSimpleNamespace": SimpleNamespace,
    "numpy.dtype": np.dtype,
    "numpy.core.multiarray.scalar": np.float64(0).__reduce__()[0],
    "numpy._core.multiarray.scalar": np.float64(0).__reduce__()[0],
}
_ACTIVATION = re.compile(
    r"(torch\.)?nn\.[A-Z]\w*\(\s*((\w+\s*=\s*)?(-?[\d.e-]+|True|False)\s*,?\s*)*\)"
)
# torch's registry of further classes belongs to the whole process.
_lock = threading.Lock()


def read_checkpoint(path: Path) -> nn.Module:
    """The model in a checkpoint of ultralytics, its moving average if it keeps one.

    Args:
        path: A ``.pt`` file that ultralytics or `detal` wrote.

    Raises:
        DetectorError: If it names anything but layers of ultralytics and torch, or an architecture
            that would run code.
        pickle.UnpicklingError: If it is no such checkpoint; also as EOFError, RuntimeError,
            TypeError and what else pickles of another version may lead to.
    """
    check_archive(path)
    if not zipfile.is_zipfile(path):
        raise pickle.UnpicklingError("it is no PyTorch checkpoint")
    named = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    found = {name: value for name in named if (value := _resolve(name)) is not None}
    foreign = sorted(set(named) - found.keys())
    if foreign:
        raise DetectorError(_refusal(path, foreign))
    allowed: list[Any] = [(value, name) for name, value in found.items()]
    with _lock, torch.serialization.safe_globals([*allowed, *_NUMPY_TYPES]):
        content = torch.load(path, map_location="cpu", weights_only=True)
    model = (content.get("ema") or content.get("model")) if isinstance(content, dict) else content
    if not isinstance(model, nn.Module):
        raise TypeError(f"it holds no model, but {type(model).__name__}")
    _settle(model)
    trained: Any = content.get("train_args") if isinstance(content, dict) else None
    return _as_loaded(model, trained if isinstance(trained, dict) else {})


@contextmanager
def activation_kept() -> Iterator[None]:
    """Models built inside leave no ``activation`` of theirs behind for those built later.

    Some versions of ultralytics keep it as the default of the process.
    """
    conv = importlib.import_module("ultralytics.nn.modules").Conv
    before = conv.default_act
    try:
        yield
    finally:
        conv.default_act = before


def check_architecture(architecture: Any, source: str) -> None:
    """Refuse a model's YAML that would make the library run code.

    Args:
        architecture: Its content.
        source: Where it comes from, for messages.

    Raises:
        DetectorError: If ``activation`` is no plain layer, or a layer is not one of the library's.
    """
    if not isinstance(architecture, dict):
        raise DetectorError(f"{source} must describe a model, got {type(architecture).__name__}")
    activation = architecture.get("activation")
    if activation and not (
        isinstance(activation, str) and _ACTIVATION.fullmatch(activation.strip())
    ):
        raise DetectorError(
            f"{source}: activation must be a layer of torch.nn like nn.ReLU() or "
            f"nn.LeakyReLU(0.1), got {str(activation)[:60]!r}"
        )
    tasks = importlib.import_module("ultralytics.nn.tasks")
    for part in ("backbone", "head"):
        for row in architecture.get(part) or ():
            name = row[2] if isinstance(row, list) and len(row) > 2 else row
            if not _is_layer(tasks, name):
                raise DetectorError(
                    f"{source}: {part} must be made of layers that ultralytics knows, got "
                    f"{str(name)[:60]!r}"
                )


def check_model_yaml(name: str) -> None:
    """Look at a model YAML, a file or one of the library's by its name, before anything is built.

    Raises:
        DetectorError: If it cannot be read or would run code.
    """
    if name.startswith(("http:", "https:", "ul:")) or "://" in name:
        raise DetectorError(f"a model YAML must be a file or the name of a model, got {name}")
    tasks = importlib.import_module("ultralytics.nn.tasks")
    try:
        content = tasks.yaml_model_load(name)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        text = " ".join(str(error).split())[:300]
        raise DetectorError(f"YOLO model {name} cannot be loaded: {text}") from None
    check_architecture(content, name)


def _is_layer(tasks: Any, name: Any) -> bool:
    if not isinstance(name, str):
        return False
    if name.startswith("nn."):
        found, homes = getattr(nn, name[3:], None), ("torch.nn.",)
    elif name.startswith("torchvision.ops."):
        found = getattr(importlib.import_module("torchvision.ops"), name[16:], None)
        homes = ("torchvision.ops.",)
    else:
        found, homes = getattr(tasks, name, None), ("ultralytics.nn.modules.",)
    return (
        isinstance(found, type)
        and issubclass(found, nn.Module)
        and found.__module__.startswith(homes)
    )


def _resolve(name: str) -> Callable[..., Any] | None:
    """What a name in a checkpoint stands for; None if it is nothing that we let in."""
    if name in _PLAIN:
        return _PLAIN[name]
    name = _RENAMED.get(name, name)
    if not name.startswith((*_LAYERS, *_LOSSES)):
        return None
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        return None
    if not isinstance(found, type):
        return None
    if name.startswith(_LOSSES):
        return _uncallable(found) if found.__module__ == module else None
    own = issubclass(found, nn.Module) and f"{found.__module__}.".startswith(_LAYERS)
    return _uncallable(found) if own else None


def _uncallable(kind: type) -> type:
    """A stand-in that can be made empty and filled, but not called."""

    def refuse(self: Any, *args: Any, **kwargs: Any) -> None:
        raise pickle.UnpicklingError(f"a checkpoint must not call {kind.__qualname__}")

    return type(kind.__name__, (kind,), {"__init__": refuse, "__module__": kind.__module__})


def _settle(model: Any) -> None:
    """Put the real classes in place of the stand-ins."""
    if getattr(model, "criterion", None) is not None:
        model.criterion = None  # a loss that was pickled with its model
    for layer in model.modules():
        kind = type(layer)
        if "<locals>" in kind.__init__.__qualname__:
            layer.__class__ = kind.__mro__[1]
    for name, value in model.state_dict().items():
        held = value.untyped_storage().nbytes()
        if value.numel() * value.element_size() > held:
            raise pickle.UnpicklingError(f"tensor {name} must not be larger than its {held} bytes")


def _as_loaded(model: Any, trained: dict[str, Any]) -> nn.Module:
    """The model as the library's own loader leaves it."""
    check_architecture(getattr(model, "yaml", None), "the checkpoint's model YAML")
    model.args = trained
    for layer in model.modules():
        if hasattr(layer, "inplace"):
            layer.inplace = True
        if isinstance(layer, nn.Upsample) and not hasattr(layer, "recompute_scale_factor"):
            layer.recompute_scale_factor = None
    loaded: nn.Module = model.float().eval()
    return loaded


def _refusal(path: Path, foreign: Iterable[str]) -> str:
    names = list(foreign)
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return (
        f"YOLO model {path} is refused: a checkpoint must be made of layers of ultralytics and "
        f"torch, this one names {', '.join(names[:5])}{more}. It was written by another program or "
        "version (checkpoints of the original YOLOv5 and v7 need converting), or loading it runs "
        "what its author wants; if you trust whoever made it: trust_checkpoint=true"
    )


_NUMPY_TYPES = [type(np.dtype(kind)) for kind in (np.float16, np.float32, np.float64, np.int64)]
