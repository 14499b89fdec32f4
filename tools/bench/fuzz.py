"""Fuzz the readers: valid files, changed in structure and bytes, must be read or refused.

A reader may raise a `DetalError`; anything else, a broken promise of what it returns or more than
ten seconds of processor time is a finding, kept in the folder of findings and told at the end. With
atheris (``pip install atheris``) changes follow the coverage of detal's code, without it they are
blind. The folder also keeps what was reached so far: the same command goes on.

python tools/bench/fuzz.py coco voc yolo --seconds 900 --findings /tmp/findings
"""

from __future__ import annotations

import argparse
import copy
import csv
import hashlib
import io
import json
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

MOST_SECONDS = 10
HUNG_SECONDS = 600  # of a clock: what never comes back from C to Python
_INTERESTING: tuple[Any, ...] = (
    *(0, 1, -1, 2**31, 2**63, -(2**63), 10**400, 0.5, 1e-320, 1e308, -1e308),
    *(float("nan"), float("inf"), True, None, "", "cat", "1", "nan", "\ud800", "\0", "x" * 300),
    *("../../etc/passwd", "http://127.0.0.1:9/", [], {}, [[]], {"a": {}}),
)
_PIECES = (
    *(b"0", b"-1", b"1e999", b"nan", b"inf", b"9" * 400, b"\0", b"\xff", b"\xef\xbb\xbf", b"\n"),
    *(
        b"\r",
        b'"',
        b"'",
        b",",
        b";",
        b":",
        b"- ",
        b"  ",
        b"[",
        b"]",
        b"{",
        b"}",
        b"<",
        b">",
        b"&a;",
    ),
    *(b"<!DOCTYPE a [", b"!!python/name:os.system", b"*a", b"&a ", b"\xed\xa0\x80", b"%s", b"\t"),
)

Mutate = Callable[[bytes, np.random.Generator], bytes]


@dataclass(frozen=True)
class Reader:
    """One thing that reads files.

    Attributes:
        seeds: Valid contents.
        read: Reads a content with the help of an empty folder.
        mutate: Changes a content in its structure.
        about: Modules whose coverage guides.
    """

    seeds: Callable[[], Sequence[bytes]]
    read: Callable[[bytes, Path], None]
    mutate: Mutate
    about: tuple[str, ...]


@dataclass
class Session:
    """What a run of one reader found."""

    name: str
    reader: Reader
    findings: Path
    scratch: Path
    examples: int = 0
    refused: int = 0
    output: Path | None = None
    guided: bool = False
    before: dict[str, Any] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    saved: float = 0.0
    found: dict[str, str] = field(default_factory=dict)

    def meet(self, data: bytes) -> None:
        """Read one content, and keep it if that goes wrong."""
        from detal.errors import DetalError

        self.examples += 1
        for entry in self.scratch.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
        try:
            self.reader.read(data, self.scratch)
        except DetalError:
            self.refused += 1
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            self._keep(data, error)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        if time.monotonic() - self.saved > 1:
            self.save()

    def _keep(self, data: bytes, error: BaseException) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [f for f in frames if "/detal/" in f.filename] or list(frames)
        place = f"{type(error).__name__} in {Path(ours[-1].filename).name}:{ours[-1].lineno}"
        if place not in self.found:
            digest = hashlib.blake2b(data, digest_size=4).hexdigest()
            self.found[place] = f"{place}: {str(error)[:200]}"
            self.findings.mkdir(parents=True, exist_ok=True)
            (self.findings / f"{self.name}-{digest}").write_bytes(data)
            print(f"{self.name}: {self.found[place]} ({self.name}-{digest})", flush=True)

    def save(self) -> None:
        """Write the figures so far; libFuzzer ends its process without a word."""
        self.saved = time.monotonic()
        if self.output is not None:
            self.output.write_text(json.dumps(self.figures()), encoding="utf-8")

    def figures(self) -> dict[str, Any]:
        """For the result file, with those of the runs before."""
        now = {
            "seconds": round(time.monotonic() - self.started),
            "cpu_seconds": round(time.process_time()),
            "examples": self.examples,
            "refused": self.refused,
        }
        return {
            "reader": self.name,
            "guided": self.guided,
            **{key: value + self.before.get(key, 0) for key, value in now.items()},
            "findings": sorted({*self.before.get("findings", []), *self.found.values()}),
        }


# --- Changing contents ----------------------------------------------------------------------------


def mutate_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """Flip, cut, repeat, or put a piece in."""
    if not data:
        return bytes(rng.integers(0, 256, 8).tolist())
    a, b = sorted(int(v) for v in rng.integers(0, len(data) + 1, 2))
    b = min(b, a + int(rng.integers(1, 65)))
    kind = int(rng.integers(6))
    if kind == 0:
        return data[:a] + bytes(rng.integers(0, 256, b - a).tolist()) + data[b:]
    if kind == 1:
        return data[:a] + data[b:]
    if kind == 2:
        return data[:b] + data[a:]
    if kind == 3:
        return data[:a]
    return data[:a] + _PIECES[int(rng.integers(len(_PIECES)))] + data[a if kind == 4 else b :]


def mutate_json(data: bytes, rng: np.random.Generator) -> bytes:
    """Replace, drop, double or wrap a value anywhere in the document."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return mutate_bytes(data, rng)
    places = list(_places(document))
    if not places or rng.random() < 0.1:
        return mutate_bytes(data, rng)
    holder, key = places[int(rng.integers(len(places)))]
    kind = int(rng.integers(6))
    if kind <= 2:
        holder[key] = _INTERESTING[int(rng.integers(len(_INTERESTING)))]
    elif kind == 3:
        del holder[key]
    elif kind == 4:
        other, other_key = places[int(rng.integers(len(places)))]
        holder[key] = json.loads(json.dumps(other[other_key]))
    else:
        holder[key] = [holder[key]] * int(rng.integers(1, 4))
    return json.dumps(document).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every holder and key of a value in a document."""
    if not isinstance(value, dict | list):
        return
    for key, part in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        yield from _places(part)


def mutate_xml(data: bytes, rng: np.random.Generator) -> bytes:
    """Change, drop or double an element, attribute or text."""
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError):
        return mutate_bytes(data, rng)
    parents = [element for element in root.iter() if len(element)]
    elements = list(root.iter())
    if not parents or rng.random() < 0.1:
        return mutate_bytes(data, rng)
    element = elements[int(rng.integers(len(elements)))]
    parent = parents[int(rng.integers(len(parents)))]
    child = parent[int(rng.integers(len(parent)))]
    odd = str(_INTERESTING[int(rng.integers(len(_INTERESTING)))])
    kind = int(rng.integers(5))
    if kind == 0:
        element.text = odd
    elif kind == 1 and element.attrib:
        element.set(list(element.attrib)[int(rng.integers(len(element.attrib)))], odd)
    elif kind == 2:
        parent.remove(child)
    elif kind == 3:
        parent.append(copy.deepcopy(child))
    else:
        element.tag = elements[int(rng.integers(len(elements)))].tag
    return ElementTree.tostring(root).replace(b"\0", b"&#0;")


def mutate_lines(data: bytes, rng: np.random.Generator) -> bytes:
    """Change a word, drop, double or swap a line."""
    lines = data.splitlines(keepends=True)
    if len(lines) < 2 or rng.random() < 0.3:
        return mutate_bytes(data, rng)
    i, j = (int(v) for v in rng.integers(0, len(lines), 2))
    kind = int(rng.integers(4))
    if kind == 0:
        del lines[i]
    elif kind == 1:
        lines.insert(j, lines[i])
    elif kind == 2:
        lines[i], lines[j] = lines[j], lines[i]
    else:
        separator = b"," if b"," in lines[i] else b" "
        words = lines[i].split(separator)
        odd = str(_INTERESTING[int(rng.integers(len(_INTERESTING)))])
        words[int(rng.integers(len(words)))] = odd.encode("utf-8", "surrogatepass")
        lines[i] = separator.join(words)
    return b"".join(lines)


def mutate_zip(data: bytes, rng: np.random.Generator) -> bytes:
    """Change one member of an archive."""
    out = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
            members = old.infolist()
            chosen = members[int(rng.integers(len(members)))] if rng.random() < 0.3 else members[0]
            for member in members:
                content = old.read(member)
                new.writestr(
                    member.filename, mutate_bytes(content, rng) if member is chosen else content
                )
    except (zipfile.BadZipFile, OSError, ValueError, IndexError, EOFError, NotImplementedError):
        return mutate_bytes(data, rng)
    return out.getvalue()


# --- The readers ----------------------------------------------------------------------------------


def _sound(dataset: Any) -> None:
    """What every reader promises."""
    found = dataset.annotations
    if found is None:
        return
    boxes = found.boxes
    good = np.isfinite(boxes).all() and (boxes[:, 2:] > boxes[:, :2]).all() and (boxes >= 0).all()
    labels = (found.labels >= 0) & (found.labels < len(dataset.class_names))
    if not (good and labels.all() and len(np.unique(found.ids)) == len(found.ids)):
        raise AssertionError("boxes must be finite, labels known and ids unique")


def _read_with(name: str, file: str, *around: tuple[str, bytes]) -> Callable[[bytes, Path], None]:
    def read(data: bytes, folder: Path) -> None:
        from detal.datasets import open_dataset

        for other, content in (*around, (file, data)):
            (folder / other).parent.mkdir(parents=True, exist_ok=True)
            (folder / other).write_bytes(content)
        target = folder if name in {"voc"} else folder / file
        if file.endswith(".txt"):
            target = folder / "data.yaml"
        _sound(open_dataset(target, format=name))

    return read


def _read_metadata(data: bytes, folder: Path) -> None:
    from detal.datasets import open_dataset

    (folder / "1.png").write_bytes(_PNG)
    (folder / "metadata.csv").write_bytes(data)
    open_dataset(folder, format="folder", metadata=folder / "metadata.csv")


def _read_manifest(data: bytes, folder: Path) -> None:
    from detal.manifests.table import read_selection

    (folder / "selection.csv").write_bytes(data)
    read_selection(folder / "selection.csv")


def _read_config(data: bytes, folder: Path) -> None:
    from detal.config import SelectConfig, dump_config, load_config

    (folder / "config.yaml").write_bytes(data)
    dump_config(load_config(SelectConfig, folder / "config.yaml", []))


def _read_store(data: bytes, folder: Path) -> None:
    """The first byte says which file of the shard the rest is."""
    from detal.store import Store

    store = Store(
        folder, fingerprint="f", settings={}, class_names=("a", "b"), score_kind="sigmoid"
    )
    parts = _shard()
    names = sorted(parts)
    for name, content in parts.items():
        (store.folder / name).write_bytes(content)
    (store.folder / names[data[0] % len(names) if data else 0]).write_bytes(data[1:])
    store.missing(["k0", "nobody"])
    stored = store.read(["k0", "k1"])
    stored.detections([0, 1])
    stored.image_features()


def _read_image(data: bytes, folder: Path) -> None:
    from detal.datasets import image_size, read_image

    (folder / "x.jpg").write_bytes(data)
    image_size(folder / "x.jpg")
    read_image(folder / "x.jpg")


def _read_checkpoint(data: bytes, folder: Path) -> None:
    from detal.detectors.yolo import load_model

    (folder / "x.pt").write_bytes(data)
    load_model(folder / "x.pt")


_SHARD: dict[str, bytes] = {}


def _shard() -> dict[str, bytes]:
    if not _SHARD:
        import polars as pl
        import torch

        from detal.store import Store
        from detal.structures import Detections

        with tempfile.TemporaryDirectory() as text:
            store = Store(
                Path(text),
                fingerprint="f",
                settings={},
                class_names=("a", "b"),
                score_kind="sigmoid",
            )
            images = pl.DataFrame({"width": [4, 5], "content_hash": ["x", "y"]})
            found = Detections(
                offsets=torch.tensor([0, 1, 3]),
                boxes=torch.tensor([[0.0, 0, 5, 5]] * 3),
                scores=torch.tensor([0.5, 0.6, 0.7]),
                labels=torch.tensor([0, 1, 1]),
                logits=torch.zeros(3, 2),
                score_kind="sigmoid",
                image_features=torch.zeros(2, 3),
            )
            store.write(["k0", "k1"], images, found)
            for path in store.folder.iterdir():
                if path.suffix != ".json":
                    _SHARD[path.name] = path.read_bytes()
    return _SHARD


def _png() -> bytes:
    import cv2

    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    return bytes(cv2.imencode(".png", pixels)[1])


_PNG = _png()


def _coco_seeds() -> list[bytes]:
    from tests.datasets.making import coco_box, coco_image

    document = {
        "images": [coco_image(1, split="train", group="g", note=1), coco_image("b", video_id=2)],
        "annotations": [
            coco_box(1, 1, [2, 3, 10, 12], iscrowd=0, area=5),
            coco_box(2, "b", [1] * 4),
        ],
        "categories": [{"id": 1, "name": "cat", "supercategory": "x"}, {"id": 2, "name": "x"}],
    }
    return [json.dumps(document).encode()]


def _label_studio_seeds() -> list[bytes]:
    from tests.datasets.making import ls_box, ls_region, ls_task

    ellipse = ls_region("ellipse", {"x": 5, "y": 5, "radiusX": 3, "radiusY": 4, "rotation": 30})
    polygon = ls_region("polygon", {"points": [[1, 1], [20, 3], [5, 30]]})
    tasks = [ls_task(1, [ls_box(), ellipse, polygon], detal_image_id="a"), ls_task(2)]
    flat = [{"annotation_id": 1, "image": "1.jpg", "label": [ls_box()], "updated_at": "2026-01-01"}]
    return [json.dumps(tasks).encode(), json.dumps(flat).encode()]


def _xml_seeds(kind: str) -> list[bytes]:
    from tests.datasets.making import cvat_shape, cvat_xml, voc_xml

    if kind == "voc":
        return [
            voc_xml([("cat", (1, 2, 10, 12)), ("dog", (5, 5, 9, 9))], filename="1.png").encode()
        ]
    corners: dict[str, Any] = {"xtl": 1, "ytl": 2, "xbr": 10, "ybr": 12}
    shapes = [
        cvat_shape("box", **corners, rotation=30),
        cvat_shape("polygon", points="1,1;20,3;5,30"),
        cvat_shape("ellipse", cx=10, cy=10, rx=4, ry=5),
        cvat_shape("mask", left=1, top=2, width=5, height=6, rle="1,2"),
        '<tag label="detal_selection"><attribute name="detal_image_id">a</attribute></tag>',
    ]
    return [cvat_xml({"1.png": shapes, "2.png": []}, labels=["cat", "dog"]).encode()]


def _image_seeds() -> list[bytes]:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (15, 20, 3), dtype=np.uint8)
    seeds = []
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000", "PPM"):
        buffer = io.BytesIO()
        exif = Image.Exif()
        exif[274] = 6
        extra = {"exif": exif} if kind in {"JPEG", "PNG", "WEBP", "TIFF"} else {}
        Image.fromarray(pixels).save(buffer, kind, **extra)
        seeds.append(buffer.getvalue())
    return seeds


def _manifest_seeds() -> list[bytes]:
    header = (
        "rank image_id path width height group score expected_boxes cost cost_unit boxes reason"
    )
    first = ["1", "a", "/x/a.png", "64", "48", "g", "0.5", "1.0", "1.0", "images", "1", "why"]
    rows = [header.split(), first]
    rows.append(["2", "'=b", "/x/b.png", "64", "48", "", "", "0", "1", "images", "0", 'a, "b"'])
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return [text.getvalue().encode()]


def _checkpoint_seeds() -> list[bytes]:
    import torch

    from detal.detectors import import_ultralytics

    import_ultralytics()
    tasks: Any = __import__("ultralytics.nn.tasks", fromlist=["DetectionModel"])
    architecture = {
        "nc": 1,
        "backbone": [[-1, 1, "Conv", [4, 3, 2]], [-1, 1, "Conv", [4, 3, 2]]],
        "head": [[[0, 1], 1, "Detect", ["nc"]]],
    }
    buffer = io.BytesIO()
    torch.save({"model": tasks.DetectionModel(architecture, verbose=False)}, buffer)
    return [buffer.getvalue()]


_DATASETS = ("detal.datasets",)
_YAML = b"path: .\ntrain: images\nval: [images]\nnames: {0: cat, 1: dog}\nnc: 2\n"
_CONFIG = (ROOT / "configs" / "sandbox.yaml").read_bytes()
_IMAGE_AROUND = ("images/1.png", _PNG)

READERS: dict[str, Reader] = {
    "coco": Reader(
        _coco_seeds, _read_with("coco", "i.json", ("1.jpg", _PNG)), mutate_json, _DATASETS
    ),
    "voc": Reader(
        lambda: _xml_seeds("voc"),
        _read_with("voc", "1.xml", ("1.png", _PNG)),
        mutate_xml,
        _DATASETS,
    ),
    "cvat": Reader(
        lambda: _xml_seeds("cvat"),
        _read_with("cvat", "annotations.xml", ("1.png", _PNG)),
        mutate_xml,
        _DATASETS,
    ),
    "label_studio": Reader(
        _label_studio_seeds,
        _read_with("label_studio", "export.json", ("1.jpg", _PNG)),
        mutate_json,
        _DATASETS,
    ),
    "yolo": Reader(
        lambda: [b"0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.5 0.1 0.3 0.9\n"],
        _read_with("yolo", "labels/1.txt", _IMAGE_AROUND, ("data.yaml", _YAML)),
        mutate_lines,
        _DATASETS,
    ),
    "yolo_yaml": Reader(
        lambda: [_YAML, b"train: images/\nnames:\n  - cat\n  - dog\n"],
        _read_with("yolo", "data.yaml", _IMAGE_AROUND, ("labels/1.txt", b"0 .5 .5 .2 .2\n")),
        mutate_lines,
        _DATASETS,
    ),
    "metadata": Reader(
        lambda: [b'image_id,group,x,y\n1.png,g,1,"a, b"\n2.png,,2.5,\n'],
        _read_metadata,
        mutate_lines,
        ("detal.datasets.metadata",),
    ),
    "manifest": Reader(_manifest_seeds, _read_manifest, mutate_lines, ("detal.manifests",)),
    "config": Reader(lambda: [_CONFIG], _read_config, mutate_lines, ("detal.config",)),
    "store": Reader(
        lambda: [bytes([n]) + _shard()[k] for n, k in enumerate(sorted(_shard()))],
        _read_store,
        mutate_bytes,
        ("detal.store",),
    ),
    "images": Reader(_image_seeds, _read_image, mutate_bytes, ("detal.datasets.images",)),
    "checkpoints": Reader(_checkpoint_seeds, _read_checkpoint, mutate_zip, ("detal.detectors",)),
}


# --- Running --------------------------------------------------------------------------------------


def run_blindly(session: Session, *, seconds: float, examples: int | None, seed: int = 0) -> None:
    """Change the seeds, and what came of them, at random."""
    rng = np.random.default_rng(seed)
    pool = list(session.reader.seeds())
    while time.monotonic() - session.started < seconds:
        if examples is not None and session.examples >= examples:
            return
        data = pool[int(rng.integers(len(pool)))]
        for _ in range(int(rng.integers(1, 5))):
            data = session.reader.mutate(data, rng)
        session.meet(data)
        if len(data) < 20_000:
            if len(pool) < 200:
                pool.append(data)
            else:
                pool[int(rng.integers(len(session.reader.seeds()), len(pool)))] = data


def run_guided(session: Session, *, seconds: float) -> None:
    """Follow the coverage of detal's code; ends the process."""
    import atheris  # type: ignore[import-untyped]

    corpus = session.findings / f"{session.name}.corpus"
    corpus.mkdir(exist_ok=True)
    for number, seed in enumerate(session.reader.seeds()):
        (corpus / f"seed{number}").write_bytes(seed)

    def mutator(data: bytes, max_size: int, seed: int) -> bytes:
        rng = np.random.default_rng(seed)
        if rng.random() < 0.2:
            return bytes(atheris.Mutate(data, len(data)))[:max_size]
        return session.reader.mutate(data, rng)[:max_size]

    flags = [
        f"-max_total_time={max(1, round(seconds))}",
        f"-timeout={HUNG_SECONDS}",
        "-rss_limit_mb=0",
        "-max_len=20000",
    ]
    flags += ["-print_final_stats=0", "-verbosity=0", "-seed=1"]
    flags += [f"-artifact_prefix={session.findings / session.name}-", str(corpus)]
    atheris.Setup(["fuzz", *flags], session.meet, custom_mutator=mutator)
    atheris.Fuzz()


def fuzz(name: str, *, seconds: float, findings: Path, output: Path) -> None:
    """One reader, in this process, which may end with it; the figures go into ``output``."""
    _limit()
    guided = _with_atheris(READERS[name].about)
    scratch = findings / f"{name}.scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    before = json.loads(output.read_text(encoding="utf-8")) if output.exists() else {}
    session = Session(
        name, READERS[name], findings, scratch, output=output, guided=guided, before=before
    )
    session.save()
    seconds -= before.get("seconds", 0)
    if seconds <= 0:
        return
    if guided:
        run_guided(session, seconds=seconds)
    else:
        run_blindly(session, seconds=seconds, examples=None)
        session.save()


def _limit() -> None:
    def too_long(signum: int, frame: Any) -> None:
        raise TimeoutError(f"more than {MOST_SECONDS} s of processor time")

    signal.signal(signal.SIGPROF, too_long)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 12 * (1 << 30),) * 2)


def _with_atheris(about: Sequence[str]) -> bool:
    try:
        import atheris
    except ImportError:
        return False
    with atheris.instrument_imports(include=list(about)):
        for name in about:
            __import__(name)
    return True


def main() -> None:
    """Fuzz the named readers one after the other, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readers", nargs="*", help=f"of {', '.join(READERS)}; all by default")
    parser.add_argument("--seconds", type=float, default=60, help="of each reader")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--output", type=Path, help="result file whose key fuzz is updated")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    unknown = set(arguments.readers) - READERS.keys()
    if unknown:
        parser.error(f"no such readers: {', '.join(sorted(unknown))}")
    findings = arguments.findings.absolute()
    findings.mkdir(parents=True, exist_ok=True)
    if arguments.here:
        (name,) = arguments.readers
        fuzz(name, seconds=arguments.seconds, findings=findings, output=findings / f"{name}.json")
        return
    done = []
    for name in arguments.readers or READERS:
        options = ["--seconds", str(arguments.seconds), "--findings", str(findings), "--here"]
        subprocess.run([sys.executable, __file__, name, *options], check=False)
        done.append(json.loads((findings / f"{name}.json").read_text(encoding="utf-8")))
        hung = [path.name for path in findings.glob(f"{name}-timeout-*")]
        done[-1]["findings"] += [f"more than {HUNG_SECONDS} s ({file})" for file in hung]
        print(f"{name}: {done[-1]['examples']:,} examples in {done[-1]['seconds']} s", flush=True)
    if arguments.output is not None:
        record(arguments.output, done)
    sys.exit(1 if any(one["findings"] for one in done) else 0)


def record(path: Path, done: Sequence[dict[str, Any]]) -> None:
    """Put the figures in place of earlier ones of the same readers, beside everything else."""
    from detal.files import write_json
    from detal.runs.provenance import commit, machine, versions

    file = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    names = [one["reader"] for one in done]
    kept = [one for one in file.get("fuzz", {}).get("readers", []) if one["reader"] not in names]
    file["fuzz"] = {
        "readers": sorted([*kept, *done], key=lambda one: list(READERS).index(one["reader"])),
        "command": shlex.join(["python", "tools/bench/fuzz.py", *sys.argv[1:]]),
        "commit": commit(ROOT),
        "machine": machine(),
        "versions": versions(),
    }
    write_json(path, file)


if __name__ == "__main__":
    main()
