import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from detal.cli import main
from detal.config import DatasetConfig
from detal.datasets import open_dataset
from detal.errors import ConfigError, DataError
from detal.loop import LabeledSet, MergeReport
from detal.loop import merge as merge_configs
from detal.loop.asked import Asked, read_asked
from tests.loop.worlds import (
    OBJECTS,
    Objects,
    files_of,
    labeled_objects,
    objects_of,
    write_as,
    write_coco,
    write_pool,
    write_run,
    write_voc,
    write_yolo,
)
from tests.manifests.factories import write_image


def merge(run: Path, annotations: Path, into: Path, **options: Any) -> MergeReport:
    datasets: dict[str, Any] = {
        key: [DatasetConfig(path=str(p)) for p in value]
        if isinstance(value, list)
        else DatasetConfig(path=str(value))
        for key, value in options.items()
    }
    return merge_configs(run, DatasetConfig(path=str(annotations)), into=into, **datasets)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that asks for a, b, c and d of the pool a … f."""
    return write_run(tmp_path / "run", write_pool(tmp_path / "pool")[:4])


FORMATS = pytest.mark.parametrize("kind", ["coco", "yolo", "voc"])


@FORMATS
def test_everything_comes(run: Path, tmp_path: Path, kind: str) -> None:
    report = merge(run, write_as(kind, tmp_path / "back", OBJECTS), tmp_path / "set")
    assert labeled_objects(tmp_path / "set") == OBJECTS
    assert objects_of(open_dataset(tmp_path / "set" / "yolo", split="train")) == OBJECTS
    assert report.added == ("a.png", "b.png", "c.png", "d.png")
    assert (report.round_idx, report.asked, report.boxes, report.labeled_boxes) == (1, 4, 4, 4)
    nothing = (report.missing, report.extra, report.changed, report.other_size, report.problems)
    assert nothing == ((),) * 5
    assert json.loads((tmp_path / "set" / "merge.json").read_text())["added"] == [*report.added]


@FORMATS
def test_only_what_is_in_the_file_is_labelled(run: Path, tmp_path: Path, kind: str) -> None:
    part = {"a": OBJECTS["a"], "c": []}
    report = merge(run, write_as(kind, tmp_path / "back", part), tmp_path / "set")
    assert labeled_objects(tmp_path / "set") == part
    assert report.missing == ("b.png", "d.png")


@FORMATS
def test_not_asked_for_is_left_out(run: Path, tmp_path: Path, kind: str) -> None:
    everything = {**OBJECTS, "e": [("cat", 1, 1, 9, 9)], "f": []}
    if kind == "voc":  # without an image of its own nothing tells what the others belong to
        write_pool(tmp_path / "back" / "images")
        write_voc(tmp_path / "back" / "xml", everything)
    else:
        write_as(kind, tmp_path / "back", everything)
    path = tmp_path / "back" / "export.json" if kind == "coco" else tmp_path / "back"
    report = merge(run, path, tmp_path / "set")
    assert labeled_objects(tmp_path / "set") == OBJECTS
    expected = {"coco": ("5", "6"), "yolo": ("images/e.png", "images/f.png")}
    assert report.extra == expected.get(kind, ("images/e.png", "images/f.png"))


def test_the_runs_own_files_corrected_in_place(run: Path, tmp_path: Path) -> None:
    (run / "yolo" / "labels" / "a.txt").write_text("2 0.5 0.5 0.5 0.5\n")
    (run / "yolo" / "labels" / "b.txt").write_text("")
    (run / "yolo" / "labels" / "c.txt").unlink()
    report = merge(run, run / "yolo", tmp_path / "set")
    assert report.missing == ("c.png",)
    found = labeled_objects(tmp_path / "set")
    assert found["a"] == [("owl", 16, 12, 48, 36)]
    assert found["b"] == []
    assert found["d"] == [("cat", 0, 5, 10, 15)]  # the pre-annotation as it was
    assert merge(run, run / "coco.json", tmp_path / "coco").added == tuple(
        f"{name}.png" for name in "abcd"
    )


def test_the_same_file_again_changes_no_byte(run: Path, tmp_path: Path) -> None:
    back, into = write_yolo(tmp_path / "back", OBJECTS), tmp_path / "set"
    merge(run, back, into)
    before = [(p, p.lstat().st_mtime_ns, p.lstat().st_ino) for p in sorted(into.rglob("*"))]
    report = merge(run, back, into)
    assert [(p, p.lstat().st_mtime_ns, p.lstat().st_ino) for p in sorted(into.rglob("*"))] == before
    assert (report.added, report.changed, report.round_idx) == ((), (), 1)
    assert report.unchanged == ("a.png", "b.png", "c.png", "d.png")


@FORMATS
@pytest.mark.parametrize("order", ["ac", "ca"])
def test_two_halves_are_the_whole(run: Path, tmp_path: Path, kind: str, order: str) -> None:
    odd = {**OBJECTS, "b": [("dog", 0.005, 0.015, 63.996, 47.994), ("cat", 1 / 3, 2 / 3, 9.7, 9)]}
    halves = {"a": {n: odd[n] for n in "bd"}, "c": {n: odd[n] for n in "ac"}}
    merge(run, write_as(kind, tmp_path / "back", odd), tmp_path / "whole")
    for half in order:
        report = merge(run, write_as(kind, tmp_path / half, halves[half]), tmp_path / "set")
        assert report.round_idx == 1
    assert files_of(tmp_path / "set") == files_of(tmp_path / "whole")


def test_newer_boxes_win_and_are_named(run: Path, tmp_path: Path) -> None:
    into = tmp_path / "set"
    merge(run, write_coco(tmp_path / "1.json", OBJECTS), into)
    newer: Objects = {
        "a": [*reversed(OBJECTS["a"])],  # another order is no change
        "b": [("cat", 0, 0, 64, 48)],
        "c": [("owl", 5, 5, 9, 9)],
        "d": [],
    }
    report = merge(run, write_coco(tmp_path / "2.json", newer), into)
    assert (report.changed, report.unchanged) == (("b.png", "c.png", "d.png"), ("a.png",))
    assert labeled_objects(into) == {**newer, "a": OBJECTS["a"]}


class TestRounds:
    def test_each_run_is_a_round_however_it_comes(self, tmp_path: Path) -> None:
        paths, into = write_pool(tmp_path / "pool"), tmp_path / "set"
        first = write_run(tmp_path / "1", paths[:3])
        merge(first, write_coco(tmp_path / "a.json", {"c": []}), into)
        second = write_run(tmp_path / "2", paths[3:])
        assert (
            merge(second, write_coco(tmp_path / "b.json", {"d": [], "e": []}), into).round_idx == 2
        )
        assert merge(first, write_coco(tmp_path / "c.json", {"a": []}), into).round_idx == 1
        assert merge(second, write_coco(tmp_path / "d.json", {"f": []}), into).round_idx == 2
        found = LabeledSet.read(into)
        assert [Path(p).stem for p in found.dataset.images["path"]] == list("acdef")
        assert found.labeled_round.tolist() == [1, 1, 2, 2, 2]
        assert found.last_round == 2

    def test_start_counts_as_round_0(self, run: Path, tmp_path: Path) -> None:
        start = write_coco(
            tmp_path / "pool" / "seed.json", {"f": [("zebra", 1, 1, 9, 9)]}, classes=["zebra"]
        )
        merge(run, write_coco(tmp_path / "a.json", OBJECTS), tmp_path / "set", labeled=start)
        found = LabeledSet.read(tmp_path / "set")
        assert found.labeled_round.tolist() == [0, 1, 1, 1, 1]
        # The order of the existing set is kept, and new ones are appended as they come.
        assert found.dataset.class_names == ("zebra", "cat", "dog", "owl")

    def test_the_runs_own_labelled_set_is_the_default(self, tmp_path: Path) -> None:
        paths = write_pool(tmp_path / "pool")
        seed = write_coco(tmp_path / "pool" / "seed.json", {"f": []})
        run = write_run(tmp_path / "run", paths[:4], labeled=str(seed))
        report = merge(run, write_coco(tmp_path / "a.json", OBJECTS), tmp_path / "set")
        assert report.labeled_images == 5

    def test_a_new_folder_goes_on_with_the_rounds_of_the_old(self, tmp_path: Path) -> None:
        paths = write_pool(tmp_path / "pool")
        first = write_run(tmp_path / "1", paths[:2])
        merge(first, write_coco(tmp_path / "a.json", {"a": []}), tmp_path / "old")
        old = str(tmp_path / "old" / "labeled.json")
        second = write_run(tmp_path / "2", paths[2:4], labeled=old)
        merge(second, write_coco(tmp_path / "b.json", {"c": []}), tmp_path / "new")
        assert (
            merge(first, write_coco(tmp_path / "c.json", {"b": []}), tmp_path / "new").round_idx
            == 1
        )
        assert LabeledSet.read(tmp_path / "new").labeled_round.tolist() == [1, 1, 2]

    def test_an_image_that_was_labelled_before_keeps_its_round(
        self, run: Path, tmp_path: Path
    ) -> None:
        start = write_coco(tmp_path / "pool" / "seed.json", {"a": [("cat", 1, 1, 9, 9)], "e": []})
        back = write_coco(tmp_path / "a.json", OBJECTS)
        report = merge(run, back, tmp_path / "set", labeled=start)
        assert report.changed == ("a.png",)
        assert labeled_objects(tmp_path / "set") == {**OBJECTS, "e": []}
        found = LabeledSet.read(tmp_path / "set")
        assert [Path(path).stem for path in found.dataset.images["path"]] == list("eabcd")
        assert found.labeled_round.tolist() == [0, 0, 1, 1, 1]

    def test_unreadable_labelled_images_are_left_out(
        self, run: Path, tmp_path: Path, caplog
    ) -> None:
        (tmp_path / "pool" / "broken.png").write_bytes(b"no image")
        start = {"e": [], "gone": [("cat", 1, 1, 5, 5)], "broken": [], "f": [("cat", 2, 2, 6, 6)]}
        seed = write_coco(tmp_path / "pool" / "seed.json", start)
        merge(run, write_coco(tmp_path / "a.json", {"a": []}), tmp_path / "set", labeled=seed)
        expected = {"e": [], "f": start["f"], "a": []}
        assert labeled_objects(tmp_path / "set") == expected
        assert "2 labelled images cannot be read" in caplog.text


class TestClasses:
    def test_by_name_whatever_their_numbers(self, run: Path, tmp_path: Path) -> None:
        other = write_coco(tmp_path / "a.json", OBJECTS, classes=["owl", "ant", "cat", "dog"])
        report = merge(run, other, tmp_path / "set")
        assert labeled_objects(tmp_path / "set") == OBJECTS
        found = LabeledSet.read(tmp_path / "set")
        assert found.dataset.class_names == ("cat", "dog", "owl")  # nobody drew an ant
        assert report.new_classes == ()

    def test_new_ones_are_appended(self, run: Path, tmp_path: Path) -> None:
        objects = {"a": [("zebra", 1, 1, 9, 9), ("cat", 2, 2, 9, 9)], "b": [("ant", 1, 1, 5, 5)]}
        back = write_coco(tmp_path / "a.json", objects, classes=["zebra", "ant", "cat"])
        report = merge(run, back, tmp_path / "set")
        assert report.new_classes == ("zebra", "ant")
        found = LabeledSet.read(tmp_path / "set")
        assert found.dataset.class_names == ("cat", "dog", "owl", "zebra", "ant")
        assert found.dataset.category_ids == (1, 2, 3, 4, 5)
        assert labeled_objects(tmp_path / "set") == objects

    def test_numbers_without_names_are_those_of_the_manifest(
        self, run: Path, tmp_path: Path
    ) -> None:
        back = write_yolo(tmp_path / "back", OBJECTS)
        (back / "data.yaml").unlink()
        merge(run, back, tmp_path / "set")
        assert labeled_objects(tmp_path / "set") == OBJECTS


def test_another_size_is_left_out_and_named(run: Path, tmp_path: Path) -> None:
    back = write_coco(tmp_path / "a.json", OBJECTS, sizes={"a": (48, 64), "d": (128, 96)})
    report = merge(run, back, tmp_path / "set")
    assert report.other_size == (
        "a.png: 48 x 64 instead of 64 x 48",
        "d.png: 128 x 96 instead of 64 x 48",
    )
    assert report.missing == ()
    assert sorted(labeled_objects(tmp_path / "set")) == ["b", "c"]


def test_boxes_that_cannot_be_used_are_named(run: Path, tmp_path: Path) -> None:
    things = [("cat", 5, 5, 5, 9), ("cat", 70, 1, 80, 9), ("dog", -20, 0, 10, 10)]
    report = merge(run, write_coco(tmp_path / "a.json", {"a": things}), tmp_path / "set")
    assert labeled_objects(tmp_path / "set") == {"a": [("dog", 0, 0, 10, 10)]}
    assert [(p.kind, p.severity) for p in report.problems] == [
        ("zero_area_box", "error"),
        ("box_outside", "error"),
        ("box_outside", "warning"),
    ]


def test_sizes_that_nobody_states_are_the_manifests(run: Path, tmp_path: Path) -> None:
    document = json.loads(
        write_coco(tmp_path / "a.json", {"a": [("cat", 50, 40, 90, 70)]}).read_text()
    )
    del document["images"][0]["width"], document["images"][0]["height"]
    (tmp_path / "a.json").write_text(json.dumps(document))
    merge(run, tmp_path / "a.json", tmp_path / "set")
    assert labeled_objects(tmp_path / "set") == {"a": [("cat", 50, 40, 64, 48)]}


class TestHoldout:
    @pytest.mark.parametrize("what", ["content", "path", "link", "absent"])
    def test_refused_and_named(self, run: Path, tmp_path: Path, what: str) -> None:
        hold = tmp_path / "hold"
        hold.mkdir()
        image = tmp_path / "pool" / "b.png"
        if what == "content":
            (hold / "other name.png").write_bytes(image.read_bytes())
        elif what == "path":
            hold = image
        elif what == "link":
            (hold / "link.png").symlink_to(image)
        else:  # no file to compare with: the id decides
            content = {"images": [{"id": "b.png", "file_name": "gone.png"}], "annotations": []}
            hold = hold / "test.json"
            hold.write_text(json.dumps(content))
        back = write_coco(tmp_path / "a.json", OBJECTS)
        with pytest.raises(DataError, match=r"found 1 of 4: b\.png \(.*nothing was merged"):
            merge(run, back, tmp_path / "set", holdout=[hold])
        assert not (tmp_path / "set").exists()

    def test_an_equal_id_of_another_image_is_none(self, tmp_path: Path) -> None:
        run = write_run(tmp_path / "run", write_pool(tmp_path / "pool")[:2], ids=["1", "2"])
        write_pool(tmp_path / "hold", ["e", "f"])
        hold = write_coco(tmp_path / "hold" / "test.json", {"e": [], "f": []})  # ids 1 and 2
        back = write_coco(tmp_path / "a.json", {"a": [], "b": []})
        assert len(merge(run, back, tmp_path / "set", holdout=[hold]).added) == 2

    def test_the_labelled_set_is_looked_at_too(self, run: Path, tmp_path: Path) -> None:
        seed = write_coco(tmp_path / "pool" / "seed.json", {"e": [], "f": []})
        back = write_coco(tmp_path / "a.json", {"a": []})
        with pytest.raises(DataError, match="found 1 of 3: 2 "):
            merge(run, back, tmp_path / "set", labeled=seed, holdout=[tmp_path / "pool" / "f.png"])

    def test_what_was_merged_before_is_looked_at_too(self, run: Path, tmp_path: Path) -> None:
        merge(run, write_coco(tmp_path / "a.json", {"a": []}), tmp_path / "set")
        back = write_coco(tmp_path / "b.json", {"b": []})
        with pytest.raises(DataError, match=r"found 1 of 2: a\.png"):
            merge(run, back, tmp_path / "set", holdout=[tmp_path / "pool" / "a.png"])

    def test_nothing_of_the_batch_is_merged_later_either(self, run: Path, tmp_path: Path) -> None:
        into = tmp_path / "set"
        merge(run, write_coco(tmp_path / "a.json", {"a": []}), into)
        before = files_of(into)
        with pytest.raises(DataError, match="hold-out"):
            merge(
                run,
                write_coco(tmp_path / "b.json", OBJECTS),
                into,
                holdout=[tmp_path / "pool" / "d.png"],
            )
        assert files_of(into) == before


class TestValidation:
    def test_is_kept_by_later_merges(self, run: Path, tmp_path: Path) -> None:
        into = tmp_path / "set"
        write_pool(tmp_path / "val", ["x", "y"])
        val = write_coco(tmp_path / "val" / "val.json", {"x": [("owl", 1, 1, 9, 9)], "y": []})
        merge(run, write_coco(tmp_path / "a.json", {"a": []}), into, val=val)
        merge(run, write_coco(tmp_path / "b.json", OBJECTS), into)
        read = open_dataset(into / "yolo" / "data.yaml", split="val")
        assert objects_of(read) == {"x": [("owl", 1, 1, 9, 9)], "y": []}
        assert objects_of(open_dataset(into / "yolo" / "data.yaml", split="train")) == OBJECTS

    def test_is_a_holdout(self, run: Path, tmp_path: Path) -> None:
        val = write_coco(tmp_path / "pool" / "val.json", {"a": []})
        with pytest.raises(DataError, match="hold-out"):
            merge(run, write_coco(tmp_path / "a.json", OBJECTS), tmp_path / "set", val=val)


class TestOneStep:
    """What is interrupted leaves the old state, whenever it happens."""

    @pytest.mark.parametrize("moment", ["writing", "first rename", "second rename"])
    def test_killed(self, run: Path, tmp_path: Path, monkeypatch, moment: str) -> None:
        into = tmp_path / "set"
        half, whole = (
            write_coco(tmp_path / f"{n}.json", o) for n, o in [(1, {"a": []}), (2, OBJECTS)]
        )
        merge(run, half, into)
        before = files_of(into)
        calls = 0
        original = Path.rename

        def rename(self: Path, target: Path) -> Path:
            nonlocal calls
            calls += 1
            if calls == (1 if moment == "first rename" else 2):
                raise KeyboardInterrupt
            return original(self, target)

        with monkeypatch.context() as patch:
            if moment == "writing":
                patch.setattr("detal.loop.labeled_set.write_yolo_dataset", _interrupt)
            else:
                patch.setattr(Path, "rename", rename)
            with pytest.raises(KeyboardInterrupt):
                merge(run, whole, into)
        report = merge(run, half, into)  # nothing new: what is there now is what was there
        assert report.unchanged == ("a.png",)
        assert files_of(into) == before
        assert merge(run, whole, into).labeled_images == 4

    def test_one_at_a_time(self, run: Path, tmp_path: Path) -> None:
        back = write_coco(tmp_path / "a.json", OBJECTS)
        with (
            FileLock(tmp_path / ".set.lock"),
            pytest.raises(ConfigError, match="another run writes"),
        ):
            merge(run, back, tmp_path / "set")

    def test_work_done_by_hand_is_not_lost(self, run: Path, tmp_path: Path) -> None:
        into = tmp_path / "set"
        merge(run, write_coco(tmp_path / "a.json", {"a": []}), into)
        (into / "yolo" / "labels" / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n")
        with pytest.raises(ConfigError, match=r"labels/a\.txt"):
            merge(run, write_coco(tmp_path / "b.json", OBJECTS), into)

    def test_a_foreign_folder_is_left_alone(self, run: Path, tmp_path: Path) -> None:
        (tmp_path / "set").mkdir()
        (tmp_path / "set" / "thesis.txt").touch()
        with pytest.raises(ConfigError, match="neither"):
            merge(run, write_coco(tmp_path / "b.json", OBJECTS), tmp_path / "set")


def _interrupt(*args: object, **kwargs: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param({"images": [], "annotations": []}, "has none of them", id="empty"),
        pytest.param(
            {"images": [{"id": 1, "file_name": "x.png"}], "annotations": []},
            "1 others, for example 1",
            id="none-of-them",
        ),
        pytest.param(
            {
                "images": [{"id": 1, "file_name": "a.png", "width": 1, "height": 2}],
                "annotations": [],
            },
            "1 have another size, for example a.png: 1 x 2 instead of 64 x 48",
            id="other-size",
        ),
        pytest.param({"images": []}, "found 0 images without any", id="no-annotations"),
        pytest.param([{"image_id": 1}], "detection results", id="predictions"),
    ],
)
def test_nothing_usable(run: Path, tmp_path: Path, content: Any, message: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        merge(run, tmp_path / "a.json", tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_what_is_no_run(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="written by detal select"):
        merge(tmp_path, write_coco(tmp_path / "a.json", OBJECTS), tmp_path / "set")
    (run / "run.json").write_text("{}")
    with pytest.raises(DataError, match=r"run\.json must be written by detal select"):
        read_asked(run)


def test_images_without_labels_are_not_annotations(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="6 images without any"):
        merge(run, tmp_path / "pool", tmp_path / "set")


def test_a_run_is_known_after_a_spreadsheet_has_saved_it(run: Path, tmp_path: Path) -> None:
    before = read_asked(run)
    lines = (run / "selection.csv").read_text(encoding="utf-8").splitlines()
    sorted_by_name = [lines[0], *sorted(lines[1:], reverse=True)]
    (run / "selection.csv").write_text("\r\n".join(sorted_by_name) + "\r\n", encoding="utf-8-sig")
    assert read_asked(run).images == before.images
    assert read_asked(run).key == before.key
    assert Asked(before.images[::-1], (), {}).key == before.key
    other = Asked(images=before.images[:3], class_names=(), config={})
    assert other.key != before.key


def test_clashing_ids_of_two_sources(tmp_path: Path) -> None:
    """The pool and the labelled set both number from 1; COCO needs one number per image."""
    run = write_run(tmp_path / "run", write_pool(tmp_path / "pool")[:3], ids=["1", "2", "3"])
    write_pool(tmp_path / "seed", ["x", "y"])
    seed = write_coco(tmp_path / "seed" / "seed.json", {"x": [("cat", 1, 1, 9, 9)], "y": []})
    merge(run, write_coco(tmp_path / "a.json", {"a": [], "c": []}), tmp_path / "set", labeled=seed)
    found = open_dataset(tmp_path / "set" / "labeled.json")
    assert found.images["image_id"].to_list() == ["1", "2", "3", "4"]
    assert found.images["detal_image_id"].to_list() == ["1", "2", "1", "3"]
    assert objects_of(found)["x"] == [("cat", 1, 1, 9, 9)]


def test_crowds_and_areas_are_kept_in_coco_and_left_out_of_yolo(run: Path, tmp_path: Path) -> None:
    back = write_coco(tmp_path / "a.json", {"a": [("cat", 1, 1, 9, 9), ("dog", 0, 0, 30, 30)]})
    document = json.loads(back.read_text())
    document["annotations"][0]["area"] = 12.5
    document["annotations"][1]["iscrowd"] = 1
    back.write_text(json.dumps(document))
    merge(run, back, tmp_path / "set")
    found = open_dataset(tmp_path / "set" / "labeled.json").annotations
    assert found is not None
    assert found.is_crowd.tolist() == [False, True]
    assert found.areas.tolist() == [12.5, 900]
    assert (tmp_path / "set" / "yolo" / "labels" / "a.txt").read_text().count("\n") == 1


class TestCommandLine:
    def call(self, *arguments: object) -> int:
        with pytest.raises(SystemExit) as exit_:
            main(["merge", *map(str, arguments)])
        code = exit_.value.code
        assert isinstance(code, int)
        return code

    def test_a_part_is_fine(self, run: Path, tmp_path: Path, capsys) -> None:
        back = write_coco(tmp_path / "a.json", {"a": OBJECTS["a"], "x": []})
        assert self.call(run, back, "--into", tmp_path / "set") == 0
        out, err = capsys.readouterr()
        assert "round 1: 1 of 4 images came: 1 new and 0 changed with 2 boxes" in out
        assert "missing: 3: b.png, c.png, d.png" in out
        assert "not asked for, left out: 1: 2" in out
        assert f"yolo train data={tmp_path / 'set' / 'yolo' / 'data.yaml'}" in out
        assert err == ""

    def test_json(self, run: Path, tmp_path: Path, capsys) -> None:
        back = write_voc(tmp_path / "back", OBJECTS)
        options = ["--into", tmp_path / "set", "--format", "voc", "--json"]
        options += ["--images", tmp_path / "pool"]
        assert self.call(run, back, *options) == 0
        assert json.loads(capsys.readouterr().out)["labeled_boxes"] == 4

    def test_splits(self, run: Path, tmp_path: Path, capsys) -> None:
        content = "train: images/train\nval: images/val\nnames: [cat, dog, owl]\n"
        for name, split in (("x", "train"), ("y", "val")):
            write_pool(tmp_path / "own" / "images" / split, [name])
            (tmp_path / "own" / "labels" / split).mkdir(parents=True)
            (tmp_path / "own" / "labels" / split / f"{name}.txt").write_text("0 .5 .5 .5 .5\n")
        own = tmp_path / "own" / "data.yaml"
        own.write_text(content)
        options = ["--into", tmp_path / "set", "--labeled", own, "--labeled-split", "train"]
        options += ["--val", own, "--val-split", "val", "--holdout", own, "--holdout-split", "val"]
        assert self.call(run, write_coco(tmp_path / "a.json", OBJECTS), *options) == 0
        assert LabeledSet.read(tmp_path / "set").labeled_round.tolist() == [0, 1, 1, 1, 1]
        val = open_dataset(tmp_path / "set" / "yolo", split="val")
        assert sorted(objects_of(val)) == ["y"]

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            pytest.param(["run", "nowhere.json", "--into", "set"], 1, "nowhere.json", id="no-file"),
            pytest.param(["pool", "a.json", "--into", "set"], 1, "detal select", id="no-run"),
            pytest.param(
                ["run", "a.json", "--into", "set", "--format", "coca"], 2, "coco", id="no-format"
            ),
            pytest.param(["run", "a.json", "--into", "pool"], 2, "another output", id="foreign"),
            pytest.param(
                ["run", "a.json", "--into", "set", "--holdout", "pool"],
                1,
                "a.png (pool: a.png)",
                id="holdout",
            ),
        ],
    )
    def test_mistakes(
        self, run: Path, tmp_path: Path, monkeypatch, capsys, arguments, code, message
    ) -> None:
        write_coco(tmp_path / "a.json", OBJECTS)
        monkeypatch.chdir(tmp_path)
        assert self.call(*arguments) == code
        out, err = capsys.readouterr()
        assert out == ""
        assert message in " ".join(err.split())


@pytest.mark.parametrize(
    ("name", "split"),
    [pytest.param("aquarium", "val", id="yolo"), pytest.param("bccd", "val", id="voc")],
)
def test_real_data_comes_back_equal(
    shared_data: Path, tmp_path: Path, name: str, split: str
) -> None:
    source = open_dataset(shared_data / name, split=split)
    rows = np.random.default_rng(0).permutation(len(source))[:12]
    truth = source.take(rows)
    pool = open_dataset(_image_folder(truth.images["path"].to_list()), images_root=shared_data)
    asked = [
        i for i in pool.images["image_id"] if str(shared_data / i) in set(truth.images["path"])
    ]
    paths = [shared_data / image_id for image_id in asked]
    run = write_run(tmp_path / "run", paths, ids=asked, class_names=source.class_names)
    report = merge(run, shared_data / name, tmp_path / "set")
    assert len(report.added) == 12
    assert len(report.extra) > 100
    expected = objects_of(truth)
    found = labeled_objects(tmp_path / "set")
    assert found.keys() == expected.keys()
    for image, objects in expected.items():
        assert [o[0] for o in found[image]] == [o[0] for o in objects]
        boxes = np.array([o[1:] for o in objects]).reshape(-1, 4)
        assert np.array([o[1:] for o in found[image]]).reshape(-1, 4) == pytest.approx(
            boxes, abs=0.011
        )
    from_yolo = open_dataset(tmp_path / "set" / "yolo", split="train")
    for image, objects in objects_of(from_yolo).items():
        assert len(objects) == len(expected[image])


def _image_folder(paths: list[str]) -> Path:
    return Path(paths[0]).parent


def test_ids_that_only_some_images_state(tmp_path: Path) -> None:
    write_pool(tmp_path, ["a", "b"])
    back = write_coco(tmp_path / "seed.json", {"a": [], "b": []})
    document = json.loads(back.read_text())
    document["images"][0]["detal_image_id"] = "first"
    back.write_text(json.dumps(document))
    images = LabeledSet.start(open_dataset(back)).dataset.images
    assert images["detal_image_id"].to_list() == ["first", "2"]


def test_start_keeps_a_labelled_set_apart_from_its_source(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    source = open_dataset(write_coco(tmp_path / "seed.json", {"a": [("cat", 1, 1, 9, 9)]}))
    with pytest.raises(DataError, match="must have annotations"):
        LabeledSet.start(replace(source, annotations=None))
    reversed_ids = replace(source, category_ids=(9, 5, 2))
    assert LabeledSet.start(reversed_ids).dataset.category_ids == (1, 2, 3)
