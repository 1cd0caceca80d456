"""Writes those parts of the documents that the code knows best: what `make docs` does.

Such a part stands between `<!-- NAME: make docs -->` and `<!-- end of NAME -->`. A merge conflict
inside one is settled by running this again.
"""

import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grimp
from pydantic_settings import BaseSettings

from benchmarks.setups import loads_of, row_of
from benchmarks.simulate import make_parser
from handler.errors import BootError, WorkerError
from handler.models import read_models_lock
from handler.settings import PROJECT_DIR, Settings

RESULTS = PROJECT_DIR / "benchmarks" / "results"
# Rows of the simulation that say the most: jobs in hand, weights, active workers, idle timeout.
SETUPS = (
    (1, "volume", 0, 5),
    (2, "volume", 0, 5),
    (2, "baked", 0, 5),
    (2, "baked", 0, 300),
    (2, "baked", 1, 60),
)
# Used by nearly all rooms: their arrows would hide the others.
EVERYWHERE = frozenset({"errors", "logs"})

_PART = re.compile(r"<!-- ([a-z0-9_-]+): make docs -->\n(.*?)<!-- end of \1 -->", re.DOTALL)
_MARK = re.compile(r"^<!-- (?:end of )?([a-z0-9_-]+)(?:: make docs)? -->$", re.MULTILINE)


def documents() -> list[Path]:
    return [*sorted(PROJECT_DIR.glob("*.md")), *sorted((PROJECT_DIR / "docs").glob("*.md"))]


def rewrite(text: str) -> str:
    """The document with its parts as they are to be. ValueError for a part that nobody writes, and
    for one whose marks do not pair."""
    names = [match[1] for match in _PART.finditer(text)]
    if sorted(_MARK.findall(text)) != sorted(names * 2):
        raise ValueError(f"the marks of {sorted(set(_MARK.findall(text)))} do not pair")
    unknown = set(names) - PARTS.keys()
    if unknown:
        raise ValueError(f"nothing writes {sorted(unknown)}; known are {sorted(PARTS)}")
    return _PART.sub(
        lambda part: f"<!-- {part[1]}: make docs -->\n{PARTS[part[1]]()}<!-- end of {part[1]} -->",
        text,
    )


def table(head: str, rows: list[str]) -> str:
    columns = head.count("|") - 1
    return "\n".join([head, "|" + "---|" * columns, *rows]) + "\n"


def error_classes(base: type[WorkerError]) -> Iterator[type[WorkerError]]:
    """Those with a code, in the order of the tree."""
    if "code" in vars(base):
        yield base
    for kind in base.__subclasses__():
        yield from error_classes(kind)


def job_errors() -> str:
    return table(
        "| code | meaning | retry |",
        [
            f"| `{kind.code}` | {kind.summary} | {'yes' if kind.retryable else 'no'} |"
            for kind in error_classes(WorkerError)
            if not issubclass(kind, BootError)
        ],
    )


def boot_errors() -> str:
    rows = [f"| `{kind.code}` | {kind.summary} |" for kind in error_classes(BootError)]
    return table("| code | meaning |", rows)


def settings_table(settings: type[BaseSettings]) -> str:
    def shown(default: Any) -> str:
        text = "" if default is None else str(default).replace(f"{PROJECT_DIR}/", "")
        return f"`{text}`" if text else ""

    return table(
        "| variable | meaning | default |",
        [
            f"| `{name.upper()}` | {field.description} | {shown(field.default)} |"
            for name, field in settings.model_fields.items()
        ],
    )


def models_table() -> str:
    models = read_models_lock(PROJECT_DIR / "models.lock").models
    return table(
        "| folder | file | GB |",
        [
            f"| {' or '.join(f'`{folder}/`' for folder in model.folders)} | `{model.file}` "
            f"| {model.bytes / 1e9:.1f} |"
            for model in sorted(models, key=lambda model: -model.bytes)
        ],
    )


def measured(figure: dict[str, Any]) -> str:
    value = figure["value"]
    number = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{number} {figure['unit']}".strip()


def figures(benchmark: str) -> str:
    """What a benchmark measured when its kept result was written, and what it has to hold."""
    kept = json.loads((RESULTS / f"{benchmark}.json").read_text())
    return table(
        "| what | measured | bound |",
        [
            f"| {figure['what']} | {measured(figure)} | {figure['bound']} |"
            for figure in kept["figures"]
        ],
    )


def simulated() -> str:
    """The 95th percentile of the wait, and GPU hours for a thousand edits: hours cost 1 each."""
    options = make_parser().parse_args(["--price-per-hour", "1"])
    loads = loads_of(options)
    rows = []
    for in_hand, weights, active, idle_s in SETUPS:
        got = [row_of(options, load, weights, active, idle_s, in_hand) for load in loads]
        cells = " | ".join(f"{row.p95_s:.0f} s, {row.cost:.1f} h" for row in got)
        rows.append(f"| {in_hand} | {weights} | {active} | {idle_s} s | {cells} |")
    return table("| in hand | weights | active | idle timeout | day | bursts |", rows)


@dataclass(frozen=True, slots=True)
class House:
    """The rooms of a package, in the layers of its import contract, and what each room imports."""

    layers: list[list[str]]
    uses: dict[str, set[str]]


def house(package: str) -> House:
    contracts = tomllib.loads((PROJECT_DIR / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = next(
        [[room.strip(" ()") for room in layer.split("|")] for layer in contract["layers"]]
        for contract in contracts["contracts"]
        if package in contract.get("containers", ())
    )
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


def drawing(package: str) -> str:
    """A Mermaid flowchart. An arrow that only repeats a longer way is left out."""
    uses = {
        room: used - EVERYWHERE
        for room, used in house(package).uses.items()
        if room not in EVERYWHERE
    }
    lines = ["```mermaid", "flowchart TD"]
    for room in uses:
        farther = {far for near in uses[room] for far in _reached(near, uses)}
        lines += [f"  {room} --> {near}" for near in sorted(uses[room] - farther)]
    return "\n".join([*lines, "```"]) + "\n"


def _reached(room: str, uses: dict[str, set[str]]) -> set[str]:
    return {far for near in uses[room] for far in {near} | _reached(near, uses)}


def rooms_table(package: str) -> str:
    plan = house(package)
    rows = []
    for number, layer in enumerate(plan.layers, 1):
        for room in layer:
            path = PROJECT_DIR / package / room
            source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            name = f"{room}/" if path.is_dir() else f"{room}.py"
            link = f"[`{name}`](../{source.parent.relative_to(PROJECT_DIR)}"
            link += ")" if path.is_dir() else f"/{name})"
            rows.append(f"| {number} | {link} | {_one_job(source)} |")
    return table("| layer | room | its one job |", rows)


def _one_job(source: Path) -> str:
    docstring = re.search(r'"""(.*?)(?:\n\n|""")', source.read_text(), re.DOTALL)
    return " ".join(docstring[1].split()) if docstring else ""


PARTS: dict[str, Callable[[], str]] = {
    "job-errors": job_errors,
    "boot-errors": boot_errors,
    "worker-settings": lambda: settings_table(Settings),
    "models": models_table,
    "simulated": simulated,
    "handler-drawing": lambda: drawing("handler"),
    "handler-rooms": lambda: rooms_table("handler"),
    **{
        f"figures-{path.stem}": lambda path=path: figures(path.stem)  # type: ignore[misc]
        for path in sorted(RESULTS.glob("*.json"))
    },
}


def main() -> int:
    """1 when a document can't be written."""
    for path in documents():
        text = path.read_text()
        try:
            written = rewrite(text)
        except ValueError as error:
            print(f"{path.relative_to(PROJECT_DIR)}: {error}", file=sys.stderr)
            return 1
        if written != text:
            path.write_text(written)
            print(f"{path.relative_to(PROJECT_DIR)} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
