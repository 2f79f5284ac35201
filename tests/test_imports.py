"""Imports point down the floors of `docs/architecture.md`, and never in a circle."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = (
    {"app", "__main__"},
    {"cli"},
    {"ui"},
    {"batch"},
    {"generation"},
    {"client", "service", "preflight"},
    {"engine"},
    {"credentials"},
    {"media"},
    {"process"},
)
"""Top to bottom; every other module of the package lies below."""


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_module(path): path for path in (ROOT / "kolbo_demo").rglob("*.py")}
MODULES["app"] = ROOT / "app.py"


def _imports(module: str) -> Iterator[str]:
    """Modules of the project that `module` imports anywhere, under TYPE_CHECKING as well."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} has a relative import, which this test cannot follow"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name in MODULES:
                yield name
            elif name.rpartition(".")[0] in MODULES:
                yield name.rpartition(".")[0]


def _floor(module: str) -> int:
    """The index in `FLOORS`."""
    room = module.split(".")[1] if "." in module else module
    return next((number for number, rooms in enumerate(FLOORS) if room in rooms), len(FLOORS))


def _room(module: str) -> str:
    return module.split(".")[1] if "." in module else module


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_down(module: str) -> None:
    for other in _imports(module):
        if other == "kolbo_demo" or _room(other) == _room(module):
            continue
        below = _floor(other) > _floor(module)
        assert below or _floor(module) == len(FLOORS), f"{module} imports {other}"


def test_no_imports_go_in_a_circle() -> None:
    graph = {module: set(_imports(module)) - {module} for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_every_floor_is_there() -> None:
    rooms = {_room(module) for module in MODULES}
    assert set().union(*FLOORS) <= rooms
