"""Checkpoints, model YAMLs, predictions, configs and tables of strangers."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.bad_inputs.annotations import YAML_OBJECTS
from tests.bad_inputs.cases import Case, Make, check, family, select
from tests.datasets.making import write_text

__all__ = ["TRAPS", "Trap", "cases", "trapped_yaml"]

SEED = Path(__file__).resolve().parents[2] / "data" / "sandbox" / "yolo_seed.pt"


def cases() -> list[Case]:
    """All of them."""
    return [
        *family("checkpoints", {k: _checkpoint(v) for k, v in _checkpoints().items()}),
        *family("model YAMLs", {k: _architecture(v) for k, v in _architectures().items()}),
        *family("predictions", _predictions(), used=_PREDICTIONS_TAKEN),
        *family("configs", _configs(), used=_CONFIGS_TAKEN),
        *family("CSV files", _tables(), used=_TABLES_TAKEN),
    ]


class Trap:
    """Something that makes a file when it is unpickled as pickle does it."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"open({self.target!r}, 'w').close()",)


class _Call:
    """Unpickles to the result of a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def trapped_yaml(target: str = "harmed") -> dict[str, Any]:
    """A tiny model whose activation, evaluated, makes a file."""
    return {
        "nc": 1,
        "activation": f"__import__('pathlib').Path({target!r}).touch() or nn.ReLU()",
        "backbone": [[-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [8, 3, 2]]],
        "head": [[[0, 1], 1, "Detect", ["nc"]]],
    }


def _saved(content: Any) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _seed_with(**changes: Any) -> bytes:
    from detal.detectors.yolo import load_model

    model: Any = load_model(SEED)
    for name, value in changes.items():
        setattr(model, name, value)
    return _saved({"model": model})


def _rezipped(change: Callable[[str, bytes], bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(SEED) as old, zipfile.ZipFile(buffer, "w", how) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, change(entry.filename, old.read(entry)))
    return buffer.getvalue()


def _model_of_call() -> bytes:
    """An allowed class, called: its constructor evaluates the YAML it is given."""
    from ultralytics.nn.tasks import DetectionModel

    return _saved({"model": _Call(DetectionModel, trapped_yaml())})


def _other_yaml() -> bytes:
    return _seed_with(yaml=trapped_yaml())


def _zip_bomb() -> bytes:
    def change(name: str, data: bytes) -> bytes:
        return bytes(300_000_000) if name.endswith("data/0") else data

    return _rezipped(change, zipfile.ZIP_DEFLATED)


def _stretched() -> bytes:
    import torch

    return _seed_with(extra=torch.nn.Parameter(torch.zeros(1).expand(10**12)))


TRAPS: dict[str, Callable[[], bytes]] = {
    "trap": lambda: _saved({"model": Trap("harmed")}),
    "trap-beside-a-model": lambda: _seed_with(trap=Trap("harmed")),
    "trap-in-a-plain-pickle": lambda: pickle.dumps(Trap("harmed")),
    "trap-in-an-old-pickle": lambda: pickle.dumps({"model": Trap("harmed")}, protocol=0),
    "constructor-called": _model_of_call,
    "trap-in-the-yaml": _other_yaml,
    "import-of-a-package": lambda: _saved({"model": _Call(__import__, "antigravity")}),
    "getattr": lambda: _saved({"model": _Call(getattr, "x", "upper")}),
    "numpy-pickle": lambda: _saved({"model": _Call(__import__("numpy").load, "x", None, True)}),
}
"""Checkpoints that run something when the library loads them; most make the file ``harmed``."""


def _checkpoints() -> dict[str, Callable[[], bytes]]:
    def seed() -> bytes:
        return SEED.read_bytes()

    return {
        **TRAPS,
        "empty": lambda: b"",
        "text": lambda: b"weights",
        "truncated": lambda: seed()[: len(seed()) // 2],
        "truncated-100": lambda: seed()[:100],
        "no-directory": lambda: seed()[:-30],
        "zip-bomb": _zip_bomb,
        "pickle-emptied": lambda: _rezipped(lambda n, d: b"" if n.endswith("data.pkl") else d),
        "pickle-cut": lambda: _rezipped(
            lambda n, d: d[: len(d) // 2] if n.endswith("data.pkl") else d
        ),
        "tensors-cut": lambda: _rezipped(lambda n, d: d[:2] if "/data/" in n else d),
        "byteorder-odd": lambda: _rezipped(lambda n, d: b"middle" if "byteorder" in n else d),
        "plain-zip": lambda: _rezipped(lambda n, d: b"x"),
        "a-list": lambda: _saved([1, 2, 3]),
        "no-model": lambda: _saved({"epoch": 3}),
        "model-is-text": lambda: _saved({"model": "yolo11n"}),
        "model-is-a-layer": lambda: _saved({"model": __import__("torch").nn.ReLU()}),
        "model-without-yaml": lambda: _seed_with(yaml=None),
        "yaml-of-unknown-layers": lambda: _seed_with(
            yaml={**trapped_yaml(), "activation": None, "backbone": [[-1, 1, "exec", ["1"]]]}
        ),
        "names-number": lambda: _seed_with(names=5),
        "names-too-few": lambda: _seed_with(names=["a"]),
        "stretched-tensor": _stretched,
        "state-dict-without-architecture": lambda: _saved({"a": __import__("torch").zeros(2)}),
        "torchscript": _script,
        "jpeg": lambda: b"\xff\xd8\xff\xe0" + bytes(1000),
    }


def _script() -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.ReLU(), torch.zeros(1)), buffer)
    return buffer.getvalue()


def _checkpoint(content: Callable[[], bytes]) -> Make:
    def make(folder: Path) -> Sequence[object]:
        (folder / "best.pt").write_bytes(content())
        return select(folder, "detector.type=yolo", f"detector.weights={folder / 'best.pt'}")

    return make


def _architectures() -> dict[str, str]:
    plain = {**trapped_yaml(), "activation": "nn.ReLU()"}
    call = {**plain, "backbone": [[-1, 1, "torch_safe_load", ["best.pt"]]]}
    nested = {**plain, "backbone": [[-1, 1, "DetectionModel", [trapped_yaml()]]]}
    return {
        "trap": json.dumps(trapped_yaml()),
        "trap-in-arguments": json.dumps(
            {**plain, "activation": "nn.ReLU(__import__('os').getpid())"}
        ),
        "trap-in-an-attribute": json.dumps({**plain, "activation": "nn.Module.__class__()"}),
        "activation-number": json.dumps({**plain, "activation": 5}),
        "function-for-a-layer": json.dumps(call),
        "model-for-a-layer": json.dumps(nested),
        "nn-function-for-a-layer": json.dumps(
            {**plain, "backbone": [[-1, 1, "nn.Parameter", [5]]]}
        ),
        "layer-number": json.dumps({**plain, "backbone": [5]}),
        "backbone-number": json.dumps({**plain, "backbone": 5}),
        "no-head": json.dumps({"nc": 1, "backbone": plain["backbone"]}),
        "empty": "",
        "list": "[1, 2]",
        "text": "yolo",
        **{f"value-{name}": f"nc: 1\nbackbone: {v}\n" for name, v in YAML_OBJECTS.items()},
    }


def _architecture(text: str) -> Make:
    def make(folder: Path) -> Sequence[object]:
        write_text(folder / "model.yaml", text)
        return select(folder, "detector.type=yolo", f"detector.weights={folder / 'model.yaml'}")

    return make


def _predictions() -> dict[str, Make]:
    def rows(content: Any) -> Make:
        def make(folder: Path) -> Sequence[object]:
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            (folder / "world" / "predictions.json").write_bytes(data)
            return select(folder)

        return make

    def row(**changes: Any) -> Make:
        plain = {"image_id": 1, "category_id": 1, "bbox": [2, 3, 10, 12], "score": 0.5}
        return rows([{**plain, **changes}])

    return {
        "empty": rows(b""),
        "text": rows(b"scores"),
        "deep": rows(b"[" * 200_000),
        "object": rows({}),
        "numbers": rows([1, 2]),
        "score-nan": row(score=float("nan")),
        "score-2": row(score=2),
        "score-text": row(score="high"),
        "score-10^400": row(score=10**400),
        "box-nan": row(bbox=[float("nan"), 1, 2, 3]),
        "box-infinite": row(bbox=[0, 0, float("inf"), 1]),
        "box-10^400": row(bbox=[10**400, 0, 1, 1]),
        "box-1e300": row(bbox=[1e300, 0, 1, 1]),
        "box-short": row(bbox=[1, 2]),
        "box-text": row(bbox="box"),
        "category-unknown": row(category_id=99),
        "category-list": row(category_id=[1]),
        "category-object": row(category_id={}),
        "image-unknown": row(image_id="nobody"),
        "image-object": row(image_id={}),
        "logits-short": row(logits=[1.0]),
        "logits-nan": row(logits=[float("nan"), 1.0]),
        "logits-1e300": row(logits=[1e300, 1.0]),
        "scores-10^400": row(scores=[10**400, 0.5]),
        "nothing": rows([]),
    }


_PREDICTIONS_TAKEN = {
    "image-unknown": "predictions of other images do not matter",
    "image-object": "predictions of other images do not matter",
    "nothing": "no image has detections",
}


def _configs() -> dict[str, Make]:
    def config(text: str | bytes) -> Make:
        def make(folder: Path) -> Sequence[object]:
            data = text.encode() if isinstance(text, str) else text
            (folder / "config.yaml").write_bytes(data)
            return ["show-config", "-c", folder / "config.yaml", "output=out"]

        return make

    def override(*values: str) -> Make:
        return lambda folder: ["show-config", "pool=x", "output=out", *values]

    def running(*values: str) -> Make:
        return lambda folder: select(folder, *values)

    return {
        "empty": config(""),
        "list": config("[1]"),
        "binary": config(bytes(range(256))),
        "unknown-key": config("pool: x\nbudgte: 5\n"),
        "unknown-section": config("pool: x\ndetector: {wieghts: a.pt}\n"),
        "pool-number": config("pool: 5\n"),
        "pool-nul": running("pool=a\0b"),
        "budget-nan": config("pool: x\nbudget: .nan\n"),
        "budget-infinite": config("pool: x\nbudget: .inf\n"),
        "budget-negative": config("pool: x\nbudget: -5\n"),
        "budget-text": config("pool: x\nbudget: many\n"),
        "seed-text": config("pool: x\nseed: one\n"),
        "strategy-number": config("pool: x\nstrategy: 5\n"),
        "keys-numbers": config("pool: x\n5: 6\n"),
        "keys-lists": config("pool: x\n? [1, 2]\n: 3\n"),
        "pool-twice": config("pool: x\npool: y\n"),
        "label-traversal": config("pool: x\nstrategy: {name: random, label: ../../x}\n"),
        "image-size-huge": config("pool: x\ndetector: {image_size: 1" + "0" * 400 + "}\n"),
        "home-of-nobody": running("pool=~nobody-of-that-name/x"),
        **{f"value-{name}": config(f"pool: {value}\n") for name, value in YAML_OBJECTS.items()},
        "override-object": override("seed=!!python/object/apply:os.system ['touch harmed']"),
        "override-no-equals": override("budget"),
        "override-no-key": override("=5"),
        "override-deep": override(".".join(["a"] * 5000) + "=1"),
        "override-nested-deep": override("budget=" + "[" * 5000),
        "override-nul": running("detector.weights=a\0b"),
        "sql-injection": running('strategy={name: filter, where: "1=1; DROP TABLE images; --"}'),
        "sql-file": running("strategy={name: filter, where: \"read_csv('/etc/passwd')\"}"),
        "sql-nested": running("strategy={name: filter, where: '" + "(" * 3000 + "'}"),
        "sql-unknown": running("strategy={name: weighted, score: nothing}"),
        "sql-text": running("strategy={name: weighted, score: image_id}"),
        "strategy-options": running("strategy={name: entropy, aggregation: most}"),
        "strategy-recursive": running("strategy={name: combine, parts: []}"),
        "budget-tiny": running("budget=0.001"),
        "class-names": running("detector.class_names=[a]"),
    }


_CONFIGS_TAKEN = {
    "pool-twice": "YAML lets the last count",
    "value-sexagesimal": "a path is text",
    "budget-infinite": "no limit",
    "budget-tiny": "no image is as cheap",
}


def _tables() -> dict[str, Make]:
    def metadata(content: bytes | str) -> Make:
        def make(folder: Path) -> Sequence[object]:
            data = content.encode() if isinstance(content, str) else content
            (folder / "metadata.csv").write_bytes(data)
            return check(folder / "world" / "coco.json", "--metadata", folder / "metadata.csv")

        return make

    def curve(content: bytes | str) -> Make:
        def make(folder: Path) -> Sequence[object]:
            data = content.encode() if isinstance(content, str) else content
            (folder / "curve.csv").write_bytes(data)
            return ["advise", folder / "curve.csv"]

        return make

    return {
        "metadata-empty": metadata(""),
        "metadata-header": metadata("image_id,x\n"),
        "metadata-no-key": metadata("a,b\n1,2\n"),
        "metadata-binary": metadata(bytes(range(256))),
        "metadata-utf-16": metadata("image_id,x\n1,2\n".encode("utf-16")),
        "metadata-ragged": metadata("image_id,x\n1,2,3,4\n2\n"),
        "metadata-open-quote": metadata('image_id,x\n1,"2\n2,3\n'),
        "metadata-nul": metadata("image_id,x\n1,a\0b\n"),
        "metadata-same-column": metadata("image_id,x,x\n1,2,3\n"),
        "metadata-unknown-image": metadata("image_id,x\n99,2\n"),
        "metadata-image-twice": metadata("image_id,x\n1,2\n1,3\n"),
        "metadata-10^400": metadata("image_id,x\n1," + "9" * 400 + "\n2,3\n"),
        "metadata-20000-columns": metadata(
            "image_id," + ",".join(f"c{i}" for i in range(20_000)) + "\n1" + ",1" * 20_000 + "\n"
        ),
        "metadata-reserved": metadata("image_id,path,__row,group\n1,/etc/passwd,0,g\n"),
        "metadata-formula": metadata("image_id,x\n1,\"=cmd|'/C calc'!A0\"\n"),
        "metadata-folder": lambda folder: check(
            folder / "world" / "coco.json", "--metadata", folder / "world"
        ),
        "curve-empty": curve(""),
        "curve-header": curve("boxes,mean_ap\n"),
        "curve-one-row": curve("boxes,mean_ap\n10,0.1\n"),
        "curve-text": curve("boxes,mean_ap\nmany,good\n"),
        "curve-nan": curve("boxes,mean_ap\n10,nan\n20,0.2\n30,0.3\n"),
        "curve-percent": curve("boxes,mean_ap\n10,10\n20,20\n"),
        "curve-infinite": curve("boxes,mean_ap\n10,0.1\ninf,0.2\n30,0.3\n"),
        "curve-same-boxes": curve("boxes,mean_ap\n10,0.1\n10,0.2\n10,0.3\n"),
        "curve-negative": curve("boxes,mean_ap\n-10,0.1\n-5,0.2\n0,0.3\n"),
        "curve-binary": curve(bytes(range(256))),
        "curve-missing": lambda folder: ["advise", folder / "nowhere.csv"],
    }


_TABLES_TAKEN = {
    "metadata-header": "no row says nothing",
    "metadata-nul": "text may hold any character",
    "metadata-20000-columns": "that many columns are metadata",
    "metadata-reserved": "a path cannot be replaced, a group can",
    "metadata-formula": "text; what detal writes protects it",
    "metadata-same-column": "the second gets a name of its own",
}
