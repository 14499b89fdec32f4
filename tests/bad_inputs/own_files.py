"""Files of detal's own, damaged or forged: runs, decisions, stores, sets, studies, tables."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.bad_inputs.cases import Case, Make, family, select

__all__ = ["cases"]

_DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "binary": lambda data: bytes(range(256)) * 4,
    "zeros": lambda data: bytes(len(data)),
    "deep": lambda data: b"[" * 200_000,
    "null": lambda data: b"null",
    "list": lambda data: b"[1, 2]",
    "object": lambda data: b"{}",
    "number-for-text": lambda data: data.replace(b'"', b""),
}


def cases() -> list[Case]:
    """All of them."""
    return [
        *family("run, reported", _damaged("run/run.json", _report)),
        *family("run, exported", _damaged("run/coco.json", _export)),
        *family("run, merged", _damaged("run/selection.csv", _merge, _CSV), used=_CSV_TAKEN),
        *family("run, kept data", _damaged("run/report_data/data.json", _report)),
        *family(
            "run, fields",
            {f"no-{k}": _without(k) for k in _RUN_KEYS} | _run_values(),
            used={"no-spent": "a report does not need it"},
        ),
        *family("decisions", _damaged("run.review.json", _decide) | _decisions()),
        *family("labelled set", _damaged("labeled/labeled.json", _merge) | _labeled()),
        *family("store", {name: _stored(*damage) for name, damage in _STORE.items()}),
        *family("study", _damaged("study/arms/entropy/seed-0/round-1/result.json", _study)),
        *family("study, reported", _damaged(_RESULT, _study_report)),
        *family("tables", _damaged("table/curves.json", _show)),
        *family("tables of groups", _damaged("table/groups.json", _show)),
        *family("answers", _answers()),
        *family("paths", _paths(), used={"output-is-traversal": "a user may write where he says"}),
    ]


_RESULT = "study/arms/random/seed-1/round-2/result.json"
_RUN_KEYS = ("config", "strategy", "detector", "counts", "spent", "passed_over", "versions")


def _damaged(
    name: str,
    meet: Callable[[Path], Sequence[object]],
    damages: dict[str, Callable[[bytes], bytes]] | None = None,
) -> dict[str, Make]:
    def case(damage: Callable[[bytes], bytes]) -> Make:
        def make(folder: Path) -> Sequence[object]:
            arguments = meet(folder)
            file = folder / "world" / name
            file.write_bytes(damage(file.read_bytes()))
            return arguments

        return make

    return {key: case(damage) for key, damage in (damages or _DAMAGES).items()}


def _report(folder: Path) -> Sequence[object]:
    return ["report", folder / "world" / "run", "-o", folder / "report.html"]


def _export(folder: Path) -> Sequence[object]:
    return [
        *("export", folder / "world" / "run", "--to", "coco,csv,yolo,cvat,voc,label-studio"),
        *("-o", folder / "out"),
    ]


def _merge(folder: Path) -> Sequence[object]:
    world = folder / "world"
    if not (world / "labeled").exists():
        _first_merge(world)
    return ["merge", world / "run", world / "answers.json", "--into", world / "labeled"]


def _first_merge(world: Path) -> None:
    from detal.config import DatasetConfig
    from detal.loop.merge import merge

    answers = DatasetConfig(path=str(world / "answers.json"))
    merge(world / "run", answers, into=world / "labeled")


def _decide(folder: Path) -> Sequence[object]:
    world = folder / "world"
    record = {"version": 1, "run": "x", "verdicts": [["id0000", "rejected"]], "replaced_by": []}
    from detal.review import open_session

    with open_session(world / "run") as session:
        session.decide(0, "rejected")
    file = world / "run.review.json"
    if not file.exists():
        file.write_text(json.dumps(record))
    return ["review", world / "run", "--export", "-o", folder / "out"]


def _study(folder: Path) -> Sequence[object]:
    return ["curves", folder / "world" / "study", "--output", folder / "out"]


def _study_report(folder: Path) -> Sequence[object]:
    return ["report", folder / "world" / "study", "-o", folder / "report.html"]


def _show(folder: Path) -> Sequence[object]:
    return ["tables", "show", folder / "world" / "table", "--output", folder / "curves.png"]


def _line(data: bytes, column: str, value: str) -> bytes:
    header, first, *rest = data.decode().splitlines()
    cells = dict(zip(header.split(","), first.split(","), strict=False))
    cells[column] = value
    return "\n".join([header, ",".join(cells.values()), *rest]).encode()


_CSV: dict[str, Callable[[bytes], bytes]] = {
    **{k: _DAMAGES[k] for k in ("empty", "truncated", "binary", "zeros", "null")},
    "header-only": lambda data: data.splitlines()[0],
    "no-rank": lambda data: data.replace(b"rank", b"rang", 1),
    "rank-text": lambda data: _line(data, "rank", "first"),
    "width-infinite": lambda data: _line(data, "width", "inf"),
    "width-digits": lambda data: _line(data, "width", "9" * 5000),
    "path-traversal": lambda data: _line(data, "path", "../../../../../../etc/passwd"),
    "path-nul": lambda data: _line(data, "path", "a\0b.png"),
    "path-device": lambda data: _line(data, "path", "/dev/zero"),
    "same-image-twice": lambda data: data + data.splitlines()[1] + b"\n",
    "long-cell": lambda data: _line(data, "reason", "x" * 200_000),
    "open-quote": lambda data: _line(data, "reason", '"'),
    "formula": lambda data: _line(data, "reason", "=1+1"),
}
_CSV_TAKEN = {
    "formula": "a reason is text; what detal writes protects it",
}


def _without(key: str) -> Make:
    def make(folder: Path) -> Sequence[object]:
        file = folder / "world" / "run" / "run.json"
        record = json.loads(file.read_text())
        del record[key]
        file.write_text(json.dumps(record))
        return _report(folder)

    return make


def _run_values() -> dict[str, Make]:
    def with_value(value: Any, *keys: str) -> Make:
        def make(folder: Path) -> Sequence[object]:
            file = folder / "world" / "run" / "run.json"
            record = json.loads(file.read_text())
            part = record
            for key in keys[:-1]:
                part = part[key]
            part[keys[-1]] = value
            file.write_text(json.dumps(record))
            return _report(folder)

        return make

    return {
        "config-number": with_value(5, "config"),
        "config-list": with_value([], "config"),
        "pool-null": with_value(None, "config", "pool"),
        "min-score-text": with_value("low", "config", "manifest", "min_score"),
        "min-score-nan": with_value(float("nan"), "config", "manifest", "min_score"),
        "candidates-text": with_value("many", "counts", "candidates"),
        "versions-list": with_value([1], "versions"),
        "strategy-null": with_value(None, "config", "strategy"),
        "passed-over-text": with_value("x", "passed_over"),
    }


def _decisions() -> dict[str, Make]:
    def with_value(key: str, value: Any) -> Make:
        def make(folder: Path) -> Sequence[object]:
            arguments = _decide(folder)
            file = folder / "world" / "run.review.json"
            file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
            return arguments

        return make

    return {
        "version-99": with_value("version", 99),
        "other-run": with_value("run", "0000"),
        "unknown-image": with_value("verdicts", [["nobody", "rejected"]]),
        "unknown-verdict": with_value("verdicts", [["id0000", "<script>"]]),
        "verdicts-number": with_value("verdicts", 5),
        "replaced-by-itself": with_value("replaced_by", [["id0000", "id0000"]]),
        "replaced-in-circle": with_value(
            "replaced_by", [["id0000", "id0001"], ["id0001", "id0000"]]
        ),
    }


def _labeled() -> dict[str, Make]:
    def with_info(value: Any) -> Make:
        def make(folder: Path) -> Sequence[object]:
            arguments = _merge(folder)
            file = folder / "world" / "labeled" / "labeled.json"
            file.write_text(json.dumps({**json.loads(file.read_text()), "info": value}))
            return arguments

        return make

    return {
        "info-null": with_info(None),
        "info-runs-list": with_info({"runs": [1], "val": None}),
        "info-val-number": with_info({"runs": {}, "val": 5}),
        "round-text": with_info({"runs": {"a": "first"}, "val": None}),
    }


_STORE: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    f"{kind}-{name}": (pattern, _DAMAGES[name])
    for kind, pattern in (
        ("index", "[!.]*[!s].parquet"),
        ("boxes", "*.boxes.parquet"),
        ("logits", "*.logits.npy"),
    )
    for name in ("empty", "truncated", "binary", "zeros")
}


def _stored(pattern: str, damage: Callable[[bytes], bytes]) -> Make:
    def make(folder: Path) -> Sequence[object]:
        from detal.config import SelectConfig, load_config
        from detal.runs.select import run_select

        first = [str(a) for a in select(folder)[1:]]
        run_select(load_config(SelectConfig, None, first), progress=lambda title: lambda d, t: None)
        (store,) = (folder / "detal_store").iterdir()
        files = [f for f in store.glob(pattern) if pattern[0] == "*" or ".boxes" not in f.name]
        for file in files:
            file.write_bytes(damage(file.read_bytes()))
        if not files:
            raise ValueError(f"no file {pattern} in {sorted(store.iterdir())}")
        shutil.rmtree(folder / "out")
        return select(folder)

    return make


def _answers() -> dict[str, Make]:
    def with_answers(change: Callable[[dict[str, Any]], Any]) -> Make:
        def make(folder: Path) -> Sequence[object]:
            file = folder / "world" / "answers.json"
            document = json.loads(file.read_text())
            changed = change(document)
            file.write_text(json.dumps(document if changed is None else changed))
            world = folder / "world"
            return ["merge", world / "run", file, "--into", folder / "labeled"]

        return make

    def all_boxes(value: Any) -> Callable[[dict[str, Any]], Any]:
        return lambda document: [a.update(bbox=value) for a in document["annotations"]] and None

    return {
        "nothing-asked-for": with_answers(
            lambda d: (
                [
                    i.update(file_name=f"other{n}.png", detal_image_id=f"z{n}")
                    for n, i in enumerate(d["images"])
                ]
                and None
            )
        ),
        "boxes-nan": with_answers(all_boxes([float("nan")] * 4)),
        "boxes-infinite": with_answers(all_boxes([0, 0, float("inf"), float("inf")])),
        "boxes-outside": with_answers(all_boxes([9000, 9000, 5, 5])),
        "no-annotations": with_answers(lambda d: {k: d[k] for k in ("images", "categories")}),
        "an-image-twice": with_answers(
            lambda d: d["images"].append({**d["images"][0], "id": 10**6})
        ),
        "paths-out-of-the-folder": with_answers(
            lambda d: (
                [
                    i.update(file_name="../../../../etc/passwd", detal_image_id=None)
                    for i in d["images"]
                ]
                and None
            )
        ),
        "list": with_answers(lambda d: d["images"]),
    }


def _loop(folder: Path) -> Sequence[object]:
    (folder / "a").symlink_to(folder / "b")
    (folder / "b").symlink_to(folder / "a")
    return ["check", folder / "a"]


def _list_of(*lines: str) -> Make:
    def make(folder: Path) -> Sequence[object]:
        (folder / "list.txt").write_text("\n".join(lines))
        return ["check", folder / "list.txt"]

    return make


def _output(name: str) -> Make:
    """Select into a place where somebody's work lies."""

    def make(folder: Path) -> Sequence[object]:
        (folder / "mine").mkdir()
        (folder / "mine" / "thesis.txt").write_text("years of work")
        return select(folder, f"output={folder / name}")

    return make


def _merge_into(name: str) -> Make:
    def make(folder: Path) -> Sequence[object]:
        world = folder / "world"
        return ["merge", world / "run", world / "answers.json", "--into", world / name]

    return make


def _select_into_labels(folder: Path) -> Sequence[object]:
    _first_merge(folder / "world")
    return select(folder, f"output={folder / 'world' / 'labeled'}")


def _paths() -> dict[str, Make]:
    return {
        "links-in-a-circle": _loop,
        "a-device": lambda folder: ["check", "/dev/null"],
        "a-list-of-devices": _list_of("/dev/zero", "../../../../../etc/passwd", "\0", "x" * 9999),
        "a-list-of-itself": _list_of("list.txt"),
        "a-file-for-a-run": lambda folder: ["report", folder / "world" / "coco.json"],
        "output-holds-work": _output("mine"),
        "output-is-a-file": _output("mine/thesis.txt"),
        "output-below-a-file": _output("mine/thesis.txt/out"),
        "output-is-traversal": _output("deep/../out2"),
        "output-is-the-labelled-set": _select_into_labels,
        "merge-into-the-run": _merge_into("run"),
        "merge-into-a-dataset": _merge_into("yolo"),
        "a-prefix-that-is-a-script": lambda folder: [
            *_export(folder),
            *("--image-prefix", "=javascript:alert(1)"),
        ],
        "a-long-name": lambda folder: ["check", "x" * 5000],
        "a-broken-pattern": lambda folder: ["check", f"{folder}/[{'*' * 50}"],
    }
