"""The packages of handler/: each with one job that it says, and few names that others may use."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from handler.settings import PROJECT_DIR

HANDLER = PROJECT_DIR / "handler"
ROOMS = sorted(path.parent.name for path in HANDLER.glob("*/__init__.py"))
CALLERS = [
    path
    for folder in ("handler", "gateway", "scripts", "benchmarks", ".runpod")
    for path in sorted((PROJECT_DIR / folder).rglob("*.py"))
]


def imports(path: Path) -> Iterator[tuple[str, str, str]]:
    """Room, module in it ("" for the room itself) and name of each import from a room."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("handler."):
            _, room, *module = (node.module or "").split(".")
            if room in ROOMS:
                yield from ((room, ".".join(module), name.name) for name in node.names)


def public_names(room: str) -> set[str]:
    for node in ast.parse((HANDLER / room / "__init__.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    raise AssertionError(f"handler/{room}/__init__.py has no __all__")


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_its_one_job(room: str) -> None:
    docstring = ast.get_docstring(ast.parse((HANDLER / room / "__init__.py").read_text()))
    assert docstring
    assert len(docstring.splitlines()) == 1
    assert len(list((HANDLER / room).glob("*.py"))) <= 18


@pytest.mark.parametrize("path", CALLERS, ids=lambda path: str(path.relative_to(PROJECT_DIR)))
def test_others_use_only_the_public_names_of_a_room(path: Path) -> None:
    own = path.parent.name if path.parent.parent == HANDLER else ""
    for room, module, name in imports(path):
        if room != own:
            assert not module, f"{name} is to come from handler.{room}, not handler.{room}.{module}"
            assert name in public_names(room)


def test_a_name_is_public_only_where_somebody_outside_uses_it() -> None:
    used = {
        (room, name)
        for path in CALLERS
        for room, _, name in imports(path)
        if room != path.parent.name
    }
    assert {(room, name) for room in ROOMS for name in public_names(room)} == used
