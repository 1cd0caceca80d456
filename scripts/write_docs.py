"""Writes those parts of the documents that the code knows best: what `make docs` does.

Such a part stands between `<!-- NAME: make docs -->` and `<!-- end of NAME -->`. A merge conflict
inside one is settled by running this again.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from draw_rooms import rooms_drawing, rooms_table, states_drawing, table
from pydantic_settings import BaseSettings

import gateway.errors
import gateway.settings
from benchmarks.setups import loads_of, row_of
from benchmarks.simulate import make_parser
from handler.errors import BootError, WorkerError
from handler.models import read_models_lock
from handler.pruning import RULES
from handler.settings import PROJECT_DIR, Settings

Error = WorkerError | gateway.errors.GatewayError
RESULTS = PROJECT_DIR / "benchmarks" / "results"
# Rows of the simulation that say the most: jobs in hand, weights, active workers, idle timeout.
SETUPS = (
    (1, "volume", 0, 5),
    (2, "volume", 0, 5),
    (2, "baked", 0, 5),
    (2, "baked", 0, 300),
    (2, "baked", 1, 60),
)
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


def error_classes(base: type[Error]) -> Iterator[type[Error]]:
    """Those with a code, in the order of the tree."""
    if "code" in vars(base):
        yield base
    for kind in base.__subclasses__():
        yield from error_classes(kind)


def errors_table(
    bases: Sequence[type[Error]],
    columns: Mapping[str, Callable[[Any], str]],
    without: type[Error] | None = None,
) -> str:
    """`columns` stand beside code and meaning."""
    rows = [
        [f"`{kind.code}`", kind.summary, *(cell(kind) for cell in columns.values())]
        for base in bases
        for kind in error_classes(base)
        if without is None or not issubclass(kind, without)
    ]
    return table(
        f"| {' | '.join(['code', 'meaning', *columns])} |",
        [f"| {' | '.join(row)} |" for row in rows],
    )


def retry(kind: type[Error]) -> str:
    return "yes" if kind.retryable else "no"


def http_status(kind: type[gateway.errors.GatewayError]) -> str:
    return str(kind.http_status)


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


def pruning_table() -> str:
    return table(
        "| rule | leaves out | when |",
        [f"| `{rule.name}` | {rule.leaves_out} | {rule.when} |" for rule in RULES],
    )


PARTS: dict[str, Callable[[], str]] = {
    "worker-errors": lambda: errors_table([WorkerError], {"retry": retry}, without=BootError),
    "worker-boot-errors": lambda: errors_table([BootError], {}),
    "gateway-errors": lambda: errors_table(
        [gateway.errors.RequestError, gateway.errors.Unavailable],
        {"HTTP": http_status, "retry": retry},
    ),
    "gateway-job-errors": lambda: errors_table([gateway.errors.JobFailure], {"retry": retry}),
    "gateway-boot-errors": lambda: errors_table([gateway.errors.BootError], {}),
    "worker-settings": lambda: settings_table(Settings),
    "gateway-settings": lambda: settings_table(gateway.settings.Settings),
    "models": models_table,
    "pruning": pruning_table,
    "simulated": simulated,
    "worker-drawing": lambda: rooms_drawing("handler"),
    "worker-rooms": lambda: rooms_table("handler"),
    "gateway-drawing": lambda: rooms_drawing("gateway"),
    "gateway-rooms": lambda: rooms_table("gateway"),
    "gateway-states": states_drawing,
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
