"""Which images of a pool may be picked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from detal.datasets import Dataset
from detal.datasets.listing import image_frame
from detal.runs.pool import ScoredDataset, candidate_pool
from detal.store import Store
from detal.structures import Detections
from tests.runs.factories import CLASSES, scored_pool


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store of a detector that sees nothing."""
    return Store(tmp_path, fingerprint="f", settings={}, class_names=("a",), score_kind="sigmoid")


def scored(
    store: Store, ids: Sequence[str], *, source_ids: Sequence[str] | None = None, contents: str
) -> ScoredDataset:
    """Images with one letter of content each; ``!`` cannot be read."""
    paths = [f"{contents} {image_id}" for image_id in ids]
    metadata = None if source_ids is None else {"detal_image_id": source_ids}
    dataset = Dataset(
        name="set",
        images=image_frame(ids, paths, metadata=metadata),
        class_names=("a",),
        category_ids=(1,),
    )
    looks = pl.DataFrame(
        {
            "path": paths,
            "width": [64] * len(ids),
            "height": [48] * len(ids),
            "content_hash": [None if c == "!" else c for c in contents],
            "error": ["broken" if c == "!" else None for c in contents],
        },
        schema_overrides={"width": pl.Int32, "height": pl.Int32, "error": pl.String},
    )
    store.write(paths, looks, Detections.empty(len(ids), num_classes=1))
    return ScoredDataset(dataset=dataset, stored=store.read(paths))


@pytest.mark.parametrize(
    ("source_ids", "match_ids", "expected"),
    [
        pytest.param(None, True, ["3", "4"], id="same-id"),
        pytest.param(None, False, ["1", "3", "4"], id="same-content-only"),
        pytest.param(["x", "3"], True, ["1", "4"], id="id-where-it-comes-from"),
    ],
)
def test_labelled_images_are_left_out(
    store: Store, source_ids: list[str] | None, match_ids: bool, expected: list[str]
) -> None:
    pool = scored(store, ["4", "3", "2", "1"], contents="abcd")
    labeled = scored(store, ["1", "7"], source_ids=source_ids, contents="zc")
    found = candidate_pool(pool, labeled, class_names=("a",), match_ids=match_ids)
    assert list(found.candidates.image_ids) == expected


def test_metadata_is_what_the_user_says_and_what_was_measured(store: Store) -> None:
    """One shard of an older version has no measured columns; the user's own column stands."""
    ids, paths = ["1", "2", "3"], ["p1", "p2", "p3"]
    looks = pl.DataFrame(
        {
            "path": paths,
            "width": pl.Series([64] * 3, dtype=pl.Int32),
            "height": pl.Series([48] * 3, dtype=pl.Int32),
            "content_hash": ["a", "b", "c"],
            "error": pl.Series([None] * 3, dtype=pl.String),
            "sharpness": pl.Series([1.0, 2.0, 3.0], dtype=pl.Float32),
            "contrast": pl.Series([4.0, 5.0, 6.0], dtype=pl.Float32),
        }
    )
    nothing = Detections.empty(1, num_classes=1)
    store.write(paths[:2], looks[:2], nothing.take([0, 0]))
    store.write(paths[2:], looks[2:].drop("sharpness", "contrast"), nothing)
    user: dict[str, list[Any]] = {"weather": ["rain", "sun", "fog"], "contrast": [0, 0, 1]}
    dataset = Dataset(
        name="set",
        images=image_frame(ids, paths, metadata=user),
        class_names=("a",),
        category_ids=(1,),
    )
    found = candidate_pool(
        ScoredDataset(dataset=dataset, stored=store.read(paths)), None, class_names=("a",)
    )
    table = found.candidates.metadata
    assert table is not None
    assert table["sharpness"].to_list() == [1.0, 2.0, None]
    assert table["contrast"].cast(pl.Int64).to_list() == [0, 0, 1]
    assert table["weather"].to_list() == ["rain", "sun", "fog"]
    assert table["width"].to_list() == [64] * 3


def test_unreadable_and_equal_images(store: Store) -> None:
    pool = scored(store, ["4", "3", "2", "1"], contents="aab!")
    found = candidate_pool(pool, None, class_names=("a",))
    assert list(found.candidates.image_ids) == ["2", "3"]
    assert found.excluded == {"unreadable": 1, "duplicate_content": 1}


def test_candidates_come_by_id_with_their_own_numbers(tmp_path: Path) -> None:
    pool = scored_pool(tmp_path / "pool", ["c", "a", "b"], ["h0", "h1", "h2"])
    result = candidate_pool(pool, None, class_names=CLASSES)
    assert result.candidates.image_ids.tolist() == ["a", "b", "c"]
    np.testing.assert_allclose(result.candidates.expected_boxes, [0.2, 0.3, 0.1])
    assert result.candidates.image_features is not None
    assert result.candidates.image_features[:, 0].tolist() == [1, 2, 0]
    chosen, detections = result.detections(["c", "a"])
    assert chosen.dataset.images["width"].to_list() == [40, 40]
    torch.testing.assert_close(detections.scores, torch.tensor([0.1, 0.2]))


def test_every_reason_to_leave_out_is_counted(tmp_path: Path) -> None:
    pool = scored_pool(tmp_path / "pool", list("abcde"), ["h0", "h1", None, "h3", "h3"])
    labeled = scored_pool(tmp_path / "labeled", ["b", "z"], ["other", "h0"], labels=[[0, 1], [1]])
    result = candidate_pool(pool, labeled, class_names=CLASSES)
    assert result.candidates.image_ids.tolist() == ["d"]
    assert result.excluded == {
        "unreadable": 1,
        "labelled_content": 1,
        "labelled_id": 1,
        "duplicate_content": 1,
    }
    assert result.candidates.labeled.class_counts.tolist() == [1, 2]


def test_labelled_classes_are_matched_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pool = scored_pool(tmp_path / "pool", ["a"], ["h0"])
    labeled = scored_pool(
        tmp_path / "labeled", ["z"], ["h9"], class_names=("cow", "dog"), labels=[[0, 1, 1]]
    )
    result = candidate_pool(pool, labeled, class_names=CLASSES)
    assert result.candidates.labeled.class_counts.tolist() == [0, 2]
    assert "cow" in caplog.text


def test_unreadable_labelled_images_have_no_features(tmp_path: Path) -> None:
    pool = scored_pool(tmp_path / "pool", ["a"], ["h0"])
    labeled = scored_pool(tmp_path / "labeled", ["y", "z"], [None, "h9"], labels=[[0], [1]])
    features = candidate_pool(pool, labeled, class_names=CLASSES).candidates.labeled.image_features
    assert features is not None
    assert features.tolist() == [[1, 1]]


def test_further_passes_follow_the_candidates(tmp_path: Path) -> None:
    hashes: list[str | None] = ["h0", "h1", None, "h3", "h3"]
    pool = scored_pool(tmp_path / "pool", list("edcba"), hashes)
    other = scored_pool(tmp_path / "view", list("edcba"), hashes)
    pool = replace(pool, passes={"flip": other.stored})
    labeled = scored_pool(tmp_path / "labeled", ["z"], ["h1"], labels=[[0]])
    candidates = candidate_pool(pool, labeled, class_names=CLASSES).candidates
    assert candidates.image_ids.tolist() == ["a", "e"]
    for index, detections in candidates.chunks():
        assert torch.equal(candidates.passes["flip"](index).scores, detections.scores)
    both = candidates.passes["flip"](np.array([1, 0]))
    torch.testing.assert_close(both.scores, torch.tensor([0.1, 0.5]))


class TestReference:
    def test_its_images_are_no_candidates_and_strategies_see_it(self, tmp_path: Path) -> None:
        pool = scored_pool(tmp_path / "pool", list("abc"), ["h0", "h1", "h2"])
        reference = scored_pool(
            tmp_path / "reference",
            ["a", "x", "y"],  # ids prove nothing
            ["h8", "h1", None],
            class_names=("dog", "cow"),
            labels=[[0, 1], [1, 1, 0], [0]],
        )
        result = candidate_pool(pool, None, class_names=CLASSES, reference=reference)
        assert result.candidates.image_ids.tolist() == ["a", "c"]
        assert result.excluded["reference_content"] == 1
        seen = result.candidates.reference
        assert seen is not None
        assert seen.detections is not None
        assert seen.annotations is not None
        assert len(seen.detections()) == len(seen.annotations) == 2
        assert seen.annotations.labels.tolist() == [1, 1]
        assert result.candidates.subset([1]).reference is seen

    def test_what_is_labelled_is_not_held_out(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        pool = scored_pool(tmp_path / "pool", list("ab"), ["h0", "h1"])
        labeled = scored_pool(tmp_path / "labeled", ["l", "m"], ["h0", "h7"], labels=[[0], [1]])
        reference = scored_pool(
            tmp_path / "reference", list("xyz"), ["h7", "h8", "h9"], labels=[[0], [0], [1]]
        )
        result = candidate_pool(pool, labeled, class_names=CLASSES, reference=reference)
        seen = result.candidates.reference
        assert seen is not None
        assert seen.annotations is not None
        assert seen.annotations.labels.tolist() == [0, 1]
        assert "1 of the 3 images of the reference set are labelled" in caplog.text
        assert result.excluded["labelled_content"] == 1

    def test_without_one(self, tmp_path: Path) -> None:
        pool = scored_pool(tmp_path / "pool", list("ab"), ["h0", "h1"])
        result = candidate_pool(pool, None, class_names=CLASSES)
        assert result.candidates.reference is None
        assert "reference_content" not in result.excluded
