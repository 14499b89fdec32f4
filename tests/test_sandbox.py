"""The generated dataset: repeatable, fair and as its recipe says."""

import hashlib
import json
import sys
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from detal.errors import ConfigError
from detal.sandbox import Sandbox, make_sandbox
from detal.sandbox.build import SPLITS, draw_image, split_sizes
from detal.sandbox.digits import CLASS_NAMES, class_prior, draw_digit, handwriting
from detal.sandbox.scenes import MIN_VISIBLE, Scene, draw_scene, render

COMMITTED = Path(__file__).resolve().parents[1] / "data" / "sandbox"
FILES = (*SPLITS, "pool_truth")


def load(root: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((root / f"{name}.json").read_text(encoding="utf-8"))
    return content


def read(file_name: str) -> Any:
    return cv2.imread(str(COMMITTED / file_name))


def digests(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    return make_sandbox(tmp_path_factory.mktemp("sandbox") / "small", images=150, seed=3)


@pytest.fixture(scope="module", params=["small", "committed"])
def root(request: pytest.FixtureRequest, small: Sandbox) -> Path:
    return small.root if request.param == "small" else COMMITTED


def scene(seed: int, *, size_px: int = 160) -> Scene:
    return draw_scene(
        np.random.default_rng(seed),
        size_px=size_px,
        prior=class_prior("pool"),
        source=handwriting("pool"),
        first_label=seed % 10,
    )


# Repeatable


def test_same_arguments_give_the_same_bytes_on_any_number_of_workers(
    small: Sandbox, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    again = make_sandbox(
        tmp_path, images=150, seed=3, workers=2, progress=lambda *pair: seen.append(pair)
    )
    assert digests(again.root) == digests(small.root)
    assert seen[-1] == (150, 150)


def test_another_seed_gives_other_images(small: Sandbox) -> None:
    for split in SPLITS:
        jpeg, _, _ = draw_image(split, 0, seed=4, image_size=160)
        assert jpeg != (small.root / f"images/{split}/000000.jpg").read_bytes()


def test_an_image_does_not_depend_on_the_number_of_images(small: Sandbox, tmp_path: Path) -> None:
    larger = make_sandbox(tmp_path / "larger", images=220, seed=3)
    files, more = digests(small.root / "images"), digests(larger.root / "images")
    assert files.items() <= more.items()
    for name in ("seed", "pool_truth", "reference", "test"):
        few, many = load(small.root, name), load(larger.root, name)
        assert many["images"][: len(few["images"])] == few["images"]
        assert many["annotations"][: len(few["annotations"])] == few["annotations"]


def test_second_run_changes_nothing_and_says_so(tmp_path: Path) -> None:
    first = make_sandbox(tmp_path, images=60, image_size=64)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    second = make_sandbox(tmp_path, images=60, image_size=64, workers=2)
    assert first.created
    assert not second.created
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == times


def test_an_interrupted_run_is_made_whole(tmp_path: Path) -> None:
    make_sandbox(tmp_path, images=60, image_size=64)
    whole = digests(tmp_path)

    class StopError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise StopError

    (tmp_path / "test.json").unlink()
    with pytest.raises(StopError):
        make_sandbox(tmp_path, images=60, image_size=64, progress=stop)
    assert make_sandbox(tmp_path, images=60, image_size=64).created
    assert digests(tmp_path) == whole


@pytest.mark.parametrize("gone", ["images/pool/000003.jpg", "pool_truth.json", "seed.json"])
def test_a_missing_file_is_made_again(tmp_path: Path, gone: str) -> None:
    make_sandbox(tmp_path, images=60, image_size=64)
    whole = digests(tmp_path)
    (tmp_path / gone).unlink()
    assert make_sandbox(tmp_path, images=60, image_size=64).created
    assert digests(tmp_path) == whole


# Errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"images": 1}, "images must be 60 to 9999999, got 1", id="one image"),
        pytest.param({"images": 59}, "images must be 60", id="too few"),
        pytest.param({"image_size": 63}, "image_size must be 64 to 2048, got 63", id="tiny"),
        pytest.param({"seed": -1}, "seed must be 0", id="negative seed"),
        pytest.param({"workers": 0}, "workers must be 1", id="no workers"),
        pytest.param({"images": 0, "seed": -2}, "images must be .*; seed must be", id="both named"),
    ],
)
def test_arguments_out_of_range(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_sandbox(tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("change", [{"images": 61}, {"seed": 1}, {"image_size": 65}])
def test_other_arguments_in_the_same_folder(tmp_path: Path, change: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"images": 60, "seed": 0, "image_size": 64}
    make_sandbox(tmp_path, **arguments)
    before = digests(tmp_path)
    with pytest.raises(ConfigError, match="choose another folder or delete that one"):
        make_sandbox(tmp_path, **{**arguments, **change})
    assert digests(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("seed.json", "{}", "holds seed.json but no recipe.json", id="foreign"),
        pytest.param("recipe.json", "[]", "not a sandbox's recipe", id="foreign recipe"),
        pytest.param("recipe.json", "{", "not a sandbox's recipe", id="broken recipe"),
    ],
)
def test_foreign_files_are_not_overwritten(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=message):
        make_sandbox(tmp_path, images=60, image_size=64)
    assert (tmp_path / name).read_text() == content


def test_output_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="must be a folder, found a file"):
        make_sandbox(tmp_path / "file", images=60)


def test_without_scikit_learn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handwriting.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ConfigError, match=r"pip install 'detal\[sandbox\]'"):
        make_sandbox(tmp_path / "new", images=60)
    assert not (tmp_path / "new").exists()


# Contents


@pytest.mark.parametrize(
    ("images", "sizes"),
    [
        pytest.param(60, {"seed": 20, "pool": 23, "reference": 7, "test": 10}, id="smallest"),
        pytest.param(660, {"seed": 100, "pool": 360, "reference": 80, "test": 120}, id="default"),
        pytest.param(
            20_000, {"seed": 200, "pool": 18_300, "reference": 500, "test": 1000}, id="capped"
        ),
    ],
)
def test_split_sizes(images: int, sizes: dict[str, int]) -> None:
    assert split_sizes(images) == sizes


def test_ids_are_unique_over_all_splits(root: Path) -> None:
    splits = [load(root, name) for name in ("seed", "pool_truth", "reference", "test")]
    for key in ("images", "annotations"):
        ids = [row["id"] for split in splits for row in split[key]]
        assert all(type(i) is int for i in ids)
        assert len(set(ids)) == len(ids)


def test_annotations_point_at_images_and_lie_inside(root: Path) -> None:
    for name in ("seed", "pool_truth", "reference", "test"):
        split = load(root, name)
        images = {image["id"]: image for image in split["images"]}
        for row in split["annotations"]:
            image, (x, y, w, h) = images[row["image_id"]], row["bbox"]
            assert min(w, h) >= 3
            assert 0 <= x < x + w <= image["width"]
            assert 0 <= y < y + h <= image["height"]
            assert row["area"] == w * h
            assert MIN_VISIBLE <= row["visible"] <= 1


def test_the_pool_is_unlabelled_and_its_truth_is_the_same_images(root: Path) -> None:
    pool, truth = load(root, "pool"), load(root, "pool_truth")
    assert "annotations" not in pool
    assert pool["images"] == truth["images"]
    assert pool["categories"] == truth["categories"]
    assert truth["annotations"]


def test_every_class_is_in_seed_at_least_twice(root: Path) -> None:
    counts = Counter(row["category_id"] for row in load(root, "seed")["annotations"])
    assert min(counts[i] for i in range(1, 11)) >= 2


def test_smallest_sandbox_has_every_class_in_seed_twice(tmp_path: Path) -> None:
    made = make_sandbox(tmp_path, images=60, image_size=64)
    counts = Counter(row["category_id"] for row in load(made.root, "seed")["annotations"])
    assert min(counts[i] for i in range(1, 11)) >= 2


def test_no_handwriting_is_shared_between_splits(root: Path) -> None:
    used = {
        name: {row["digit"] for row in load(root, name)["annotations"]}
        for name in ("seed", "pool_truth", "reference", "test")
    }
    labelled = used["seed"] | used["pool_truth"]
    assert not labelled & used["reference"]
    assert not labelled & used["test"]
    assert not used["reference"] & used["test"]


def test_handwriting_is_divided_completely() -> None:
    rows = [set(np.concatenate(handwriting(s).samples)) for s in ("pool", "reference", "test")]
    assert set.union(*rows) == set(range(1797))
    assert sum(map(len, rows)) == 1797
    assert handwriting("seed").samples[4].tolist() == handwriting("pool").samples[4].tolist()


def test_class_prior() -> None:
    pool, test = class_prior("pool"), class_prior("test")
    assert pool.max() / pool.min() == pytest.approx(40)
    assert np.sort(pool)[1] / np.sort(pool)[0] == pytest.approx(40 ** (1 / 9))
    assert test.min() > 0.04
    assert class_prior("seed").tolist() == pool.tolist()
    assert class_prior("reference").tolist() == test.tolist()
    for prior in (pool, test):
        assert prior.sum() == pytest.approx(1)
        assert prior.argmax() == 3


def test_the_drawn_tail_follows_the_prior() -> None:
    truth = load(COMMITTED, "pool_truth")
    labels = [row["category_id"] - 1 for row in truth["annotations"]]
    share = np.bincount(labels, minlength=10) / len(labels)
    assert np.abs(share - class_prior("pool")).max() < 0.05
    assert 20 < share.max() / share.min() < 90


def test_sizes_crowds_and_empty_images() -> None:
    images = load(COMMITTED, "pool_truth")
    heights = np.array([row["bbox"][3] for row in images["annotations"]])
    counts = Counter(row["image_id"] for row in images["annotations"])
    per_image = [counts[image["id"]] for image in images["images"]]
    assert np.percentile(heights, 2) < 13
    assert np.percentile(heights, 98) > 48
    assert 0 < per_image.count(0) < 0.1 * len(per_image)
    assert 10 <= max(per_image) <= 20


def test_videos_are_near_duplicates_and_only_in_the_pool() -> None:
    images = load(COMMITTED, "pool")["images"]
    groups: dict[str, list[Any]] = {}
    singles = []
    for image in images:
        pixels = read(image["file_name"]).astype(np.float32)
        if image["group"] is None:
            singles.append(pixels)
        else:
            groups.setdefault(image["group"], []).append(pixels)
    assert len(groups) >= 5
    assert all(4 <= len(frames) <= 10 for frames in groups.values())
    within = [np.abs(a - b).mean() for frames in groups.values() for a, b in pairwise(frames)]
    apart = [np.abs(a - b).mean() for a, b in pairwise(singles)]
    assert min(within) > 0.5  # not the same picture twice
    assert np.median(within) < 0.25 * np.median(apart)
    assert np.mean(np.array(within) < np.percentile(apart, 2)) > 0.9
    for name in ("seed", "reference", "test"):
        assert {image["group"] for image in load(COMMITTED, name)["images"]} == {None}


# Scenes


@pytest.mark.parametrize("seed", range(12))
def test_a_box_is_exactly_where_the_digit_changed_the_picture(seed: int) -> None:
    full = replace(scene(seed), noise=0.0, blur_px=0.0)
    lone = replace(full, sprites=full.sprites[:1])
    bare = replace(full, sprites=())
    rng = np.random.default_rng(0)
    picture, placed = render(lone, 0, rng=rng)
    changed = (picture != render(bare, 0, rng=rng)[0]).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    x, y, w, h = placed[0].bbox_xywh
    assert placed[0].label == seed % 10
    assert (columns[0], rows[0]) == (x, y)
    assert (columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1) == (w, h)


def test_nothing_outside_the_boxes_changes() -> None:
    for seed in range(20):
        full = replace(scene(seed), noise=0.0, blur_px=0.0)
        picture, placed = render(full, 0, rng=np.random.default_rng(0))
        bare, _ = render(replace(full, sprites=()), 0, rng=np.random.default_rng(0))
        for digit in placed:
            x, y, w, h = digit.bbox_xywh
            picture[y : y + h, x : x + w] = bare[y : y + h, x : x + w]
        np.testing.assert_array_equal(picture, bare)


def test_a_cover_that_hides_too_much_is_left_out() -> None:
    full = scene(2)
    digit = full.sprites[0]
    lid = replace(digit, alpha=np.ones_like(digit.alpha), label=-1, sample=-1)
    half = lid.alpha.copy()
    half[:, : half.shape[1] // 4] = 0.0
    for alpha, message in ((lid.alpha, "all"), (half, "three quarters")):
        covered = replace(full, sprites=(digit, replace(lid, alpha=alpha)))
        _, placed = render(covered, 0, rng=np.random.default_rng(0))
        assert [p.visible for p in placed] == [1.0], message


def test_every_sample_can_be_drawn_at_every_size() -> None:
    source = handwriting("pool")
    for sample, height_px in enumerate(np.resize([10.0, 17.0, 60.0], len(source.pixels))):
        rng = np.random.default_rng(sample)
        alpha = draw_digit(source.pixels[sample], height_px=float(height_px), rng=rng)
        assert 0.7 * height_px < max(alpha.shape) < 1.5 * height_px
        assert alpha.min() >= 0
        assert 0.5 < alpha.max() <= 1


# The committed instance


def test_committed_files_are_what_the_recipe_says() -> None:
    recipe = load(COMMITTED, "recipe")
    assert recipe["complete"]
    sizes = split_sizes(recipe["arguments"]["images"])
    for split in SPLITS:
        content = load(COMMITTED, "pool_truth" if split == "pool" else split)
        names = Counter(row["category_id"] for row in content["annotations"])
        assert recipe["splits"][split] == {
            "images": sizes[split],
            "boxes": len(content["annotations"]),
            "classes": {name: names[i + 1] for i, name in enumerate(CLASS_NAMES)},
        }
        listed = {image["file_name"] for image in content["images"]}
        found = {
            p.relative_to(COMMITTED).as_posix() for p in (COMMITTED / "images" / split).iterdir()
        }
        assert listed == found
    assert not make_sandbox(COMMITTED, **recipe["arguments"]).created


def test_committed_images_decode_to_their_size() -> None:
    for name in FILES:
        for image in load(COMMITTED, name)["images"]:
            pixels = read(image["file_name"])
            assert pixels.shape == (image["height"], image["width"], 3)


@pytest.mark.parametrize("split", SPLITS)
def test_the_recipe_still_makes_the_committed_images(split: str) -> None:
    arguments = load(COMMITTED, "recipe")["arguments"]
    content = load(COMMITTED, "pool_truth" if split == "pool" else split)
    for index in range(0, 60, 3):
        jpeg, image, rows = draw_image(
            split, index, seed=arguments["seed"], image_size=arguments["image_size"]
        )
        assert image == content["images"][index]
        committed = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        assert [a["digit"] for a in rows] == [a["digit"] for a in committed]
        # Another build of OpenCV may round a sample or a JPEG coefficient differently.
        for ours, theirs in zip(rows, committed, strict=True):
            assert np.abs(np.subtract(ours["bbox"], theirs["bbox"])).max() <= 1
        pixels: Any = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        difference = pixels.astype(np.float32) - read(image["file_name"]).astype(np.float32)
        assert np.abs(difference).mean() < 1.5


def test_committed_size() -> None:
    total = sum(path.stat().st_size for path in COMMITTED.rglob("*") if path.is_file())
    assert total <= 5_000_000


def test_the_checkpoint_is_the_one_on_record() -> None:
    record = load(COMMITTED, "yolo_seed")
    content = (COMMITTED / "yolo_seed.pt").read_bytes()
    assert hashlib.sha256(content).hexdigest() == record["sha256"]
    assert 0.3 < record["test"]["mAP50"] < 0.7
    for path in (b"/work/", b"/tmp/", b"/root/", b"/home/"):
        assert path not in content
