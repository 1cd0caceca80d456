"""Puts the worker together and runs it: settings, log, ComfyUI, weights, RunPod's loop."""

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from handler.bucket import Bucket
from handler.comfy_client import ComfyClient
from handler.comfy_process import ComfyPaths, ComfyProcess, comfy_argv
from handler.commands import COMMANDS, run_command
from handler.delivery import AnswerLimits, Deliverer
from handler.endpoint import Endpoint
from handler.errors import InternalError, UploadFailed, WorkerError
from handler.gpu import has_gpu
from handler.logs import configure, get_logger
from handler.malloc import return_large_buffers
from handler.model_places import FoundModel, Place, find_models, search_places
from handler.models_lock import check_model, read_models_lock
from handler.orphans import end_forks_with_worker
from handler.prompt_edit import ModelNames
from handler.run_dir import open_run_dir
from handler.runner import Runner
from handler.settings import (
    PROJECT_DIR,
    Settings,
    child_environment,
    read_settings,
    secret_values,
    set_sdk_defaults,
    unknown_variables,
)
from handler.supervisor import Supervisor

log = get_logger()


def main() -> int:
    """The exit code: 0 after an ordered end, 1 when the worker can't start or the job failed."""
    if sys.argv[1:2] and sys.argv[1] in COMMANDS:
        return run_command(sys.argv[1:])
    arguments = make_parser().parse_args()
    configure("INFO", secret_values())
    try:
        settings = read_settings()
        configure(settings.worker_log_level, secret_values())
        for name, near in unknown_variables().items():
            log.warning("unknown setting", name=name, nearest=near)
        if settings.is_local and not (arguments.test_input or arguments.rp_serve_api):
            _check_has_test_input()
        _run(settings)
    except WorkerError as error:
        log.error("worker ends", code=error.code, message=error.message, details=error.details)
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception:
        log.exception("worker ends", code=InternalError.code)
        return 1
    return 0


def _run(settings: Settings) -> None:
    _leave_on_sigterm()
    end_forks_with_worker()
    return_large_buffers()
    set_sdk_defaults()
    places = search_places(settings.worker_models_dir)
    models = _find_models(settings, places)
    with (
        open_run_dir(settings.worker_run_dir, models, places, settings.comfy_dir) as paths,
        _supervised(settings, paths) as supervisor,
    ):
        # The SDK takes a second to import: ComfyUI boots meanwhile.
        from handler.serverless import serve

        bucket = Bucket(settings.bucket) if settings.bucket else None
        endpoint = Endpoint(
            _make_runner(settings, paths, supervisor, bucket), settings.image_limits,
            _check_models(models), settings.worker_save_dir,
        )  # fmt: skip
        asyncio.run(_wait_for_all(supervisor, bucket))

        async def stop_jobs() -> None:
            await endpoint.finish(settings.worker_shutdown_grace_s)
            supervisor.is_leaving = True
            await endpoint.interrupt()

        serve(endpoint, concurrency=settings.worker_concurrency, stop_jobs=stop_jobs)


@contextlib.contextmanager
def _supervised(settings: Settings, paths: ComfyPaths) -> Iterator[Supervisor]:
    argv = comfy_argv(
        settings.comfy_python, settings.comfy_dir, settings.comfy_port, paths,
        cpu=not has_gpu(), extra=settings.comfy_argv_tail,
    )  # fmt: skip
    process = ComfyProcess(
        argv,
        launcher=PROJECT_DIR / "comfy" / "launch.py",
        port=settings.comfy_port,
        env=child_environment(),
        on_line=lambda line: log.debug("comfyui", line=line),
    )

    async def is_answering() -> bool:
        async with ComfyClient(settings.comfy_port) as comfy:
            return await comfy.is_answering()

    supervisor = Supervisor(
        process, is_answering,
        boot_timeout_s=settings.comfy_boot_timeout_s, restarts=settings.comfy_restarts,
    )  # fmt: skip
    try:
        supervisor.start()
        yield supervisor
    finally:
        supervisor.stop()


async def _wait_for_all(supervisor: Supervisor, bucket: Bucket | None) -> None:
    """Until ComfyUI answers, and the bucket has been tried."""
    await asyncio.gather(supervisor.ensure_ready(), _try_bucket(bucket))


async def _try_bucket(bucket: Bucket | None) -> None:
    """Only warns: keys that may write need not be allowed to look."""
    try:
        if bucket is not None:
            await bucket.check()
    except UploadFailed as error:
        log.warning("bucket check failed", message=error.message, details=error.details)


def _make_runner(
    settings: Settings, paths: ComfyPaths, supervisor: Supervisor, bucket: Bucket | None
) -> Runner:
    limits = AnswerLimits(settings.worker_run_limit_bytes, settings.worker_runsync_limit_bytes)
    return Runner(
        supervisor,
        partial(ComfyClient, settings.comfy_port),
        paths,
        Deliverer(bucket, limits),
        job_timeout_s=settings.worker_job_timeout_s,
        interrupt_grace_s=settings.comfy_interrupt_grace_s,
    )


def _find_models(settings: Settings, places: tuple[Place, ...]) -> tuple[FoundModel, ...]:
    """Before ComfyUI starts: it is told where they are, and must not list what is being fetched."""
    lock = read_models_lock(settings.worker_models_lock, settings.worker_models_profile)
    if not settings.worker_fetch_models:
        return find_models(lock, places)
    # huggingface_hub takes a while to import.
    from handler.hub import Hub
    from handler.model_fetch import fetch_target, find_or_fetch

    token = settings.hf_token.get_secret_value() if settings.hf_token else None
    return find_or_fetch(
        lock,
        places,
        fetch_target(settings.worker_models_dir),
        Hub(settings.hf_endpoint, token),
        lambda line: log.info("fetch", line=line),
    )


def _check_models(models: tuple[FoundModel, ...]) -> ModelNames:
    """Milliseconds: sizes, headers, samples. The full check is `make verify-models`."""
    for at in models:
        check_model(at.model, at.path)
        log.info("model found", file=at.model.file, path=at.path, place=at.place)
    return ModelNames.of(at.model for at in models)


def _leave_on_sigterm() -> None:
    """Until the SDK's loop runs, SIGTERM unwinds the stack, so that the child ends with us."""

    def leave(number: int, _frame: Any) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)


def _check_has_test_input() -> None:
    if not Path("test_input.json").exists():
        raise SystemExit(
            "python -m handler: nothing to run. RUNPOD_WEBHOOK_GET_JOB is not set, so this is a "
            "local run:\ngive a job with --test_input or in ./test_input.json, or serve HTTP with "
            "--rp_serve_api."
        )


def make_parser() -> argparse.ArgumentParser:
    """Only to refuse what nobody reads and to explain; the SDK reads its flags itself."""
    parser = argparse.ArgumentParser(
        prog="python -m handler",
        description="The worker. On RunPod it takes jobs; elsewhere it runs one test job or "
        "serves the SDK's local API. Everything else is set by environment variables. Without a "
        "GPU: `python -m handler compile JOB.json` prints the workflow that a job in prompt mode "
        "becomes, `validate JOB.json` what is wrong with a job, `convert GRAPH.json` the API "
        "format of a graph that the editor saved, `schema input` and `schema output` the contract.",
        epilog=_settings_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--test_input", metavar="JSON", help='one job: {"input": {...}}')
    parser.add_argument("--rp_serve_api", action="store_true", help="serve /run and /runsync")
    parser.add_argument("--rp_api_host", help="default: localhost")
    parser.add_argument("--rp_api_port", type=int, help="default: 8000")
    parser.add_argument("--rp_api_concurrency", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rp_log_level", help=argparse.SUPPRESS)
    parser.add_argument("--rp_debugger", action="store_true", help=argparse.SUPPRESS)
    return parser


def _settings_help() -> str:
    lines = ["environment variables:"]
    for name, field in Settings.model_fields.items():
        lines.append(f"  {name.upper()}\n      {field.description} [{field.default}]")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
