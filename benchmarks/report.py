"""What a benchmark gives back, and how it is shown: a table, a JSON file, a plot."""

import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure. `bound` is what it has to be, as a text such as "<= 10", or ""; the
    benchmark says itself, in `holds`, whether it is."""

    what: str
    value: float
    unit: str
    bound: str = ""
    holds: bool | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """`detail` is JSON: every single measurement. `draw` puts it on one pair of axes."""

    figures: Sequence[Figure]
    detail: Mapping[str, Any]
    draw: Callable[[Axes], None]


def print_table(name: str, result: Result) -> None:
    print(f"\n{name}")
    for figure in result.figures:
        verdict = {None: "", True: "holds", False: "MISSED"}[figure.holds]
        measured = f"{figure.value:>10.3g} {figure.unit}"
        print(f"  {figure.what:<62}{measured:<18}{figure.bound:>9} {verdict}")
    sys.stdout.flush()


def write(folder: Path, name: str, result: Result) -> None:
    """`FOLDER/NAME.json` and `FOLDER/NAME.svg`."""
    folder.mkdir(parents=True, exist_ok=True)
    text = {
        "benchmark": name,
        "command": f"make bench ARGS={name}",
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "figures": [asdict(figure) for figure in result.figures],
        "detail": dict(result.detail),
    }
    (folder / f"{name}.json").write_text(json.dumps(text, indent=1) + "\n")
    plot, axes = pyplot.subplots(figsize=(8, 3.5), layout="constrained")
    result.draw(axes)
    plot.savefig(folder / f"{name}.svg")
    pyplot.close(plot)
