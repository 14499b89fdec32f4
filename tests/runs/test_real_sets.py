"""The main job on real sets in their own formats; what it writes trains and opens elsewhere."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pycocotools.coco import COCO

from detal.detectors import build_torchvision

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "data" / "sandbox" / "yolo_seed.pt"
SETS = {
    "yolo": ("aquarium/data.yaml", "val", 127),
    "voc": ("bccd/BCCD", "test", 72),
    "coco": ("coco125/instances.json", None, 125),
}


def select(*arguments: object) -> Any:
    command = [sys.executable, str(ROOT / "tools" / "select.py"), *map(str, arguments), "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_a_manifest_opens_in_pycocotools_and_trains(
    name: str, shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, split, images = SETS[name]
    record = select(
        f"pool={shared_data / path}",
        f"pool.split={split or 'null'}",
        f"detector={WEIGHTS}",
        "detector.image_size=160",
        "budget=4",
        f"output={tmp_path / 'out'}",
    )
    assert record["counts"]["pool"] == images
    coco = COCO(str(tmp_path / "out" / "coco.json"))
    assert len(coco.imgs) == 4
    assert all(Path(image["file_name"]).is_file() for image in coco.imgs.values())
    assert all(0 < annotation["score"] <= 1 for annotation in coco.anns.values())
    capsys.readouterr()

    settings = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "OMP_NUM_THREADS": "1"}
    command = [
        str(Path(sys.executable).parent / "yolo"),
        "train",
        f"data={tmp_path / 'out' / 'yolo' / 'data.yaml'}",
        f"model={WEIGHTS}",
        f"project={tmp_path}",
        *["epochs=1", "imgsz=64", "batch=2", "device=cpu", "workers=0", "plots=False", "name=run"],
    ]
    trained = subprocess.run(
        command,
        env={**os.environ, **settings, "YOLO_CONFIG_DIR": str(tmp_path / "config")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert trained.returncode == 0, trained.stderr[-2000:]
    assert (tmp_path / "run" / "weights" / "last.pt").is_file()


@pytest.mark.slow
def test_faster_rcnn_over_voc(shared_data: Path, tmp_path: Path) -> None:
    architecture = "fasterrcnn_mobilenet_v3_large_320_fpn"
    model = build_torchvision(architecture, num_classes=3)
    torch.save(model.state_dict(), tmp_path / "frcnn.pt")
    record = select(
        f"pool={shared_data / 'bccd' / 'BCCD'}",
        "pool.split=test",
        f"labeled={shared_data / 'bccd' / 'BCCD'}",
        "labeled.split=val",
        "detector.type=torchvision",
        f"detector.architecture={architecture}",
        f"detector.weights={tmp_path / 'frcnn.pt'}",
        "detector.image_size=96",
        "strategy=core_set",
        "budget=5",
        f"output={tmp_path / 'out'}",
    )
    assert record["counts"]["selected"] == 5
    assert record["detector"]["score_kind"] == "softmax"
    names = [c["name"] for c in COCO(str(tmp_path / "out" / "coco.json")).cats.values()]
    assert sorted(names) == ["Platelets", "RBC", "WBC"]
