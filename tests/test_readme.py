"""The README says what is true."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from detal.strategies import STRATEGIES, strategy_options

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))


def test_tables_are_made_from_the_result_files() -> None:
    command = [sys.executable, str(ROOT / "tools" / "readme_tables.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_has_a_row_with_its_options(name: str) -> None:
    row = re.search(rf"^\| `{name}` \|.*$", README, re.MULTILINE)
    assert row, f"no row for {name}"
    for option in strategy_options(name):
        assert f"`{option}`" in row.group(), f"{option} is not in the row of {name}"


@pytest.mark.parametrize("verb", sorted(set(re.findall(r"^detal ([a-z-]+)", SHELL, re.MULTILINE))))
def test_verbs_exist(verb: str) -> None:
    source = (ROOT / "detal" / "cli.py").read_text(encoding="utf-8")
    assert f"def {verb.replace('-', '_')}(" in source or f'name="{verb}"' in source
