from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from detal.detectors import load_predictions
from detal.errors import DetectorError

OPTIONS: dict[str, Any] = {
    "image_id_of": {"/pool/ä b.jpg": "1", "/pool/2.jpg": "2", "/pool/3.jpg": "3"},
    "class_names": ("crab", "seal", "whale"),
    "category_ids": (7, 2, 9),
}
ROWS = [
    {"image_id": 2, "category_id": 9, "bbox": [1, 2, 3, 4], "score": 0.25},
    {"image_id": 1, "category_id": 2, "bbox": [0, 0, 10, 10], "score": 0.5},
    {"image_id": 2, "category_id": 7, "bbox": [5, 5, 100, 5.5], "score": 0.75},
    {"image_id": 2, "category_id": 7, "bbox": [5, 5, 5, 5], "score": 0.01},
    {"image_id": 99, "category_id": 7, "bbox": [5, 5, 5, 5], "score": 0.9},
]


def write(folder, rows):
    path = folder / "results of ours.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def look_up(detector, paths):
    pixels = np.zeros((40, 30, 3), dtype=np.uint8)
    return detector.predict([detector.prepare(pixels, path) for path in paths])


def test_rows_by_image(tmp_path):
    detector = load_predictions(write(tmp_path, ROWS), **OPTIONS)
    found = look_up(detector, ["/pool/2.jpg", "/pool/3.jpg", "/pool/ä b.jpg"])
    assert found.offsets.tolist() == [0, 2, 2, 3]
    assert found.boxes.tolist() == [[5, 5, 30, 10.5], [1, 2, 4, 6], [0, 0, 10, 10]]
    assert found.scores.tolist() == [0.75, 0.25, 0.5]
    assert found.labels.tolist() == [0, 2, 1]
    floor = math.log(0.001 / 0.999)
    expected = [
        [math.log(3), floor, floor],
        [floor, floor, -math.log(3)],
        [floor, 0.0, floor],
    ]
    torch.testing.assert_close(found.logits, torch.tensor(expected))
    assert detector.class_names == ("crab", "seal", "whale")


def test_full_class_vectors(tmp_path):
    rows = [
        {**ROWS[0], "scores": [0.5, 0.0, 0.25]},
        {**ROWS[1], "logits": [1.0, 2.0, -3.0]},
    ]
    detector = load_predictions(write(tmp_path, rows), **OPTIONS)
    logits = look_up(detector, ["/pool/2.jpg", "/pool/ä b.jpg"]).logits
    expected = torch.tensor([[0.0, -16.0, -math.log(3)], [1.0, 2.0, -3.0]])
    torch.testing.assert_close(logits, expected)


def test_limit_keeps_the_best(tmp_path):
    detector = load_predictions(write(tmp_path, ROWS), max_detections=1, **OPTIONS)
    assert look_up(detector, ["/pool/2.jpg"]).scores.tolist() == [0.75]


@pytest.mark.parametrize("rows", [[], {"annotations": []}], ids=["list", "dict"])
def test_no_predictions_at_all(tmp_path, rows):
    detector = load_predictions(write(tmp_path, rows), **OPTIONS)
    assert look_up(detector, ["/pool/2.jpg"]).counts.tolist() == [0]
    assert detector.predict([]).logits.shape == (0, 3)


def test_fingerprint_is_that_of_the_file(tmp_path):
    one = load_predictions(write(tmp_path, ROWS), **OPTIONS).fingerprint
    assert load_predictions(write(tmp_path, ROWS), **OPTIONS).fingerprint == one
    assert load_predictions(write(tmp_path, ROWS[1:]), **OPTIONS).fingerprint != one


@pytest.mark.parametrize(
    ("change", "match"),
    [
        pytest.param({"category_id": 8}, "category_id 8 is none of", id="category"),
        pytest.param({"bbox": [0, 0, 1]}, "bbox must be left, top", id="short-box"),
        pytest.param({"bbox": [0, 0, -1, 5]}, "bbox must be left, top", id="negative"),
        pytest.param({"bbox": [0, 0, None, 5]}, "bbox must be left, top", id="null"),
        pytest.param({"score": 1.5}, r"score must be in \[0, 1\], got 1.5", id="score"),
        pytest.param({"scores": [0.5]}, "scores must be 3 finite numbers", id="vector"),
        pytest.param({"scores": [0.5, 2, 0]}, r"scores must be in \[0, 1\]", id="vector-range"),
        pytest.param({"logits": "x"}, "logits must be 3 finite numbers", id="logits"),
    ],
)
def test_wrong_rows(tmp_path, change, match):
    rows = [ROWS[0], {**ROWS[1], **change}]
    with pytest.raises(DetectorError, match=match + r".* in row 1 \(1 of 2 rows"):
        load_predictions(write(tmp_path, rows), **OPTIONS)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        pytest.param("{", "is not valid JSON", id="json"),
        pytest.param('{"images": []}', "must hold a list of COCO results", id="other-dict"),
        pytest.param('[{"image_id": 1}]', "each row needs image_id, category_id", id="keys"),
    ],
)
def test_wrong_file(tmp_path, text, match):
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    with pytest.raises(DetectorError, match=match):
        load_predictions(tmp_path / "x.json", **OPTIONS)


def test_missing_file_and_unknown_path(tmp_path):
    with pytest.raises(DetectorError, match="cannot be read: No such file"):
        load_predictions(tmp_path / "none.json", **OPTIONS)
    detector = load_predictions(write(tmp_path, ROWS), **OPTIONS)
    with pytest.raises(DetectorError, match="none is known for /elsewhere"):
        look_up(detector, ["/elsewhere.jpg"])
