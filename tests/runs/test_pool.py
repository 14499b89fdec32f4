"""Which images of a pool may be picked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest

from detal.datasets import Dataset
from detal.datasets.listing import image_frame
from detal.runs.pool import ScoredDataset, candidate_pool
from detal.store import Store
from detal.structures import Detections


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


def test_unreadable_and_equal_images(store: Store) -> None:
    pool = scored(store, ["4", "3", "2", "1"], contents="aab!")
    found = candidate_pool(pool, None, class_names=("a",))
    assert list(found.candidates.image_ids) == ["2", "3"]
    assert found.excluded == {"unreadable": 1, "duplicate_content": 1}
