"""A module imports only from its own unit or a lower layer."""

import ast
from pathlib import Path

import pytest

import detal

PACKAGE = Path(detal.__file__).parent
LAYERS = [
    {"errors"},
    {"files", "interrupts", "seeding"},
    {"boxes", "config", "locking", "notebook"},
    {"structures"},
    {"datasets", "detectors", "evaluation", "sandbox", "store"},
    {"features", "manifests", "report", "training"},
    {"scoring"},
    {"reward", "trustset"},
    {"agents"},
    {"strategies"},
    {"runs"},
    {"loop", "review"},
    {"printing"},
    {"cli"},
    {"__init__", "__main__"},
]
RANK = {unit: rank for rank, units in enumerate(LAYERS) for unit in units}


def unit_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imported_units(path: Path) -> set[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module]
    parts = [name.split(".") for name in names]
    return {part[1] for part in parts if part[0] == "detal" and len(part) > 1}


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_imports_go_down(path: Path) -> None:
    unit = unit_of(path)
    assert unit in RANK, f"give detal/{unit} a place in LAYERS"
    for other in imported_units(path) - {unit}:
        assert other in RANK, f"give detal/{other} a place in LAYERS"
        assert RANK[other] < RANK[unit], f"{path} imports {other}, which is not below {unit}"
