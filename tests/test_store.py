from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from detal.errors import StoreError
from detal.store import Store, image_keys
from detal.structures import Detections


def make_store(root: Path, **changes) -> Store:
    values = {
        "fingerprint": "abc",
        "settings": {"image_size": 64},
        "class_names": ("a", "b", "c"),
        "score_kind": "sigmoid",
        **changes,
    }
    return Store(root, **values)


def detections(counts: list[int], *, seed: int = 0, features: bool = True) -> Detections:
    draw = torch.Generator().manual_seed(seed)
    n = sum(counts)
    return Detections(
        offsets=torch.tensor([0, *np.cumsum(counts)]),
        boxes=torch.rand(n, 4, generator=draw) * 500,
        scores=torch.rand(n, generator=draw),
        labels=torch.randint(0, 3, (n,), generator=draw),
        logits=torch.randn(n, 3, generator=draw).half().float(),
        score_kind="sigmoid",
        cluster_spread=torch.rand(n, 4, generator=draw),
        mutual_information=torch.rand(n, generator=draw) if features else None,
        tightness=torch.rand(n, generator=draw) if features else None,
        object_features=torch.randn(n, 5, generator=draw).half().float() if features else None,
        image_features=(
            torch.randn(len(counts), 6, generator=draw).half().float() if features else None
        ),
    )


def table(names: list[str]) -> pl.DataFrame:
    return pl.DataFrame(
        {"path": names, "content_hash": names, "error": [None] * len(names)},
        schema_overrides={"error": pl.String},
    )


def assert_same(left: Detections, right: Detections) -> None:
    for name, value in vars(left).items():
        other = getattr(right, name)
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(other, value, rtol=0, atol=0)
        else:
            assert value == other, name


@pytest.mark.parametrize("features", [True, False], ids=["features", "no-features"])
def test_round_trip_over_shards_in_any_order(tmp_path: Path, features: bool) -> None:
    store = make_store(tmp_path)
    first = detections([2, 0, 3], features=features)
    second = detections([1, 4], seed=1, features=features)
    store.write(["k0", "k1", "k2"], table(["0", "1", "2"]), first)
    store.write(["k3", "k4"], table(["3", "4"]), second)
    whole = Detections.concat([first, second])

    stored = store.read(["k4", "k1", "k0", "k3"])
    assert stored.images["content_hash"].to_list() == ["4", "1", "0", "3"]
    assert_same(whole.take([4, 1, 0, 3]), stored.detections([0, 1, 2, 3]))
    assert_same(whole.take([3, 4]), stored.detections([3, 0]))
    assert_same(whole.take([3, 4]), stored.places().detections([3, 0]))
    for index, part in stored.chunks():
        assert_same(whole.take([[4, 1, 0, 3][i] for i in index]), part)
    vectors = stored.image_features()
    if features:
        assert vectors is not None
        assert whole.image_features is not None
        np.testing.assert_array_equal(vectors, whole.image_features.numpy()[[4, 1, 0, 3]])
    else:
        assert vectors is None


def test_score_sums_are_those_of_the_detections(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    first, second = detections([2, 0, 3]), detections([1, 4], seed=1)
    store.write(["k0", "k1", "k2"], table(["0", "1", "2"]), first)
    store.write(["k3", "k4"], table(["3", "4"]), second)
    stored = store.read(["k4", "k1", "k2"])
    expected = [scores.sum() for scores in (second.scores[1:], first.scores[:0], first.scores[2:])]
    assert stored.score_sums() == pytest.approx(np.array(expected))
    assert store.read([]).score_sums().shape == (0,)


@pytest.mark.parametrize("reader", ["polars", "pandas", "duckdb"])
def test_other_programs_read_the_tables(tmp_path: Path, reader: str) -> None:
    store = make_store(tmp_path)
    seen = detections([2, 0, 3])
    store.write(["k0", "k1", "k2"], table(["0", "1", "2"]), seen)
    library = pytest.importorskip(reader)
    if reader == "pandas":
        pytest.importorskip("pyarrow")
    (boxes,) = store.folder.glob("*.boxes.parquet")
    images = next(p for p in store.folder.glob("*.parquet") if p != boxes)
    for path, column, expected in (
        (images, "num_boxes", [2, 0, 3]),
        (boxes, "row", [0, 0, 2, 2, 2]),
        (boxes, "score", seen.scores.tolist()),
    ):
        if reader == "duckdb":
            found = [row[0] for row in library.sql(f"SELECT {column} FROM '{path}'").fetchall()]
        else:
            found = library.read_parquet(path)[column].to_list()
        assert found == pytest.approx(expected)


def test_missing_names_each_new_image_once(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.write(["k0"], table(["0"]), detections([1]))
    assert store.missing(["k1", "k0", "k1", "k2"]).tolist() == [0, 3]
    assert make_store(tmp_path).missing(["k0"]).tolist() == []


def test_other_settings_do_not_see_the_shards(tmp_path: Path) -> None:
    make_store(tmp_path).write(["k0"], table(["0"]), detections([1]))
    for change in ({"settings": {"image_size": 96}}, {"fingerprint": "other"}):
        assert make_store(tmp_path, **change).missing(["k0"]).tolist() == [0]


def test_a_shard_without_its_image_table_does_not_exist(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.write(["k0"], table(["0"]), detections([1]))
    next(p for p in store.folder.glob("*.parquet") if "boxes" not in p.name).unlink()
    assert store.missing(["k0"]).tolist() == [0]
    with pytest.raises(StoreError, match="1 of 1 images are not in the store"):
        store.read(["k0"])


def test_a_failing_write_leaves_nothing_behind(tmp_path: Path, monkeypatch) -> None:
    store = make_store(tmp_path)

    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    with pytest.raises(StoreError, match=r"No space left.*run the same command again"):
        store.write(["k0"], table(["0"]), detections([1]))
    monkeypatch.undo()
    assert store.missing(["k0"]).tolist() == [0]
    store.write(["k0"], table(["0"]), detections([1]))
    assert store.missing(["k0"]).tolist() == []


def test_writing_a_shard_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    stores = [make_store(tmp_path / name) for name in ("a", "b")]
    for store in stores:
        store.write(["k0", "k1"], table(["0", "1"]), detections([1, 2]))
    files = [sorted(store.folder.iterdir()) for store in stores]
    assert [f.name for f in files[0]] == [f.name for f in files[1]]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(*files, strict=True))


def test_no_images(tmp_path: Path) -> None:
    stored = make_store(tmp_path).read([])
    assert (len(stored), len(stored.detections([])), stored.image_features()) == (0, 0, None)


def test_unwritable_root(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write the store"):
        make_store(tmp_path / "file" / "store")


def test_keys_change_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "ü b.jpg"
    keys = [image_keys([str(path)])[0]]
    for content in (b"1", b"22"):
        path.write_bytes(content)
        keys.append(image_keys([str(path)])[0])
    assert len(set(keys)) == 3
    assert image_keys([str(path)])[0] == keys[-1]


def test_an_image_in_several_shards_is_read_once(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    found = detections([2, 1])
    store.write(["k0", "k1"], table(["0", "1"]), found)
    store.write(["k1"], table(["1"]), found.take([1]))
    stored = store.read(["k1", "k0", "k1"])
    assert stored.images["content_hash"].to_list() == ["1", "0", "1"]
    assert_same(found.take([1, 0, 1]), stored.detections([0, 1, 2]))
    assert store.missing(["k2", "k1", "k2"]).tolist() == [0]
