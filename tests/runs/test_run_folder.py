import json
from pathlib import Path

import numpy as np
import pytest

from detal.errors import DataError
from detal.runs.kept import FOLDER, describe, read_kept
from detal.runs.run_folder import join_batches, read_run, take_batch
from detal.strategies import Labeled
from tests.manifests.factories import selection_of
from tests.runs.run_folders import as_older, write_run
from tests.strategies.factories import pool_of


def test_a_run_comes_back_as_it_was_written(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run"))
    assert [image.image_id for image in run.batch.images] == [f"id000{i}" for i in range(6)]
    assert run.batch.selection.reasons == tuple(f"reason {i}" for i in range(6))
    assert np.isnan(run.batch.selection.scores[-1])
    assert run.batch.selection.spent == 6
    assert run.batch.selection.passed_over["near_duplicate"] == 2
    assert run.batch.class_names == ("cat", "dog", "owl")
    assert run.batch.detections.counts.tolist() == [2, 1, 0, 2, 1, 0]
    assert run.batch.detections.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert run.batch.detections.boxes[1].tolist() == [12, 5, 22, 15]
    assert [image.image_id for image in run.reserve.images] == ["id0006", "id0007", "id0008"]
    assert run.kept is not None
    assert [list(pair) for pair in run.kept.expected[0]] == [[0, 0.9], [1, 0.5]]
    assert len(run.kept.selected) == 9


def test_an_older_run_has_no_reserve(tmp_path: Path) -> None:
    run = read_run(as_older(write_run(tmp_path / "run")))
    assert (len(run.batch), len(run.reserve), run.kept) == (6, 0, None)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("run.json", "{", "cannot read .*run.json", id="cut-off"),
        pytest.param("run.json", "{}", "run.json must be written by", id="empty-record"),
        pytest.param("coco.json", '{"images": []}', "coco.json must be", id="other-images"),
        pytest.param(f"{FOLDER}/data.json", "[]", "data.json must be", id="kept"),
        pytest.param(f"{FOLDER}/data.json", '{"version": 9}', "version 1", id="version"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    folder = write_run(tmp_path / "run")
    (folder / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_run(folder)


def test_what_was_kept_must_fit_the_batch(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    path = folder / FOLDER / "data.json"
    record = json.loads(path.read_text())
    record["expected"].pop()
    path.write_text(json.dumps(record))
    with pytest.raises(DataError, match="describe 9 images, it describes 8"):
        read_run(folder)


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="written by detal select"):
        read_run(tmp_path)


def test_taking_and_joining(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run"))
    both = join_batches(take_batch(run.batch, np.array([4, 0])), run.reserve)
    assert both.selection.image_ids == ("id0004", "id0000", "id0006", "id0007", "id0008")
    assert both.detections.counts.tolist() == [1, 2, 2, 1, 0]
    assert both.selection.budget == run.batch.selection.budget


def test_histograms_by_hand() -> None:
    """Four images with best scores 0.9, 0.5, 0.1 and none; the batch is the first two."""
    candidates = pool_of([[(0, 0.9), (1, 0.3)], [(0, 0.5)], [(1, 0.1)], []])
    batch, nothing = selection_of(["000", "001"]), selection_of([])
    kept = describe(candidates, batch, nothing, detections=candidates.take([0, 1]))
    best = kept.histograms["best_score"]
    assert np.flatnonzero(best.pool).tolist() == [0, 2, 12, 22]  # bins of 0.04
    assert np.flatnonzero(best.batch).tolist() == [12, 22]
    assert sum(kept.histograms["box_score"].pool) == 4
    assert sum(kept.histograms["box_score"].batch) == 3
    assert sum(kept.histograms["expected_boxes"].pool) == 4
    assert kept.selected == []
    assert kept.expected_counts(np.array([0, 1])).tolist() == pytest.approx([1.4, 0.3, 0])


def test_labelled_images_are_on_the_map() -> None:
    features = np.random.default_rng(0).normal(size=(5, 3))
    candidates = pool_of([[(0, 0.9)]] * 5, features=features, labeled=features[:2] * 3)
    kept = describe(
        candidates, selection_of(["003"]), selection_of([]), detections=candidates.take([3])
    )
    assert isinstance(candidates.labeled, Labeled)
    assert kept.labeled == kept.pool[:2]  # the same directions, whatever their length
    assert kept.selected == [kept.pool[3]]
    assert 0 < sum(kept.explained) <= 1.0001


def test_nothing_kept(tmp_path: Path) -> None:
    assert read_kept(tmp_path) is None
