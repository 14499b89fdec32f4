"""YOLO detectors of the ultralytics package, which is imported nowhere but here and in training."""

from __future__ import annotations

import atexit
import importlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from detal.detectors.detector import Detector
from detal.detectors.weights import fingerprint, half_type, read_state_dict, resolve_device
from detal.detectors.yolo_checkpoints import (
    activation_kept,
    check_model_yaml,
    read_checkpoint,
)
from detal.detectors.yolo_detector import YoloDetector
from detal.detectors.yolo_head import OpenHead
from detal.errors import DetectorError
from detal.files import UNREADABLE, is_file
from detal.seeding import seed_torch

__all__ = ["HeadName", "import_ultralytics", "load_model", "load_yolo"]

HeadName = Literal["auto", "one2many", "one2one"]

_OTHER_TASKS = {
    "Segment": "a segmentation model",
    "Segment26": "a segmentation model",
    "Pose": "a pose model",
    "Pose26": "a pose model",
    "OBB": "an oriented-box model",
    "OBB26": "an oriented-box model",
    "Classify": "a classification model",
    "SemanticSegment": "a semantic segmentation model",
    "Depth": "a depth model",
    "RTDETRDecoder": "an RT-DETR model",
    "WorldDetect": "an open-vocabulary model",
    "YOLOEDetect": "an open-vocabulary model",
    "YOLOESegment": "an open-vocabulary segmentation model",
}
# From this version on the library reads the one-to-many head of a two-headed model by default.
_ONE2MANY_SINCE = (8, 4, 142)
_EXPORTED = frozenset(
    {".bin", ".engine", ".mlmodel", ".mlpackage", ".mnn", ".onnx", ".pb", ".tflite", ".torchscript"}
)


def import_ultralytics(*, download: bool = False) -> Any:
    """The ultralytics package, kept from the network, from pip and from the user's settings file.

    Environment variables that the user has set stand.

    Args:
        download: Leave the package online, so that it can fetch weights by name.

    Raises:
        DetectorError: If the package is not installed.
    """
    if not download:
        os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_VERBOSE", "false")  # its log goes to stdout, where results belong
    if "YOLO_CONFIG_DIR" not in os.environ:
        folder = tempfile.mkdtemp(prefix="detal-ultralytics-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["YOLO_CONFIG_DIR"] = folder
    try:
        return importlib.import_module("ultralytics")
    except ImportError as error:
        raise DetectorError(
            f"YOLO models need the ultralytics package ({error}): pip install ultralytics; "
            "torchvision detectors and predictions from a file work without it"
        ) from error


def load_yolo(  # noqa: PLR0913 - what a user may choose, by keyword
    weights: str | Path,
    *,
    architecture: str | None = None,
    class_names: Sequence[str] | None = None,
    device: str = "auto",
    image_size: int | tuple[int, int] | None = None,
    score_threshold: float = 0.05,
    nms_iou: float = 0.7,
    max_detections: int = 300,
    dropout_samples: int = 0,
    new_head: bool = False,
    half: bool | None = None,
    head: HeadName = "auto",
    download: bool = False,
    trust_checkpoint: bool = False,
) -> Detector:
    """Load a YOLO detection model: v5u, v8, v9, v10, 11, 12, 26 and what is built like them.

    No code of a checkpoint or model YAML is run (see `detal.detectors.yolo_checkpoints`).

    Args:
        weights: A checkpoint, a model YAML or its name (``yolo11n.yaml``: random weights), or a
            state dict file.
        architecture: Model YAML or its name, for a state dict.
        class_names: C names, where the weights name none or others are wanted.
        device: ``auto``, ``cpu``, ``cuda[:i]`` or ``mps``.
        image_size: Long side, or height and width, of the network input in pixels, rounded up to
            the model's stride; None: the size the checkpoint was trained at, else 640.
        score_threshold: Boxes are kept if their best class score is greater, in [0, 1].
        nms_iou: Overlap above which the weaker box of a class is dropped.
        max_detections: Boxes kept per image.
        dropout_samples: Times the last classification layer runs with dropout for each kept box, so
            that detections carry ``mutual_information``; 0: not at all.
        new_head: A state dict needs everything below the head only; the head is random, of one
            class, and its boxes mean nothing (see `FeaturesOnly`).
        half: Half precision, bfloat16 on the CPU and float16 elsewhere; None: on CUDA.
        head: For a model with two heads which one to read; ``auto``: the one that the installed
            library's own predictor reads. The one-to-one head goes without suppression and gives
            one label per box, as the library does with ``agnostic_nms=True``.
        download: Let the library fetch weights that are named but not on disk.
        trust_checkpoint: Load a checkpoint by the library itself, whatever it holds: this runs the
            code of whoever made it.

    Raises:
        DetectorError: If the model cannot be loaded or is not a detection model.
    """
    library = import_ultralytics(download=download)
    target = resolve_device(device)
    model: Any
    if architecture is None:
        model = load_model(weights, download=download, trust_checkpoint=trust_checkpoint)
    else:
        model = _load_state(Path(weights), architecture, new_head=new_head)
    names = _class_names(model, class_names)
    digest = fingerprint(model)
    size = _size_hw(model, image_size)
    head = _open_head(model, head, library_version=str(library.__version__))
    if half is None:
        half = target.type == "cuda"
    model.requires_grad_(requires_grad=False).fuse(verbose=False)
    dtype = half_type(target) if half else torch.float32
    model.eval().to(device=target, dtype=dtype)
    return YoloDetector(
        model,
        class_names=names,
        fingerprint=digest,
        device=target,
        dtype=dtype,
        size_hw=size,
        score_threshold=score_threshold,
        nms_iou=nms_iou,
        max_detections=max_detections,
        dropout_samples=dropout_samples,
        end_to_end=head == "one2one",
    )


def load_model(
    weights: str | Path, *, download: bool = False, trust_checkpoint: bool = False, seed: int = 0
) -> nn.Module:
    """The model of a checkpoint or model YAML, in full precision.

    Args:
        weights: As `load_yolo`.
        download: As `load_yolo`.
        trust_checkpoint: As `load_yolo`.
        seed: Of the random weights of a model YAML.

    Raises:
        DetectorError: If it cannot be loaded or is refused.
    """
    library = import_ultralytics(download=download)
    path = Path(weights)
    is_yaml = path.suffix.lower() in {".yaml", ".yml"}
    if not (is_yaml or download or is_file(path)):
        raise DetectorError(
            f"YOLO weights must be a file on disk or a model YAML, found no file {str(path)!r} "
            f"(from {Path.cwd()}); with network access download=True fetches weights by name"
        )
    if is_yaml and "rtdetr" in path.name.lower():
        raise DetectorError(f"a YOLO detection model is needed, {path} is an RT-DETR model")
    if path.suffix.lower() in _EXPORTED:
        raise DetectorError(
            f"YOLO weights must be a PyTorch checkpoint or a model YAML, {path} is an exported "
            "model: use the .pt file it was exported from"
        )
    try:
        if is_yaml:
            check_model_yaml(str(path))
        elif not is_file(path):
            downloads = importlib.import_module("ultralytics.utils.downloads")
            path = Path(downloads.attempt_download_asset(str(weights)))
        if not (is_yaml or trust_checkpoint):
            return read_checkpoint(path)
        with _building(seed):
            model: nn.Module = library.YOLO(str(path)).model
        return model.float()
    except UNREADABLE as error:
        raise DetectorError(_unreadable(path, error)) from error


@contextmanager
def _building(seed: int) -> Iterator[None]:
    """Random weights neither depend on nor disturb the generator of whoever calls."""
    with torch.random.fork_rng(devices=[]), activation_kept():
        seed_torch(seed)
        yield


def _load_state(weights: Path, architecture: str, *, new_head: bool) -> nn.Module:
    state = {
        name: value.float() if value.is_floating_point() else value
        for name, value in read_state_dict(weights).items()
    }
    found = re.compile(r"(?:model\.)+\d+\.cv3\.0\.2\.bias")
    counts = [len(value) for name, value in state.items() if found.fullmatch(name)]
    if len(counts) != 1 and not new_head:
        raise DetectorError(
            f"a YOLO state dict must hold a head of v8 or later (…cv3.0.2.bias), {weights} has "
            f"none among its {len(state)} tensors"
        )
    try:
        tasks = importlib.import_module("ultralytics.nn.tasks")
        check_model_yaml(architecture)
        with _building(seed=0):
            classes = 1 if new_head else counts[0]
            model: nn.Module = tasks.DetectionModel(architecture, nc=classes, verbose=False)
        model.load_state_dict(_below_head(model, state) if new_head else state)
    except UNREADABLE as error:
        raise DetectorError(
            f"the state dict {weights} must fit the architecture {architecture}: "
            f"{_first_line(error)}"
        ) from error
    return model


def _below_head(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The model's own head with the rest of ``state``; what is missing stays missing."""
    head = f"model.{len(_layers(model)) - 1}."
    own = {name: value for name, value in model.state_dict().items() if name.startswith(head)}
    return {n: v for n, v in state.items() if not n.startswith(head)} | own


def _unreadable(path: Path, error: BaseException) -> str:
    text = f"YOLO model {path} cannot be loaded: {_first_line(error)}"
    if isinstance(error, (ImportError, AttributeError)):
        text += (
            "; checkpoints of the original YOLOv5, v7 or of another ultralytics version need "
            "converting or a newer ultralytics"
        )
    try:
        read_state_dict(path)
    except DetectorError:
        return text
    return f"{text}; it is a plain state dict: name its model YAML as architecture"


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])[:300]}" if lines else repr(error)


def _class_names(model: nn.Module, given: Sequence[str] | None) -> tuple[str, ...]:
    head = _layers(model)[-1]
    kind = type(head).__name__
    if kind not in {"Detect", "v10Detect"}:
        what = _OTHER_TASKS.get(kind, f"a model that ends in {kind}")
        raise DetectorError(
            f"a YOLO detection model (v5u, v8, v9, v10, 11, 12, 26) is needed, this is {what}"
        )
    count = int(head.nc)
    names: Any = getattr(model, "names", None) if given is None else given
    if isinstance(names, dict):
        names = [names[key] for key in sorted(names)]
    if names is not None and not isinstance(names, list | tuple):
        raise DetectorError(f"class names must be a list, the model's are {names!r:.60}")
    result = tuple(str(name) for name in names or (f"class {i}" for i in range(count)))
    if len(result) != count:
        raise DetectorError(f"the model has {count} classes, got {len(result)} class names")
    return result


def _layers(model: nn.Module) -> Any:
    layers = getattr(model, "model", None)
    if not isinstance(layers, nn.Sequential) or not len(layers):
        raise DetectorError(
            f"a YOLO model must be a sequence of layers, got {type(model).__name__}"
        )
    return layers


def _size_hw(model: nn.Module, image_size: int | tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of the network input: whole strides, as the library rounds them."""
    if image_size is None:
        args: Any = getattr(model, "args", None)
        trained = args.get("imgsz") if isinstance(args, dict) else getattr(args, "imgsz", None)
        image_size = trained if isinstance(trained, int) else 640
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    stride = max(int(max(_layers(model)[-1].stride)), 32)
    return -(-height // stride) * stride, -(-width // stride) * stride


def _open_head(model: nn.Module, head: HeadName, *, library_version: str) -> HeadName:
    """Replace the last layer by an `OpenHead` over the wanted branches and say which these are."""
    layers = _layers(model)
    last = layers[-1]
    branches = {
        "one2many": (last.cv2, last.cv3),
        "one2one": (getattr(last, "one2one_cv2", None), getattr(last, "one2one_cv3", None)),
    }
    present = [name for name, pair in branches.items() if pair[0] is not None]
    chosen = head
    if head == "auto":
        numbers = tuple(int(n) for n in re.findall(r"\d+", library_version)[:3])
        chosen = "one2many" if numbers >= _ONE2MANY_SINCE else "one2one"
        chosen = chosen if chosen in present else "one2many" if "one2many" in present else "one2one"
    if chosen not in present:
        raise DetectorError(f"head={chosen} is not in this model, it has {' and '.join(present)}")
    box_head, class_head = branches[chosen]
    opened = OpenHead(box_head, class_head, strides=[float(s) for s in last.stride])
    opened.f, opened.i = last.f, last.i
    layers[-1] = opened.eval()
    return chosen
