"""What `python -m handler` does besides working: look at a job without a GPU."""

import argparse
import asyncio
import gzip
import json
import sys
from collections.abc import Sized
from pathlib import Path
from typing import Any

from handler.comfy_api import ComfyClient
from handler.contract import SCHEMAS, Fit, RemoteImage, schema_of
from handler.editor import convert_editor_graph
from handler.errors import ComfyUnavailable, InvalidInput, WorkerError
from handler.job import Job, JobRules, parse_job, prepare_edit
from handler.models import read_models_lock
from handler.pictures import InputImage, SentImage, decode_image
from handler.settings import Settings, read_settings
from handler.workflow import EditorGraph, ModelNames, PromptEdit, Workflow, compile_edit

COMMANDS = ("compile", "convert", "schema", "validate")


def run_command(arguments: list[str]) -> int:
    """0 when the job is good; 1 with the error's code and message on stderr; argparse exits with 2
    when it was called wrong."""
    options = _make_parser().parse_args(arguments)
    try:
        options.run(options, read_settings())
    except WorkerError as error:
        print(f"{error.code}: {error.message}", file=sys.stderr)
        return 1
    return 0


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m handler")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, run, help_text in (
        ("compile", _compile, "print the workflow, in API format, that a job in prompt mode runs"),
        ("validate", _validate, "check a job as the worker does before the GPU is touched"),
    ):
        command = commands.add_parser(name, help=help_text, description=help_text)
        command.add_argument("job", type=Path, help='a file with {"input": {...}}; - is stdin')
        command.set_defaults(run=run)
    help_text = "print the API format of a graph that ComfyUI's editor saved"
    convert = commands.add_parser("convert", help=help_text, description=help_text)
    convert.add_argument("graph", type=Path, help="the editor's file; - is stdin")
    convert.add_argument(
        "--object-info", type=Path, metavar="FILE",
        help="what ComfyUI answers to /object_info; default: asked of the ComfyUI on COMFY_PORT",
    )  # fmt: skip
    convert.set_defaults(run=_convert)
    help_text = "print the JSON Schema of a job's input or of its output"
    schema = commands.add_parser("schema", help=help_text, description=help_text)
    schema.add_argument("of", choices=SCHEMAS)
    schema.set_defaults(run=lambda options, _settings: _print_json(schema_of(options.of)))
    return parser


def _compile(options: argparse.Namespace, settings: Settings) -> None:
    job = _read_job(options.job, settings)
    if isinstance(job.workflow, EditorGraph):
        raise InvalidInput("the job holds a graph of the editor; see python -m handler convert")
    if isinstance(job.workflow, Workflow):
        _print_json(job.workflow.nodes)
        return
    pictures, mask = _check_pictures(job, settings)
    if len(pictures) < len(job.images) or isinstance(job.mask, RemoteImage):
        raise InvalidInput(
            "what a prompt becomes depends on its pictures' sizes, and no address is opened here: "
            "put the pictures themselves into the job"
        )
    if job.mask is None and job.workflow.fit is not Fit.EXTEND:
        _print_json(compile_edit(job.workflow, pictures))
        return
    # What is loaded then are pieces that the worker makes.
    _print_json(prepare_edit(job.workflow, pictures, mask).workflow.nodes)


def _validate(options: argparse.Namespace, settings: Settings) -> None:
    job = _read_job(options.job, settings)
    _check_pictures(job, settings)
    pictures = _count(job.images, "picture")
    match job.workflow:
        case EditorGraph():
            print(
                "The job is good so far. Its workflow is a graph of the editor, which only "
                "ComfyUI's node definitions can check: python -m handler convert"
            )
        case Workflow(nodes):
            print(
                f"The job is good so far: {_count(nodes, 'node')}, {pictures}. Whether there are "
                "such node types, values and models is for ComfyUI to say."
            )
        case _:
            print(f"The job is good: a prompt, {pictures}.")
    sent = [*job.images, job.mask]
    addresses = [str(image.address) for image in sent if isinstance(image, RemoteImage)]
    if addresses:
        print(f"Not opened here, only when the job runs: {', '.join(addresses)}")


def _check_pictures(job: Job, settings: Settings) -> tuple[list[InputImage], InputImage | None]:
    """Those that the job holds itself, and its mask. In this process: whoever runs it waits."""
    as_photo = isinstance(job.workflow, PromptEdit)

    def check(image: SentImage) -> InputImage:
        limits = settings.image_limits
        return decode_image(image.name, image.text, image.where, limits, as_photo=as_photo)

    pictures = [check(image) for image in job.images if isinstance(image, SentImage)]
    return pictures, check(job.mask) if isinstance(job.mask, SentImage) else None


def _count(things: Sized, name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _convert(options: argparse.Namespace, settings: Settings) -> None:
    graph = _read_json(options.graph)
    if options.object_info is None:
        object_info = asyncio.run(_ask_object_info(settings.comfy_port))
    else:
        object_info = _read_json(options.object_info)
    _print_json(convert_editor_graph(graph, object_info))


async def _ask_object_info(port: int) -> dict[str, Any]:
    async with ComfyClient(port) as comfy:
        if not await comfy.is_answering():
            raise ComfyUnavailable(
                f"no ComfyUI answers on 127.0.0.1:{port}; start one, or give its node definitions "
                "with --object-info FILE (saved from its address /object_info)"
            )
        return await comfy.object_info()


def _read_job(path: Path, settings: Settings) -> Job:
    models = ModelNames.of(
        read_models_lock(settings.worker_models_lock, settings.worker_models_profile).models
    )
    raw = _read_json(path)
    if "input" not in raw:
        raise InvalidInput(
            f'{_name(path)} has no "input"; a job is {{"input": {{"workflow": {{...}}, '
            '"images": [...]}}'
        )
    return parse_job(
        {"id": "local", **raw},
        settings.image_limits,
        models,
        JobRules(settings.job_modes, settings.worker_max_nodes),
    )


def _read_json(path: Path) -> dict[str, Any]:
    """Also of a .gz file."""
    name = _name(path)
    try:
        data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        value = json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
    except UnicodeDecodeError as exc:
        raise InvalidInput(f"{name} is not JSON: it is not text in UTF-8") from exc
    except RecursionError as exc:
        raise InvalidInput(f"{name} is not JSON that can be used: nested too deeply") from exc
    except (OSError, EOFError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise InvalidInput(f"{name} can't be read: {reason}") from exc
    except ValueError as exc:
        raise InvalidInput(f"{name} is not JSON: {exc}" if data else f"{name} is empty") from exc
    if not isinstance(value, dict):
        raise InvalidInput(f"{name} must hold a JSON object")
    return value


def _name(path: Path) -> str:
    return "standard input" if str(path) == "-" else str(path)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))
