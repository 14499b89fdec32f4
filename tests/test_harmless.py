"""Booby-trapped files of strangers: each trap works where nothing guards it, and not in detal."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

from detal.datasets import open_dataset
from detal.detectors.yolo import load_model
from detal.detectors.yolo_checkpoints import activation_kept
from detal.errors import ConfigError, DataError, DetectorError
from detal.manifests.label_studio import labelling_config
from detal.manifests.table import plain_text
from tests.bad_inputs import models
from tests.bad_inputs.annotations import ODD_NAMES, PROLOGUES, YAML_OBJECTS
from tests.datasets.making import coco_image, write_coco, write_image, write_text
from tests.runs.run_folders import write_run

SEED = models.SEED


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", models.TRAPS)
def test_a_checkpoint_runs_nothing(name: str) -> None:
    Path("best.pt").write_bytes(models.TRAPS[name]())
    with pytest.raises(DetectorError, match=r"best\.pt|checkpoint's model YAML"):
        load_model("best.pt")
    assert not Path("harmed").exists()


def test_the_trap_works_for_who_trusts_it() -> None:
    """Otherwise the tests above would show nothing; and the word of the user is the way in."""
    Path("best.pt").write_bytes(models.TRAPS["trap"]())
    with pytest.raises(DetectorError, match="trust_checkpoint=true"):
        load_model("best.pt")
    assert not Path("harmed").exists()
    with pytest.raises(DetectorError, match=r"best\.pt"):
        load_model("best.pt", trust_checkpoint=True)
    assert Path("harmed").exists()


def test_the_yaml_trap_works_in_the_library() -> None:
    from ultralytics.nn.tasks import DetectionModel

    with activation_kept():
        DetectionModel(models.trapped_yaml(), verbose=False)
    assert Path("harmed").exists()


def test_the_constructor_trap_works_with_a_plain_list_of_classes() -> None:
    """Allowing the model's class is not enough: to call it evaluates the YAML."""
    from ultralytics.nn.tasks import DetectionModel

    Path("best.pt").write_bytes(models.TRAPS["constructor-called"]())
    names = torch.serialization.get_unsafe_globals_in_checkpoint("best.pt")
    kinds: list[Any] = [DetectionModel, *(getattr(torch.nn, n.split(".")[-1], int) for n in names)]
    with torch.serialization.safe_globals(kinds), activation_kept():
        torch.load("best.pt", weights_only=True)
    assert Path("harmed").exists()


def test_an_ordinary_checkpoint_needs_no_word_and_is_what_the_library_reads() -> None:
    ours = load_model(SEED)
    theirs = load_model(SEED, trust_checkpoint=True)
    assert type(ours) is type(theirs)
    assert [type(layer) for layer in ours.modules()] == [type(m) for m in theirs.modules()]
    mine, other = ours.state_dict(), theirs.state_dict()
    assert mine.keys() == other.keys()
    assert all(torch.equal(mine[name], other[name]) for name in mine)
    torch.save({"model": ours}, "again.pt")
    assert load_model("again.pt").state_dict().keys() == mine.keys()


@pytest.mark.parametrize("name", ["trap", "trap-in-arguments", "model-for-a-layer"])
@pytest.mark.parametrize("way", ["weights", "architecture", "training"])
def test_a_model_yaml_runs_nothing(name: str, way: str) -> None:
    from detal.detectors import load_yolo
    from detal.training import train_yolo

    write_text(Path("model.yaml"), models._architectures()[name])
    torch.save({"model.2.cv3.0.2.bias": torch.zeros(1)}, "state.pt")
    write_image(Path("set/images/a.png"))
    write_text(Path("set/labels/a.txt"), "0 0.5 0.5 0.2 0.2\n")
    data = write_text(Path("set/data.yaml"), "path: .\ntrain: images\nnames: [cat]\n")
    ways: dict[str, Callable[[], object]] = {
        "weights": lambda: load_yolo("model.yaml", device="cpu"),
        "architecture": lambda: load_yolo("state.pt", architecture="model.yaml", device="cpu"),
        "training": lambda: train_yolo(
            data_yaml=data, output="out", init="model.yaml", steps=1, device="cpu"
        ),
    }
    with pytest.raises(DetectorError, match=r"activation must be|must be made of layers"):
        ways[way]()
    assert not Path("harmed").exists()


@pytest.mark.parametrize("name", [n for n in PROLOGUES if not n.endswith("000")])
def test_xml_expands_and_fetches_nothing(name: str) -> None:
    before, inside = PROLOGUES[name]
    text = f"{before}<annotation><filename>a</filename><object><name>{inside}</name></object>"
    encoding = "utf-16" if name.startswith("utf-16") else "utf-8"
    Path("1.xml").write_bytes(f"{text}</annotation>".encode(encoding))
    write_image(Path("1.jpg"))
    try:
        dataset = open_dataset(".", format="voc")
    except DataError:
        return
    assert "root:" not in " ".join(dataset.class_names)
    assert all(len(n) <= 20_000_000 for n in dataset.class_names)


@pytest.mark.parametrize("text", [v for k, v in YAML_OBJECTS.items() if "python" in k])
def test_yaml_makes_no_objects(text: str) -> None:
    from detal.config import SelectConfig, load_config

    write_text(Path("data.yaml"), f"train: images\nnames: {text}\n")
    with pytest.raises(DataError, match="must be YAML"):
        open_dataset("data.yaml")
    write_text(Path("config.yaml"), f"pool: {text}\n")
    with pytest.raises(ConfigError, match="must be YAML"):
        load_config(SelectConfig, Path("config.yaml"), [])
    assert not Path("harmed").exists()


NAMES = [name for key, name in ODD_NAMES.items() if key not in {"long", "empty"}]


def test_class_names_are_text_in_the_report(tmp_path: Path) -> None:
    from detal.runs.run_report import write_run_report

    run = write_run(tmp_path / "run", class_names=NAMES, reasons=NAMES[:9])
    page = write_run_report(run).read_text(encoding="utf-8")
    for markup in ("<script>alert", "<img src=x", "</script><!--"):
        assert markup not in page
    assert page.count("<script") == page.count("</script>")
    assert "require-trusted-types-for" in page


def test_class_names_are_text_in_tables_and_exports(tmp_path: Path) -> None:
    from detal.manifests import HandOver
    from detal.runs.export import export_run

    run = write_run(tmp_path / "run", class_names=NAMES, reasons=NAMES[:9])
    for name in ("csv", "coco", "yolo", "voc", "cvat", "label_studio"):
        try:
            export_run(run, HandOver(formats=(name,)), output=tmp_path / name)
        except DataError as error:
            assert name in {"voc", "cvat", "label_studio"}, error  # noqa: PT017
    for file in (*tmp_path.rglob("*.csv"),):
        with file.open(encoding="utf-8", newline="") as opened:
            cells = [cell for row in csv.reader(opened) for cell in row]
        assert cells
        risky = [c for c in cells if c.startswith(("=", "+", "-", "@")) and not _is_number(c)]
        assert not risky, (file, risky)
    assert not {path.name for path in tmp_path.rglob("*")} & {"passwd", "harmed"}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def test_class_names_are_text_in_label_studios_config() -> None:
    names = [ODD_NAMES[k] for k in ("quotes", "script", "image", "closing", "formula")]
    root = ElementTree.fromstring(labelling_config(names))
    assert [label.get("value") for label in root.iter("Label")] == names
    assert {element.tag for element in root.iter()} <= {
        *("View", "Header", "Image", "RectangleLabels", "Label")
    }
    with pytest.raises(DataError, match=r"must not begin with \$"):
        labelling_config([ODD_NAMES["dollar"]])


def test_class_names_are_text_in_notebooks(tmp_path: Path) -> None:
    categories = [{"id": n, "name": name} for n, name in enumerate(NAMES, start=1)]
    file = write_coco(
        tmp_path / "c.json", images=[coco_image(1)], annotations=[], categories=categories
    )
    shown = open_dataset(file)._repr_html_()
    assert "<script" not in shown
    assert "<img" not in shown


def test_formulas_are_protected_and_come_back() -> None:
    assert plain_text("=1+1") == "'=1+1"
    assert plain_text("@x") == "'@x"


def test_a_manifest_shows_no_other_file(tmp_path: Path) -> None:
    """A forged run may name any path: what is not an image is neither shown nor handed on."""
    from detal.manifests import HandOver
    from detal.review import ReviewServer, open_session
    from detal.runs.export import export_run
    from detal.runs.run_report import write_run_report

    secret = write_text(tmp_path / "secret.txt", "my password is 12345")
    run = write_run(tmp_path / "run")
    table = run / "selection.csv"
    first = str(tmp_path / "pool" / "0000.png")
    table.write_text(table.read_text().replace(first, "../../../../../.." + str(secret)))
    refused = pytest.raises(DataError, match="not an image")
    with open_session(run) as session, ReviewServer(session) as server, refused:
        server.picture("image", 0)
    page = write_run_report(run, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "12345" not in page
    for copying in ("link", "copy"):
        with pytest.raises(DataError, match="not an image"):
            export_run(run, HandOver(formats=("yolo",), mode=copying), output=tmp_path / copying)
    copies = [p for p in tmp_path.rglob("*") if p.is_file() and b"12345" in p.read_bytes()]
    assert copies == [secret]


def test_no_name_leaves_the_folder_of_an_export(tmp_path: Path) -> None:
    from detal.manifests.yolo_files import unique_names

    names = unique_names(["/x/../../a.png", "/y/..\\..\\a.png", "/z/a.png"])
    assert all("/" not in name and "\\" not in name and name not in {".", ".."} for name in names)


QUIET = """
import json, os, socket, sys

calls = []
def refuse(*arguments, **options):
    calls.append(repr(arguments[:2]))
    raise OSError("the network is off limits")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
import subprocess
real = subprocess.Popen.__init__
def watched(self, command, *arguments, **options):
    if "pip" in str(command) or "apt" in str(command):
        calls.append(str(command))
    return real(self, command, *arguments, **options)
subprocess.Popen.__init__ = watched
from detal.detectors import load_yolo
from detal.training import train_yolo
import numpy as np
seed, data, out = sys.argv[1:]
detector = load_yolo(seed, device="cpu", image_size=64)
detector.predict([detector.prepare(np.zeros((40, 40, 3), np.uint8), "x")])
train_yolo(data_yaml=data, output=out, init=seed, steps=1, image_size=64, batch_size=1,
           device="cpu")
from ultralytics.utils import ONLINE, SETTINGS
from ultralytics.utils.checks import AUTOINSTALL
print(json.dumps({"calls": calls, "online": ONLINE, "install": AUTOINSTALL}))
"""


def test_ultralytics_stays_off_the_network_and_off_the_users_settings(tmp_path: Path) -> None:
    home = tmp_path / "home"
    settings = write_text(home / ".config" / "Ultralytics" / "settings.json", '{"sync": true}')
    write_image(tmp_path / "set" / "images" / "a.png")
    write_text(tmp_path / "set" / "labels" / "a.txt", "0 0.5 0.5 0.2 0.2\n")
    data = write_text(tmp_path / "set" / "data.yaml", "path: .\ntrain: images\nnames: [cat]\n")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("YOLO_")}
    environment |= {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config")}
    done = subprocess.run(
        [sys.executable, "-c", QUIET, str(SEED), str(data), str(tmp_path / "out")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.strip().splitlines()[-1])
    assert told == {"calls": [], "online": False, "install": False}
    assert settings.read_text() == '{"sync": true}'
    assert [p.name for p in settings.parent.iterdir()] == ["settings.json"]
