"""Drawings of what the code is: rooms, the arrows between them, the states of a job."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import grimp

from gateway.lifecycle import TRANSITIONS
from handler.settings import PROJECT_DIR

# Used by nearly all rooms: their arrows would hide the others.
EVERYWHERE = frozenset({"clock", "errors", "logs"})


@dataclass(frozen=True, slots=True)
class House:
    """The rooms of a package, in the layers of its import contract, and what each room imports."""

    layers: list[list[str]]
    uses: dict[str, set[str]]


def read_house(package: str) -> House:
    """Rooms that the contract allows for and that are not there are left out."""
    layers = [
        [room for room in layer if _source(package, room).exists()] for layer in _layers(package)
    ]
    graph = grimp.build_graph(package)
    rooms = [room for layer in layers for room in layer]
    uses = {
        room: {
            other
            for other in rooms
            if other != room
            and graph.direct_import_exists(
                importer=f"{package}.{room}", imported=f"{package}.{other}", as_packages=True
            )
        }
        for room in rooms
    }
    return House(layers, uses)


def _layers(package: str) -> list[list[str]]:
    """Of a contract whose container is the package, or that names its rooms in full."""
    text = (PROJECT_DIR / "pyproject.toml").read_text()
    for contract in tomllib.loads(text)["tool"]["importlinter"]["contracts"]:
        layers = [re.findall(r"[\w.]+", layer) for layer in contract.get("layers", ())]
        if package in contract.get("containers", ()):
            return layers
        if any(room.startswith(f"{package}.") for layer in layers for room in layer):
            return [[room.removeprefix(f"{package}.") for room in layer] for layer in layers]
    raise ValueError(f"pyproject.toml has no layers for {package}")


def _source(package: str, room: str) -> Path:
    path = PROJECT_DIR / package / room
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def rooms_drawing(package: str) -> str:
    """A Mermaid flowchart. An arrow that only repeats a longer way is left out."""
    uses = {
        room: others - EVERYWHERE
        for room, others in read_house(package).uses.items()
        if room not in EVERYWHERE
    }
    used = {other for others in uses.values() for other in others}
    lines = [f"  {room}" for room in uses if not uses[room] and room not in used]
    for room in uses:
        farther = {far for near in uses[room] for far in _reached(near, uses)}
        lines += [f"  {room} --> {near}" for near in sorted(uses[room] - farther)]
    return _mermaid("flowchart TD", lines)


def _reached(room: str, uses: dict[str, set[str]]) -> set[str]:
    return {far for near in uses[room] for far in {near} | _reached(near, uses)}


def rooms_table(package: str) -> str:
    rows = []
    for number, layer in enumerate(filter(None, read_house(package).layers), 1):
        for room in layer:
            source = _source(package, room)
            is_package = source.name == "__init__.py"
            name = f"{room}/" if is_package else source.name
            path = (source.parent if is_package else source).relative_to(PROJECT_DIR)
            rows.append(f"| {number} | [`{name}`](../{path}) | {_one_job(source)} |")
    return table("| layer | room | its one job |", rows)


def _one_job(source: Path) -> str:
    docstring = re.search(r'"""(.*?)(?:\n\n|""")', source.read_text(), re.DOTALL)
    return " ".join(docstring[1].split()) if docstring else ""


def states_drawing() -> str:
    """A Mermaid diagram of the states of a gateway's job; events that change no state are left
    out."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, event), to in TRANSITIONS.items():
        for new in to:
            if new is not state:
                arrows.setdefault((state.value, new.value), []).append(event.__name__)
    lines = [f"  {old} --> {new}: {', '.join(events)}" for (old, new), events in arrows.items()]
    return _mermaid("stateDiagram-v2", lines)


def _mermaid(kind: str, lines: list[str]) -> str:
    return "\n".join(["```mermaid", kind, *lines, "```"]) + "\n"


def table(head: str, rows: list[str]) -> str:
    """In Markdown."""
    columns = head.count("|") - 1
    return "\n".join([head, "|" + "---|" * columns, *rows]) + "\n"
