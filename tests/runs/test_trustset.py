"""Judging labelled objects on the sandbox, at a size that takes a second or two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest

from detal.config import TrustSetConfig, load_config
from detal.datasets import open_dataset
from detal.errors import ConfigError, DataError
from detal.runs import judges
from detal.runs.trustset import show_trust_set
from detal.training import TrainResult

SANDBOX = Path(__file__).resolve().parents[2] / "data" / "sandbox"
WEIGHTS = SANDBOX / "yolo_seed.pt"


def config(output: Path, **changes: Any) -> TrustSetConfig:
    values: dict[str, Any] = {
        "labeled": {"path": str(SANDBOX / "seed.json")},
        "detector": {"weights": str(WEIGHTS), "image_size": 96},
        "output": str(output),
        "device": "cpu",
        **changes,
    }
    return TrustSetConfig.model_validate(values)


def test_everything_is_written(tmp_path: Path) -> None:
    pool = {"path": str(SANDBOX / "reference.json")}
    result = show_trust_set(config(tmp_path / "out", pool=pool))
    labeled = open_dataset(SANDBOX / "seed.json")
    assert labeled.annotations is not None
    counts = labeled.annotations.class_counts(10)
    assert [row["labeled"] for row in result["classes"]] == counts.tolist()
    written = json.loads((tmp_path / "out" / "trust.json").read_text())
    assert written == json.loads(json.dumps(result))
    assert 0.5 < written["pooled"]["auc"] <= 1
    objects = pl.read_csv(tmp_path / "out" / "trustset.csv")
    assert len(objects) == counts.sum()
    assert objects["trusted"].sum() == sum(row["members"] for row in result["classes"])
    suspicious = pl.read_csv(tmp_path / "out" / "suspicious.csv")
    assert len(suspicious) == sum(result["suspicious"].values())
    assert suspicious["score"].is_sorted(descending=True)
    found = [one for row in result["classes"] for one in row["pool_candidates"]]
    assert found
    assert all(0 <= one["trust"] <= 1 for one in found)
    picture = cv2.imread(str(tmp_path / "out" / "trustset.png"))
    assert picture is not None
    assert picture.std() > 5


def test_folds_are_trained_when_asked_for_and_judge_what_they_did_not_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []

    def train(training: Any, dataset: Any, *, output: Path, **options: Any) -> TrainResult:
        trained.append(len(dataset))
        return TrainResult(WEIGHTS, 1, 0.0, "trained", "steps", {})

    monkeypatch.setattr(judges, "train_detector", train)
    training = {"init": str(WEIGHTS), "image_size": 96}
    reference = {"path": str(SANDBOX / "reference.json")}
    made = config(tmp_path / "out", folds=4, training=training, reference=reference)
    result = show_trust_set(made)
    assert trained == [75] * 4
    assert result["judges"] == "4 folds"
    assert result["learned_on"] == "reference set"
    assert pl.read_csv(tmp_path / "out" / "trustset.csv")["out_of_sample"].all()


def test_variants_of_a_table_judge_where_they_were_not_trained(tmp_path: Path) -> None:
    ids = open_dataset(SANDBOX / "seed.json").image_ids.tolist()
    table = tmp_path / "table"
    for name, seen in (("50", ids[:50]), ("100", ids)):
        folder = table / "variants" / name
        (folder / "early").mkdir(parents=True)
        (folder / "weights.pt").write_bytes(WEIGHTS.read_bytes())
        (folder / "early" / "20.pt").write_bytes(WEIGHTS.read_bytes())
        (folder / "point.json").write_text(json.dumps({"image_ids": seen}))
    training = {"init": str(WEIGHTS), "image_size": 96}
    (table / "build.json").write_text(json.dumps({"training": training}))
    seen_ids = np.array(ids[:50])
    dataset = open_dataset(SANDBOX / "seed.json")
    trained, _ = judges._variants(table, dataset)
    assert [int(one.saw.sum()) for one in trained] == [100, 50]
    assert np.isin(dataset.image_ids[trained[1].saw].astype(str), seen_ids).all()
    assert [path.name for one in trained for path in one.early] == ["20.pt", "20.pt"]
    with pytest.raises(ConfigError, match="found none in"):
        judges._variants(tmp_path, dataset)
    for name in ("50", "100"):  # as before variants told their images and kept early steps
        (table / "variants" / name / "point.json").write_text(json.dumps({"ap": [0.5]}))
    with pytest.raises(ConfigError, match=r"variants that tell what they were trained on.* anew"):
        judges._variants(table, dataset)


def test_mistakes(tmp_path: Path) -> None:
    pool = {"path": str(SANDBOX / "pool.json")}
    with pytest.raises(DataError, match="the labelled set must have annotations"):
        show_trust_set(config(tmp_path / "out", labeled=pool))
    with pytest.raises(ConfigError, match="folds must be 0, or 2 and more"):
        load_config(TrustSetConfig, None, ["labeled=a", "detector=b", "output=c", "folds=1"])
    with pytest.raises(ConfigError, match=r"objects\.share"):
        load_config(
            TrustSetConfig, None, ["labeled=a", "detector=b", "output=c", "objects.share=2"]
        )
