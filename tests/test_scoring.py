from __future__ import annotations

import logging
import threading
import time
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from detal import scoring
from detal.datasets.images import read_image
from detal.detectors import Prepared
from detal.errors import DetectorError
from detal.scoring import IMAGE_SCHEMA, score_passes, score_shards
from detal.structures import Detections, ScoreKind


class FakeDetector:
    """One box per 10 rows of an image, whose score is the mean of its pixels."""

    class_names: tuple[str, ...] = ("thing",)
    score_kind: ScoreKind = "sigmoid"
    settings: dict[str, Any] = {}  # noqa: RUF012 - read only
    fingerprint = "fake"
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.threads: set[tuple[str, int]] = set()

    def prepare(self, pixels, path):
        shape = pixels.shape
        return Prepared(path=path, tensor=pixels, size_hw=shape[:2], batch_key=shape)

    def predict(self, batch):
        if batch:
            self.batches.append([item.path for item in batch])
            self.threads.add((threading.current_thread().name, torch.get_num_threads()))
        assert len({item.batch_key for item in batch}) <= 1
        counts = [item.size_hw[0] // 10 for item in batch]
        means = [float(item.tensor.mean()) / 255 for item in batch]
        scores = torch.tensor(
            [m for m, count in zip(means, counts, strict=True) for _ in range(count)]
        )
        n = len(scores)
        return Detections(
            offsets=torch.tensor([0, *np.cumsum(counts)], dtype=torch.int64),
            boxes=torch.zeros(n, 4),
            scores=scores,
            labels=torch.zeros(n, dtype=torch.int64),
            logits=torch.zeros(n, 1),
            score_kind="sigmoid",
            image_features=torch.tensor(means).reshape(-1, 1),
        )


@pytest.fixture
def pool(tmp_path):
    """Twelve images in two sizes; number 4 is damaged and number 7 is not there."""
    paths = []
    for i in range(12):
        path = tmp_path / f"bild ä {i}.png"
        pixels = np.full((20 if i % 3 else 30, 40, 3), 20 * i, dtype=np.uint8)
        path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
        paths.append(str(path))
    (tmp_path / "bild ä 4.png").write_bytes(b"no image")
    (tmp_path / "bild ä 7.png").unlink()
    return paths


def test_images_come_back_in_order(pool):
    shards = list(score_shards(FakeDetector(), [pool[:5], pool[5:]], batch_size=2, threads=3))
    assert [len(shard.images) for shard in shards] == [5, 7]
    detections = Detections.concat([shard.detections for shard in shards])
    heights = [0 if i in (4, 7) else 20 if i % 3 else 30 for i in range(12)]
    assert detections.counts.tolist() == [h // 10 for h in heights]
    features = detections.image_features
    assert features is not None
    expected = [0.0 if i in (4, 7) else 20 * i / 255 for i in range(12)]
    torch.testing.assert_close(features[:, 0], torch.tensor(expected))


def test_table_names_what_is_broken(pool):
    (shard,) = score_shards(FakeDetector(), [pool], batch_size=4)
    images = shard.images
    assert dict(images.schema) == IMAGE_SCHEMA
    assert images["path"].to_list() == pool
    assert images["height"].to_list()[:6] == [30, 20, 20, 30, None, 20]
    broken = images.filter(images["error"].is_not_null())
    assert broken["path"].to_list() == [pool[4], pool[7]]
    assert broken["content_hash"].null_count() == 2
    assert images["content_hash"].n_unique() == 11
    # Image i is plain with the grey value 20 i.
    luminance = [None if i in (4, 7) else 20.0 * i for i in range(12)]
    assert images["luminance"].to_list() == luminance
    assert images["sharpness"].to_list() == [None if x is None else 0.0 for x in luminance]


def test_batches_depend_on_the_shard_alone(pool):
    class Slow(FakeDetector):
        def prepare(self, pixels, path):
            time.sleep(0.01 * (hash(path) % 3))
            return super().prepare(pixels, path)

    runs = []
    for detector, threads in ((FakeDetector(), 1), (Slow(), 4)):
        list(score_shards(detector, [pool[:6], pool[6:]], batch_size=2, threads=threads))
        runs.append(sorted(detector.batches))
    assert runs[0] == runs[1]
    numbers = [[pool.index(path) for path in batch] for batch in runs[0]]
    assert sorted(numbers) == [[0, 3], [1, 2], [5], [6, 9], [8, 10], [11]]


def test_cpu_batches_run_side_by_side_on_one_thread_each(pool):
    detector = FakeDetector()
    before = torch.get_num_threads()
    list(score_shards(detector, [pool], batch_size=1, threads=2))
    assert {count for _, count in detector.threads} == {1}
    assert all(name.startswith("detal-predict") for name, _ in detector.threads)
    assert torch.get_num_threads() == before


def test_several_detectors_share_one_decoding(pool, monkeypatch):
    class Darker(FakeDetector):
        def prepare(self, pixels, path):
            return super().prepare(pixels // 2, path)

    decoded: list[str] = []
    read = read_image

    def counted(path):
        decoded.append(path)
        return read(path)

    monkeypatch.setattr(scoring, "read_image", counted)
    done: list[int] = []
    detectors = [FakeDetector(), Darker(), FakeDetector()]
    passes = score_passes(
        detectors, [pool[:5], pool[5:]], batch_size=2, threads=2, progress=done.append
    )
    shards = list(passes)
    assert sorted(decoded) == sorted(pool)
    assert sum(done) == 3 * len(pool)
    for i, detector in enumerate((FakeDetector(), Darker(), FakeDetector())):
        alone = list(score_shards(detector, [pool[:5], pool[5:]], batch_size=2, threads=2))
        for shard, expected in zip(shards, alone, strict=True):
            assert torch.equal(shard[i].detections.scores, expected.detections.scores)
            assert torch.equal(shard[i].detections.offsets, expected.detections.offsets)
            assert shard[i].images.equals(expected.images)
        assert sorted(detectors[i].batches) == sorted(detector.batches)


@pytest.mark.parametrize("shards", [[], [[]]], ids=["no-shard", "empty-shard"])
def test_nothing_to_score(shards):
    results = list(score_shards(FakeDetector(), shards, batch_size=2))
    assert [shard.detections.num_images for shard in results] == [0] * len(shards)
    assert all(dict(shard.images.schema) == IMAGE_SCHEMA for shard in results)


def test_every_image_broken(pool):
    (shard,) = score_shards(FakeDetector(), [[pool[4], pool[7]]], batch_size=2)
    assert shard.detections.counts.tolist() == [0, 0]
    assert shard.detections.image_features is not None
    assert shard.detections.image_features.tolist() == [[0.0], [0.0]]
    assert shard.images["error"].null_count() == 0


class Small(FakeDetector):
    """Has memory for ``fits`` images."""

    def __init__(self, fits: int, error: RuntimeError) -> None:
        super().__init__()
        self.fits, self.error, self.failures = fits, error, 0

    def predict(self, batch):
        if len(batch) > self.fits:
            self.failures += 1
            raise self.error
        return super().predict(batch)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(torch.OutOfMemoryError("CUDA out of memory"), id="cuda"),
        pytest.param(RuntimeError("MPS backend out of memory"), id="words"),
        pytest.param(RuntimeError("DefaultCPUAllocator: can't allocate memory"), id="cpu"),
    ],
)
def test_out_of_memory_halves_the_batch(pool, caplog, error):
    detector = Small(1, error)
    good = [path for i, path in enumerate(pool) if i % 3 and i not in (4, 7)]
    (expected,) = score_shards(FakeDetector(), [good], batch_size=6)
    with caplog.at_level(logging.WARNING):
        (shard,) = score_shards(detector, [good], batch_size=4, threads=1)
    assert torch.equal(shard.detections.scores, expected.detections.scores)
    assert max(map(len, detector.batches)) == 1
    assert detector.failures == 2
    assert "out of memory at batch size 4, going on with 2" in caplog.text


def test_one_image_too_large_for_memory(pool):
    with pytest.raises(DetectorError, match=r"one image does not fit .*bild ä \d"):
        list(score_shards(Small(0, torch.OutOfMemoryError("x")), [pool], batch_size=2))


def test_other_errors_pass(pool):
    detector = Small(0, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        list(score_shards(detector, [pool], batch_size=2))


def test_stops_when_the_caller_does(pool):
    taken = []

    def shards():
        for i in range(1000):
            taken.append(i)
            yield pool

    results = score_shards(FakeDetector(), shards(), batch_size=2)
    next(results)
    results.close()  # type: ignore[attr-defined]
    before = len(taken)
    time.sleep(0.1)
    assert len(taken) == before < 20
    assert not [t for t in threading.enumerate() if t.name.startswith("detal")]


@pytest.mark.parametrize(("batch_size", "threads"), [(0, 1), (1, 0)])
def test_sizes_must_be_positive(batch_size, threads):
    with pytest.raises(DetectorError, match="batch_size and threads must be >= 1"):
        list(score_shards(FakeDetector(), [], batch_size=batch_size, threads=threads))
