"""`python -m benchmarks [NAME...]`: measures, prints tables, writes JSON and plots."""

import argparse
import importlib
import sys
from pathlib import Path

from benchmarks.report import Result, print_table, write

_PACKAGE_DIR = Path(__file__).resolve().parent


def main() -> int:
    """The exit code: 0, or 1 when a bound was missed."""
    names = sorted(path.stem for path in _PACKAGE_DIR.glob("*.py") if _is_benchmark(path))
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--into", type=Path, default=Path("build/bench"), help="folder for results")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(names):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    has_missed = False
    for name in arguments.names or names:
        result: Result = importlib.import_module(f"benchmarks.{name}").measure()
        print_table(name, result)
        write(arguments.into, name, result)
        has_missed |= any(figure.holds is False for figure in result.figures)
    return int(has_missed)


def _is_benchmark(path: Path) -> bool:
    return "\ndef measure(" in path.read_text()


if __name__ == "__main__":
    sys.exit(main())
