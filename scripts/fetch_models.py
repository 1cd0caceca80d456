"""Fetch the model files that the lock names into a models folder, and go on where it broke off.

HF_TOKEN is sent if set, HF_ENDPOINT names another hub. Exit code 0 when all are there, else 1.
"""

import argparse
import os
import sys
from pathlib import Path

from handler.errors import WorkerError
from handler.hub import Hub, fetch_models
from handler.models import read_models_lock


def main() -> int:
    arguments = _parser().parse_args()
    try:
        lock = read_models_lock(arguments.lock, arguments.profile)
        fetch_models(
            lock.models,
            arguments.into,
            Hub(os.environ.get("HF_ENDPOINT") or None, os.environ.get("HF_TOKEN") or None),
            report=_say,
            workers=arguments.workers,
        )
    except WorkerError as exc:
        sys.stderr.write(f"{exc.message}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(
            "stopped; what was fetched is kept, and the next call goes on from there\n"
        )
        return 130
    _say(f"{len(lock.models)} model files of profile {lock.profile} are in {arguments.into}")
    return 0


def _say(line: str) -> None:
    # One call, so that lines of several threads don't mix.
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--into", type=Path, required=True, metavar="DIR", help="models folder")
    parser.add_argument(
        "--lock",
        type=Path,
        default=Path(__file__).resolve().parent.parent / "models.lock",
        help="default: the repository's models.lock",
    )
    parser.add_argument("--profile", help="default: the lock's own")
    parser.add_argument("--workers", type=_positive, default=4, help="files at once [4]")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


if __name__ == "__main__":
    sys.exit(main())
