"""A detector that sees a changed image answers in pixels of the original."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detal.detectors import VIEWS, Prepared, load_predictions, load_yolo, view_of
from detal.errors import ConfigError
from detal.store import Store
from detal.structures import Detections, ScoreKind
from tests.detectors.models import picture, prepare, spread_yolo


class SeesBright:
    """One box around everything that is nearly white."""

    class_names: tuple[str, ...] = ("white",)
    score_kind: ScoreKind = "sigmoid"
    fingerprint = "bright"
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {"detector": "bright"}
        self.seen: list[np.ndarray] = []

    def prepare(self, pixels, path):
        return Prepared(
            path=path, tensor=pixels, size_hw=pixels.shape[:2], transform="mine", batch_key=1
        )

    def predict(self, batch):
        assert all(item.transform == "mine" for item in batch)
        self.seen += [item.tensor for item in batch]
        boxes, counts = [], []
        for item in batch:
            rows, columns = np.nonzero(item.tensor.min(axis=2) > 128)
            if len(rows):
                boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            counts.append(int(len(rows) > 0))
        n = len(boxes)
        return Detections(
            offsets=torch.tensor([0, *np.cumsum(counts)], dtype=torch.int64),
            boxes=torch.tensor(boxes, dtype=torch.float32).reshape(n, 4),
            scores=torch.full((n,), 0.5),
            labels=torch.zeros(n, dtype=torch.int64),
            logits=torch.zeros(n, 1),
            score_kind="sigmoid",
            box_spread=torch.ones(n, 4),
            object_features=torch.ones(n, 2),
            image_features=torch.ones(len(batch), 3),
        )


def white_box(box: tuple[int, int, int, int], *, height: int, width: int) -> np.ndarray:
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = 255
    return pixels


@pytest.mark.parametrize("name", sorted(VIEWS))
@pytest.mark.parametrize(
    ("box", "height", "width"),
    [
        pytest.param((30, 60, 110, 130), 200, 300, id="wide"),
        pytest.param((20, 10, 70, 120), 300, 150, id="high"),
        pytest.param((0, 0, 80, 80), 160, 160, id="corner"),
    ],
)
def test_a_box_comes_back_to_its_place(name, box, height, width):
    inner = SeesBright()
    detector = view_of(inner, name)
    pixels = white_box(box, height=height, width=width)
    before = pixels.copy()
    found = detector.predict([detector.prepare(pixels, "x")])
    assert inner.seen[0].shape == pixels.shape
    # Corners of a turned box fade below the threshold; black patches may cover an edge.
    pixel = {"flip": 1e-4, "cutout": 41.0, "downscale": 1.3, "rotate": 2.0}[name]
    torch.testing.assert_close(found.boxes, torch.tensor([box]).float(), atol=pixel, rtol=0)
    assert np.array_equal(pixels, before)


def test_each_image_of_a_batch_has_its_own_size():
    detector = view_of(SeesBright(), "flip")
    sizes = [(40, 100), (60, 50), (30, 30)]
    pixels = [white_box((10, 5, 20, 15), height=h, width=w) for h, w in sizes]
    pixels[1][:] = 0
    found = detector.predict([detector.prepare(p, str(i)) for i, p in enumerate(pixels)])
    assert found.counts.tolist() == [1, 0, 1]
    assert found.boxes.tolist() == [[10, 5, 20, 15], [10, 5, 20, 15]]


def test_what_is_kept_and_what_is_left_out():
    detector = view_of(SeesBright(), "rotate")
    item = detector.prepare(white_box((5, 5, 20, 20), height=40, width=50), "x")
    assert (item.path, item.size_hw, item.batch_key) == ("x", (40, 50), 1)
    for found in (detector.predict([item]), detector.predict([])):
        assert found.image_features is not None
        assert found.box_spread is None
        assert found.object_features is None
    assert detector.predict([]).num_images == 0


def test_boxes_stay_inside_the_image():
    inner = SeesBright()
    detector = view_of(inner, "rotate")
    found = detector.predict([detector.prepare(np.full((60, 90, 3), 255, np.uint8), "x")])
    assert bool((found.boxes >= 0).all())
    assert bool((found.boxes <= torch.tensor([90.0, 60, 90, 60])).all())


@pytest.mark.parametrize("name", sorted(VIEWS))
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 3)], ids=str)
def test_the_smallest_images(name, shape):
    pixels = np.arange(np.prod(shape) * 3, dtype=np.uint8).reshape(*shape, 3)
    seen, to_view = VIEWS[name].augment(pixels)
    assert seen.shape == pixels.shape
    assert seen.dtype == np.uint8
    assert np.isfinite(to_view).all()
    assert abs(np.linalg.det(to_view[:, :2])) > 0.1


class TestCutout:
    def test_depends_on_the_pixels_alone(self):
        first, to_view = VIEWS["cutout"].augment(picture(1))
        assert np.array_equal(to_view, np.eye(2, 3))
        again, _ = VIEWS["cutout"].augment(picture(1))
        other, _ = VIEWS["cutout"].augment(picture(2))
        assert np.array_equal(first, again)
        assert not np.array_equal((first == 0).all(axis=2), (other == 0).all(axis=2))

    def test_two_patches_of_five_to_twenty_percent(self):
        white = np.full((200, 400, 3), 255, dtype=np.uint8)
        shares = []
        for value in range(200, 250):
            cut, _ = VIEWS["cutout"].augment(np.full_like(white, value))
            black = (cut == 0).all(axis=2)
            shares.append(black.mean())
            assert set(np.unique(cut)) == {0, value}
        # Two patches with mean sides of an eighth: 2 / 64 of the image, less their overlap.
        assert 0.02 < np.mean(shares) < 0.035
        assert max(shares) <= 0.081


def test_the_same_place_as_a_network_sees_it_on_the_mirrored_picture(tmp_path: Path):
    path = spread_yolo("yolo11n.yaml", tmp_path / "spread.pt")
    detector = load_yolo(path, device="cpu", image_size=160, score_threshold=0.1)
    pixels = [picture(1), picture(2, height=97, width=203)]
    for one in pixels:
        width = one.shape[1]
        (item,) = prepare(detector, [np.ascontiguousarray(one[:, ::-1])])
        mirrored = detector.predict([item])
        view = view_of(detector, "flip")
        found = view.predict(prepare(view, [one]))
        assert found.num_boxes == mirrored.num_boxes > 20
        expected = mirrored.boxes[:, [2, 1, 0, 3]] * torch.tensor([-1.0, 1, -1, 1])
        expected += torch.tensor([float(width), 0, float(width), 0])
        torch.testing.assert_close(found.boxes, expected, atol=1e-3, rtol=0)
        assert torch.equal(found.scores, mirrored.scores)


def test_every_view_has_a_store_of_its_own(tmp_path: Path):
    detectors = [SeesBright(), *(view_of(SeesBright(), name) for name in VIEWS)]
    keys = {
        Store(
            tmp_path,
            fingerprint=detector.fingerprint,
            settings=detector.settings,
            class_names=detector.class_names,
            score_kind=detector.score_kind,
        ).key
        for detector in detectors
    }
    assert len(keys) == len(VIEWS) + 1


def test_unknown_view():
    with pytest.raises(ConfigError, match="unknown view 'flop': did you mean flip"):
        view_of(SeesBright(), "flop")


def test_predictions_from_a_file_have_no_views(tmp_path: Path):
    (tmp_path / "p.json").write_text("[]")
    detector = load_predictions(
        tmp_path / "p.json", image_id_of={}, class_names=["a"], category_ids=[1]
    )
    with pytest.raises(ConfigError, match="predictions from a file cannot: use a detector"):
        view_of(detector, "flip")
