from pathlib import Path

import pytest
import yaml

from detal.config import SelectConfig, SimulateConfig, dump_config, load_config
from detal.errors import ConfigError

MINIMAL = ["pool=images", "output=out"]


def test_paths_in_a_file_are_relative_to_it(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "with space"
    folder.mkdir()
    file = folder / "run.yaml"
    file.write_text("pool: {path: ../pool}\noutput: out\ndetector: {weights: sub/best.pt}\n")
    monkeypatch.chdir(tmp_path)
    config = load_config(SelectConfig, file, ["output=elsewhere"])
    assert config.pool.path == str(tmp_path / "pool")
    assert config.detector.weights == str(folder / "sub" / "best.pt")
    assert config.output == str(tmp_path / "elsewhere")


def test_bare_model_name_is_kept() -> None:
    assert (
        load_config(SelectConfig, None, [*MINIMAL, "detector=yolo11n.pt"]).detector.weights
        == "yolo11n.pt"
    )


def test_shorthands_and_scientific_numbers() -> None:
    config = load_config(
        SelectConfig,
        None,
        [*MINIMAL, "strategy=core_set", "budget=1e3", "budget.unit=boxes", "labeled=null"],
    )
    assert config.strategy.name == "core_set"
    assert (config.budget.amount, config.budget.unit) == (1000.0, "boxes")
    assert config.labeled is None


def test_another_strategy_drops_the_options_and_another_amount_keeps_the_unit() -> None:
    before = [*MINIMAL, "strategy.name=entropy", "strategy.aggregation=sum", "budget.unit=boxes"]
    config = load_config(SelectConfig, None, [*before, "strategy=core_set", "budget=7"])
    assert (config.strategy.name, config.strategy.options) == ("core_set", {})
    assert (config.budget.amount, config.budget.unit) == (7, "boxes")


def test_strategy_options_are_free() -> None:
    config = load_config(
        SelectConfig, None, [*MINIMAL, "strategy.name=entropy", "strategy.aggregation=sum"]
    )
    assert config.strategy.options == {"aggregation": "sum"}


def test_dump_reads_back(tmp_path: Path) -> None:
    overrides = [*MINIMAL, "strategy.aggregation=sum", "labeled=a.json"]
    config = load_config(SelectConfig, None, overrides)
    file = tmp_path / "again.yaml"
    file.write_text(dump_config(config))
    assert load_config(SelectConfig, file) == config


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(ConfigError, match="overrides: ") as caught:
        load_config(SelectConfig, None, ["pool.pth=x", "output=o", "budget=-1", "sead=3"])
    message = str(caught.value)
    for part in (
        "pool.path is required",
        "unknown key pool.pth, did you mean path?",
        "budget.amount",
        "unknown key sead, did you mean seed?",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        pytest.param(["nonsense"], "key=value", id="no-equals"),
        pytest.param(["=3"], "key=value", id="no-key"),
        pytest.param([*MINIMAL, "device=gpu"], "device", id="device"),
        pytest.param([*MINIMAL, "detector.score_threshold=1"], "score_threshold", id="range"),
    ],
)
def test_bad_overrides(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(SelectConfig, None, overrides)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("[1, 2]", "keys and values", id="list"),
        pytest.param("a: [", "must be YAML", id="broken"),
        pytest.param("a: !!python/object/apply:os.getcwd []", "must be YAML", id="object"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(SelectConfig, file)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read config"):
        load_config(SelectConfig, tmp_path / "none.yaml")


def test_shipped_configs_are_valid() -> None:
    folder = Path(__file__).parents[1] / "configs"
    assert load_config(SelectConfig, folder / "sandbox.yaml").pool.path.endswith("pool.json")
    assert load_config(SelectConfig, folder / "own_data.yaml").dedup.per_group == 5
    studies = sorted((folder / "bench").glob("*.yaml"))
    assert studies
    for file in studies:
        assert "random" in {s.label for s in load_config(SimulateConfig, file).strategies}


def test_members_are_paths_like_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.pt").write_bytes(b"")
    strategy = {"name": "committee", "members": ["a.pt", "sub/b.pt", "yolo11n.pt"]}
    expected = [str(tmp_path / "a.pt"), str(tmp_path / "sub" / "b.pt"), "yolo11n.pt"]
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"pool": "p", "output": "o", "strategy": strategy}))
    assert load_config(SelectConfig, path).strategy.options["members"] == expected
    study = {
        "pool": "p",
        "test": "t",
        "initial": {"amount": 1},
        "training": {"init": "yolo11n.yaml"},
        "strategies": ["random", strategy],
        "output": "o",
    }
    path.write_text(yaml.safe_dump(study))
    assert load_config(SimulateConfig, path).strategies[1].options["members"] == expected
    monkeypatch.chdir(tmp_path)
    overrides = ["pool=p", "output=o", "strategy=committee", "strategy.members=[a.pt, sub/b.pt]"]
    found = load_config(SelectConfig, None, overrides).strategy.options["members"]
    assert found == expected[:2]


def test_tables_and_reference_sets_are_found_from_the_file(tmp_path: Path) -> None:
    strategy = {"name": "curve_greedy", "table": "tables/1"}
    path = tmp_path / "run.yaml"
    path.write_text(
        yaml.safe_dump({"pool": "p", "reference": "r.json", "strategy": strategy, "output": "o"})
    )
    config = load_config(SelectConfig, path)
    assert config.reference is not None
    assert config.reference.path == str(tmp_path / "r.json")
    assert config.strategy.options["table"] == str(tmp_path / "tables" / "1")
