"""What `python -m handler` does besides working: look at a job without a GPU."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from handler.errors import InvalidInput, WorkerError
from handler.job import Job, parse_job
from handler.models_lock import read_models_lock
from handler.prompt_edit import ModelNames
from handler.settings import Settings, read_settings

COMMANDS = ("compile", "validate")


def run_command(arguments: list[str]) -> int:
    """0 when the job is good; 1 with the error's code and message on stderr."""
    parser = argparse.ArgumentParser(prog="python -m handler")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, help_text in (
        ("compile", "print the workflow, in API format, that a job runs"),
        ("validate", "check a job as the worker does before the GPU is touched"),
    ):
        command = commands.add_parser(name, help=help_text, description=help_text)
        command.add_argument("job", type=Path, help='a file with {"input": {...}}; - is stdin')
    options = parser.parse_args(arguments)
    try:
        job = _read_job(options.job, read_settings())
    except WorkerError as error:
        print(f"{error.code}: {error.message}", file=sys.stderr)
        return 1
    if options.command == "compile":
        print(json.dumps(job.workflow.nodes, indent=2))
    else:
        print(f"The job is good: {len(job.workflow.nodes)} nodes, {len(job.images)} pictures.")
    return 0


def _read_job(path: Path, settings: Settings) -> Job:
    models = ModelNames.of(read_models_lock(settings.worker_models_lock).models)
    return parse_job({"id": "local", **_read_json(path)}, settings.image_limits, models)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(sys.stdin.read() if str(path) == "-" else path.read_text())
    except (OSError, ValueError, RecursionError) as exc:
        raise InvalidInput(f"{path} can't be read as JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise InvalidInput(f"{path} must hold an object with `input`")
    return value
