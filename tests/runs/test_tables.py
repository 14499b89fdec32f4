"""Building measured tables, with trainings of two steps."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from detal.config import TablesConfig, load_config
from detal.datasets import open_dataset
from detal.errors import ConfigError, DataError
from detal.report import write_category_curves
from detal.reward import FittedCurves
from detal.runs import curve_variants, group_variants, table_view, variants
from detal.runs.table_view import draw_curves, draw_tables, read_group_gains, read_outlook
from detal.runs.tables import build_table
from detal.runs.training import train_detector
from detal.runs.variants import measure as measure_variant
from tests.reward.factories import group_gains

SANDBOX = Path(__file__).resolve().parents[2] / "data" / "sandbox"


def config(output: Path, **changes: Any) -> TablesConfig:
    values: dict[str, Any] = {
        "labeled": {"path": str(SANDBOX / "seed.json")},
        "reference": {"path": str(SANDBOX / "reference.json")},
        "training": {
            "init": str(SANDBOX / "yolo_seed.pt"),
            "steps": 2,
            "image_size": 64,
            "batch_size": 2,
        },
        "detector": {"weights": str(SANDBOX / "yolo_seed.pt")},
        "tables": {"shares": [0.5], "early_steps": [1]},
        "output": str(output),
        "device": "cpu",
        **changes,
    }
    return TablesConfig.model_validate(values)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of images trained on; the trainings themselves are real."""
    sizes: list[int] = []
    real = train_detector

    def train(training: Any, dataset: Any, **options: Any) -> Any:
        sizes.append(len(dataset))
        return real(training, dataset, **options)

    monkeypatch.setattr(curve_variants, "train_detector", train)
    monkeypatch.setattr(group_variants, "train_detector", train)
    return sizes


@pytest.mark.slow
def test_a_stopped_build_goes_on_and_a_finished_one_is_read(
    tmp_path: Path, trained: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "table"
    calls: list[tuple[int, int]] = []

    def stop(*_args: object, **_kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(variants, "batch_class_ap", stop)
        with pytest.raises(KeyboardInterrupt):
            build_table(config(output))
    assert not (output / "curves.json").exists()
    built = build_table(config(output), progress=lambda title: lambda *n: calls.append(n))
    table = built.curves
    assert table is not None
    assert built.groups is None
    assert calls == [(0, 2), (1, 2), (2, 2)]
    labeled = open_dataset(SANDBOX / "seed.json")
    assert labeled.annotations is not None
    everything = labeled.annotations.class_counts(len(labeled.class_names))
    assert table.counts[1].tolist() == table.labeled_counts.tolist() == everything.tolist()
    assert table.counts[0].sum() == pytest.approx(everything.sum() / 2, rel=0.1)
    assert np.nanmax(table.ap[1]) > 0.2  # the seed detector is not at chance
    assert len(set(trained)) == 1  # the round's own detector was not trained again

    first = (output / "curves.json").read_bytes()
    trained.clear()
    build_table(config(output))
    assert trained == []
    assert (output / "curves.json").read_bytes() == first
    variant = table.made_of["variants"][0]
    assert (variant["share"], variant["steps"]) == (0.5, 2)
    assert (output / "variants" / "50" / "weights.pt").is_file()
    assert (output / "variants" / "50" / "early" / "1.pt").is_file()
    point = json.loads((output / "variants" / "50" / "point.json").read_text())
    assert len(point["image_ids"]) == point["images"] == len(set(point["image_ids"]))
    assert sorted(p.name for p in (output / "variants" / "100").iterdir()) == ["point.json"]
    picture = cv2.imread(str(output / "curves.png"))
    assert picture is not None
    assert picture.std() > 5

    monkeypatch.setattr(variants, "content_hashes", lambda paths: [f"new {path}" for path in paths])
    with pytest.raises(ConfigError, match="holds a table with another seed, data"):
        build_table(config(output, seed=1))


@pytest.mark.slow
def test_groups_of_a_pool_resume_after_a_stop_and_stand_beside_the_curves(
    tmp_path: Path, trained: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "table"
    asked = config(
        output,
        pool={"path": str(SANDBOX / "pool.json")},
        tables={
            "shares": [0.5],
            "groups": {"number": 2, "images": 5, "steps": 1, "controls": 2, "min_score": 0.4},
        },
    )
    calls: list[Any] = []

    def measure(*args: Any, **options: Any) -> Any:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measure_variant(*args, **options)

    monkeypatch.setattr(group_variants, "measure", measure)
    with pytest.raises(KeyboardInterrupt):
        build_table(asked)
    assert not (output / "groups.json").exists()
    table = build_table(asked).groups
    assert table is not None
    assert len(calls) == 5  # two controls; the first group twice; the second
    assert trained[1:] == [100, 100, 105, 105, 105]  # after the variant of the curves
    assert len(table) == 2
    assert table.trained.tolist() == [5, 5]
    assert (table.pseudo_boxes >= 5).all()
    assert table.images.sum() == len(open_dataset(SANDBOX / "pool.json"))
    assert table.labeled.sum() == 100
    assert table.control_ap.shape == (2, 10)
    assert table.made_of["steps"] == 1
    assert np.isfinite(table.measured).all()

    first = (output / "groups.json").read_bytes()
    trained.clear()
    build_table(asked)
    assert trained == []
    assert (output / "groups.json").read_bytes() == first
    path = output / "groups" / "groups.json"
    path.write_text(path.read_text().replace(json.loads(path.read_text())["candidates"], "other"))
    with pytest.raises(ConfigError, match="holds groups of other candidates"):
        build_table(asked)
    assert [path.name for path in draw_tables(output)] == ["curves.png", "groups.png"]
    rows = read_group_gains(output)
    assert [row["trained"] for row in rows] == [5, 5]
    assert rows[0]["gain"] >= rows[1]["gain"]
    assert not list(output.rglob("groups/*/weights.pt"))


def test_pictures_of_groups_alone(tmp_path: Path) -> None:
    gains = group_gains([[0.6, 0.5, 0.5], [np.nan] * 3], [[0.5, 0.4, 0.5]] * 2, trained=[10, 0])
    gains.save(tmp_path)
    (picture,) = draw_tables(tmp_path, tmp_path / "new" / "g.png")
    image = cv2.imread(str(picture))
    assert image is not None
    assert image.std() > 5
    rows = read_group_gains(tmp_path)
    assert rows[0]["measured"] == pytest.approx(0.2 / 3)
    assert rows[1]["measured"] is None
    assert rows[1]["gain"] == pytest.approx(0.2 / 3)
    assert rows[0]["classes"] == ["cat", "dog"]


@pytest.mark.slow
def test_where_too_little_is_sure_all_groups_are_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("detal.runs.tables.build_curves", lambda *args, **options: None)
    groups = {"number": 2, "steps": 1, "controls": 2, "min_score": 0.999}
    pool = {"path": str(SANDBOX / "pool.json")}
    table = build_table(config(tmp_path / "t", pool=pool, tables={"groups": groups})).groups
    assert table is not None
    assert "lower tables.groups.min_score (0.999)" in caplog.text
    assert table.trained.tolist() == table.pseudo_boxes.tolist() == [0, 0]
    assert table.shrunk.gain.tolist() == [0, 0]
    assert (tmp_path / "t" / "groups.png").is_file()


def test_a_folder_of_an_earlier_version_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file lacks keys that came later, which count as their defaults."""
    monkeypatch.setattr("detal.runs.tables.build_curves", lambda *args, **options: None)
    asked = config(tmp_path / "t")
    build_table(asked)
    path = tmp_path / "t" / "build.json"
    old = json.loads(path.read_text())
    del old["pool"], old["tables"]["groups"]
    path.write_text(json.dumps(old))
    build_table(asked)
    with pytest.raises(ConfigError, match="another tables"):
        build_table(config(tmp_path / "t", tables={"shares": [0.5], "groups": {"number": 3}}))


def test_labelled_images_in_the_reference_set_are_refused(tmp_path: Path) -> None:
    same = config(tmp_path / "t", reference={"path": str(SANDBOX / "seed.json")})
    with pytest.raises(DataError, match="no labelled image may be in the reference set"):
        build_table(same)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        pytest.param(
            {"labeled": {"path": str(SANDBOX / "pool.json")}},
            DataError,
            "the labelled set must have annotations",
            id="no-annotations",
        ),
        pytest.param(
            {"detector": {"weights": "nowhere.pt"}}, ConfigError, "must be a file", id="weights"
        ),
    ],
)
def test_mistakes(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        build_table(config(tmp_path / "t", **changes))


def test_somebody_elses_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(ConfigError, match="must be a new folder or a table's own"):
        build_table(config(tmp_path))


def test_config_file_with_paths_and_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "tables.yaml"
    path.write_text(
        "labeled: a.json\nreference: b.json\ntraining: {init: yolo11n.yaml}\noutput: out\n"
    )
    resolved = load_config(TablesConfig, path)
    assert resolved.reference.path == str(tmp_path / "b.json")
    assert resolved.tables.shares == (0.25, 0.5, 0.75)
    with pytest.raises(ConfigError, match="shares must rise"):
        load_config(TablesConfig, path, ["tables.shares=[0.5,0.25]"])
    with pytest.raises(ConfigError, match=r"unknown key tables\.step, did you mean steps"):
        load_config(TablesConfig, path, ["tables.step=3"])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """30 classes; class i has i objects now and gained (30 - i) / 100 from the second half."""
    classes = np.arange(30.0)
    counts = np.stack([classes // 2, classes])
    ap = np.stack([0.1 + 0 * classes, 0.1 + (30 - classes) / 100])
    ap[:, 7] = np.nan
    made = FittedCurves.fit(
        [f"class {i} $x" for i in range(30)],
        counts=counts,
        ap=ap,
        labeled_counts=classes,
        made_of={},
    )
    made.save(tmp_path / "table")
    return tmp_path / "table"


def test_show_draws_classes_with_most_labels(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []

    def write(path: Path, panels: list[Any], **text: str) -> None:
        shown.extend(panels)
        write_category_curves(path, panels, **text)

    monkeypatch.setattr(table_view, "write_category_curves", write)
    path = draw_curves(table, table.parent / "new" / "a.png")
    assert cv2.imread(str(path)) is not None
    assert [panel.label for panel in shown] == list(range(29, 5, -1))
    panel = shown[0]
    assert (panel.name, panel.labeled) == ("class 29 $x", 29)
    assert panel.counts.tolist() == [14, 29]
    assert panel.grid[-1] == pytest.approx(1.6 * 29)
    assert (panel.low <= panel.line).all()
    assert (panel.line <= panel.high).all()
    assert np.isnan(shown[22].ap).all()


def test_outlook_by_hand(table: Path) -> None:
    rows = read_outlook(table)
    gains = [row["gain"] for row in rows]
    assert gains == sorted(gains, reverse=True)
    curves = FittedCurves.load(table).curves
    row = next(row for row in rows if row["class"] == "class 3 $x")
    now = curves.top[3] - curves.drop[3] * (1 + 3 / curves.onset) ** -curves.exponent
    later = curves.top[3] - curves.drop[3] * (1 + 13 / curves.onset) ** -curves.exponent
    assert row["labeled"] == 3
    assert row["ap"] == pytest.approx(now)
    assert row["gain"] == pytest.approx(later - now)
    assert row["interval"] > 0
