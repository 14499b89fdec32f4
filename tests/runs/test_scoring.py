"""Filling the stores of several passes: what is lacking, once, and again after an interruption."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
import pytest
import torch

from detal import scoring
from detal.datasets import Dataset, open_dataset
from detal.datasets.images import read_image
from detal.detectors import Detector, Prepared, view_of
from detal.errors import ConfigError, DataError, DetectorError
from detal.runs.scoring import Scorer, check_needs, open_store, score_into_stores
from detal.store import Store, image_keys
from detal.strategies import Needs
from detal.structures import Detections, ScoreKind


class LeftBright:
    """One box over the left half of each image, scored by its mean brightness."""

    class_names: tuple[str, ...] = ("thing",)
    score_kind: ScoreKind = "sigmoid"
    device = torch.device("cpu")

    def __init__(self, fingerprint: str = "own", class_names: tuple[str, ...] = ("thing",)) -> None:
        self.settings: dict[str, Any] = {}
        self.fingerprint = fingerprint
        self.class_names = class_names

    def prepare(self, pixels, path):
        return Prepared(path=path, tensor=pixels, size_hw=pixels.shape[:2], batch_key=pixels.shape)

    def predict(self, batch):
        n = len(batch)
        return Detections(
            offsets=torch.arange(n + 1),
            boxes=torch.tensor([[0.0, 0, 20, 30]] * n).reshape(n, 4),
            scores=torch.tensor([item.tensor[:, :20].mean() / 255 for item in batch]).float(),
            labels=torch.zeros(n, dtype=torch.int64),
            logits=torch.zeros(n, len(self.class_names)),
            score_kind="sigmoid",
        )


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Nine images, bright on the left and darker on the right; the third is broken."""
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(9):
        pixels = np.full((30, 40, 3), 20 + 20 * i, dtype=np.uint8)
        pixels[:, 20:] //= 2
        (folder / f"{i}.png").write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    (folder / "2.png").write_bytes(b"broken")
    return open_dataset(folder)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The images read from disk, as they are."""
    paths: list[str] = []
    read = read_image

    def counted(path: str) -> Any:
        paths.append(path)
        return read(path)

    monkeypatch.setattr(scoring, "read_image", counted)
    return paths


def fill(root: Path, dataset: Dataset, *detectors: Detector) -> list[int]:
    passes = [(open_store(root, detector), detector) for detector in detectors]
    results = score_into_stores(
        passes,
        dataset.images["path"].to_list(),
        shard_size=4,
        batch_size=2,
        threads=1,
        progress=lambda done, total: None,
    )
    return [newly for _, newly in results]


def scorer(
    root: Path, *, load_member: Callable[[str], Detector] = lambda path: LeftBright(path)
) -> Scorer:
    return Scorer(
        detector=LeftBright(),
        root=root,
        shard_size=4,
        batch_size=2,
        threads=1,
        start_progress=lambda title: lambda done, total: None,
        load_member=load_member,
    )


def test_all_passes_share_one_decoding(
    tmp_path: Path, dataset: Dataset, decoded: list[str]
) -> None:
    own = LeftBright()
    flip, rotate = view_of(own, "flip"), view_of(own, "rotate")
    assert fill(tmp_path / "store", dataset, own, flip, rotate) == [9, 9, 9]
    assert sorted(decoded) == sorted(dataset.images["path"])
    assert fill(tmp_path / "store", dataset, own, flip, rotate) == [0, 0, 0]
    assert len(decoded) == 9


def test_only_what_a_store_lacks_is_scored(
    tmp_path: Path, dataset: Dataset, decoded: list[str]
) -> None:
    own = LeftBright()
    flip = view_of(own, "flip")
    assert fill(tmp_path / "store", dataset.take(np.arange(5)), own) == [5]
    assert fill(tmp_path / "store", dataset.take(np.arange(3, 6)), flip) == [3]
    del decoded[:]
    assert fill(tmp_path / "store", dataset, own, flip) == [4, 6]
    # Images 0 to 2 lack the flip, 5 its own pass, 6 to 8 both; 3 and 4 lack nothing.
    assert sorted(decoded) == sorted(
        dataset.images["path"].to_list()[i] for i in (0, 1, 2, 5, 6, 7, 8)
    )


def test_an_interrupted_run_goes_on_to_the_same_result(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = LeftBright()
    flip = view_of(own, "flip")
    writes = 0
    write = Store.write

    def dies(self: Store, *args: Any) -> None:
        nonlocal writes
        writes += 1
        if writes == 4:  # the second shard of the flip
            raise KeyboardInterrupt
        write(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", dies)
        with pytest.raises(KeyboardInterrupt):
            fill(tmp_path / "broken", dataset, own, flip)
    assert fill(tmp_path / "broken", dataset, own, flip) == [1, 5]
    fill(tmp_path / "whole", dataset, own, flip)
    for detector in (own, flip):
        paths = dataset.images["path"].to_list()
        parts = [
            open_store(tmp_path / name, detector).read(image_keys(paths)).detections(np.arange(9))
            for name in ("broken", "whole")
        ]
        assert torch.equal(parts[0].boxes, parts[1].boxes)
        assert torch.equal(parts[0].scores, parts[1].scores)


class TestScorer:
    def test_views_and_members(self, tmp_path: Path, dataset: Dataset) -> None:
        needs = Needs(views=("flip",), members=("a.pt", "b.pt"))
        scored, records = scorer(tmp_path / "store").score(dataset, title="pool", needs=needs)
        assert list(scored.passes) == ["flip", "member:0", "member:1"]
        assert [record["name"] for record in records] == ["own", *scored.passes]
        assert len({record["store_key"] for record in records}) == 4
        assert [record["together_with"] for record in records] == [["flip"], ["own"], [], []]
        assert [record.get("weights") for record in records] == [None, None, "a.pt", "b.pt"]
        assert {record["scored_now"] for record in records} == {9}
        rows = np.array([8, 0, 2])
        part = scored.take(rows)
        own, flip = (s.detections(np.arange(3)) for s in (part.stored, part.passes["flip"]))
        assert own.counts.tolist() == flip.counts.tolist() == [1, 1, 0]
        # The flipped image is dark on the left; its box lies on the right of the original.
        assert own.scores.tolist() == pytest.approx([180 / 255, 20 / 255])
        assert flip.scores.tolist() == pytest.approx([90 / 255, 10 / 255])
        assert flip.boxes.tolist() == [[20, 0, 40, 30]] * 2

    @pytest.mark.parametrize(
        ("member", "message"),
        [
            pytest.param(LeftBright("x", ("other",)), "must have the classes", id="classes"),
            pytest.param(LeftBright("own"), "x.pt is the detector itself", id="itself"),
        ],
    )
    def test_members_that_do_not_fit(
        self, tmp_path: Path, dataset: Dataset, member: Detector, message: str
    ) -> None:
        other = scorer(tmp_path / "store", load_member=lambda path: member)
        with pytest.raises(ConfigError, match=message):
            other.score(dataset, title="pool", needs=Needs(members=("x.pt",)))


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        pytest.param(Needs(views=("flop",)), "unknown view", id="view"),
        pytest.param(Needs(dropout=True), "dropout_samples=20 .*`committee`", id="dropout"),
        pytest.param(Needs(earlier_rounds=3), "strategy.members=", id="members"),
    ],
)
def test_needs_are_checked_before_scoring(needs: Needs, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_needs(needs, LeftBright())
    check_needs(Needs(views=("flip",), members=("a.pt",), earlier_rounds=3), LeftBright())


def test_images_that_go_away_are_not_quarantined(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = LeftBright()
    folder = Path(dataset.images["path"][0]).parent
    elsewhere = folder.with_name("unmounted")
    read = read_image

    def leave(path: str) -> Any:
        if path.endswith("6.png") and folder.exists():
            folder.rename(elsewhere)
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(scoring, "read_image", leave)
        with pytest.raises(DataError, match=r"went away or changed, for example .*still mounted"):
            fill(tmp_path / "store", dataset, own)
    elsewhere.rename(folder)
    left = fill(tmp_path / "store", dataset, own)[0]
    assert left in (5, 9)  # the first shard of four may have been written before
    store = open_store(tmp_path / "store", own)
    errors = store.read(image_keys(dataset.images["path"].to_list())).images["error"]
    assert errors.null_count() == 8  # one is broken


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE])
def test_a_fault_of_the_machine_is_none_of_the_image(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(path: Path) -> BinaryIO:
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patch:
        patch.setattr("detal.datasets.images.open_regular", fail)
        with pytest.raises(OSError, match=os.strerror(number)):
            fill(tmp_path / "store", dataset, LeftBright())
    assert fill(tmp_path / "store", dataset, LeftBright()) == [9]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"boxes": torch.tensor([[0.0, 0, 20, torch.nan]])}, "boxes .* finite", id="b"),
        pytest.param({"scores": torch.tensor([torch.inf])}, "scores .* finite", id="scores"),
        pytest.param({"logits": torch.tensor([[torch.nan]])}, "logits .* finite", id="logits"),
    ],
)
def test_a_detector_that_gives_no_numbers(
    tmp_path: Path, dataset: Dataset, change: dict[str, Any], message: str
) -> None:
    class Odd(LeftBright):
        def predict(self, batch):
            found = super().predict(batch)
            n = len(batch)
            return replace(found, **{k: v.expand(n, *v.shape[1:]) for k, v in change.items()})

    with pytest.raises(DetectorError, match=message):
        fill(tmp_path / "store", dataset, Odd())


def test_a_detector_that_sees_nothing_and_one_that_answers_nothing(
    tmp_path: Path, dataset: Dataset
) -> None:
    class Blind(LeftBright):
        def predict(self, batch):
            return Detections.empty(len(batch), num_classes=1)

    class Mute(LeftBright):
        def predict(self, batch):
            return Detections.empty(0, num_classes=1)

    assert fill(tmp_path / "store", dataset, Blind("blind")) == [9]
    with pytest.raises(DetectorError, match="must answer for each image, it did for 0 of 2"):
        fill(tmp_path / "store", dataset, Mute("mute"))
