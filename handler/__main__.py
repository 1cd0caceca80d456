"""Starts the worker: settings, log, weights, ComfyUI, and then, while that boots, the rest.

What is imported at the top is what ComfyUI's start needs."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from handler.arguments import check_has_test_input, make_parser
from handler.comfy import (
    ComfyPaths,
    ComfyProcess,
    Supervisor,
    comfy_argv,
    comfy_memory_flags,
    open_run_dir,
)
from handler.errors import InternalError, WorkerError
from handler.logs import configure, get_logger, make_scrubber
from handler.machine import (
    AheadFile,
    Shutdown,
    end_forks_with_worker,
    has_gpu,
    host_memory_bytes,
    reading_ahead,
    return_large_buffers,
)
from handler.models import VOLUME, FoundModel, Place, find_models, read_models_lock, search_places
from handler.settings import (
    PROJECT_DIR,
    Settings,
    child_environment,
    cuda_selection,
    read_settings,
    secret_values,
    set_sdk_defaults,
    unknown_variables,
)

_COMFY = PROJECT_DIR / "comfy"

log = get_logger()


def main() -> int:
    """The exit code: 0 after an ordered end, 1 when the worker can't start or the job failed."""
    if sys.argv[1:2] and not sys.argv[1].startswith("-"):
        from handler.commands import COMMANDS, run_command

        if sys.argv[1] in COMMANDS:
            return run_command(sys.argv[1:])
    arguments = make_parser().parse_args()
    configure("INFO", secret_values())
    try:
        settings = read_settings()
        configure(settings.worker_log_level, secret_values())
        for name, near in unknown_variables().items():
            log.warning("unknown setting", name=name, nearest=near)
        is_told = bool(arguments.test_input or arguments.rp_serve_api)
        if settings.is_local and not is_told:
            check_has_test_input()
        _run(settings, is_local=settings.is_local or is_told)
    except WorkerError as error:
        log.error("worker ends", code=error.code, message=error.message, details=error.details)
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception:
        log.exception("worker ends", code=InternalError.code)
        return 1
    return 0


def _run(settings: Settings, *, is_local: bool) -> None:
    shutdown = Shutdown()
    _leave_on_sigterm(shutdown)
    end_forks_with_worker()
    return_large_buffers()
    set_sdk_defaults()
    places = search_places(settings.worker_models_dir)
    models = _find_models(settings, places)
    with contextlib.ExitStack() as stack:
        paths = stack.enter_context(
            open_run_dir(
                settings.worker_run_dir, models, places, settings.comfy_dir,
                None if settings.comfy_stock else _COMFY / "worker_nodes",
            )
        )  # fmt: skip
        supervisor = stack.enter_context(_supervised(settings, paths, models, shutdown))
        if settings.worker_read_ahead:
            stack.enter_context(reading_ahead(_files_ahead(models)))
        # These take a second to import: ComfyUI boots meanwhile.
        from handler.assembly import assemble
        from handler.runpod import register_fitness_checks, run_checks, serve

        endpoint, checks = assemble(settings, paths, supervisor, models, shutdown, stack)
        if is_local:
            asyncio.run(run_checks(checks))
        else:
            scrub = make_scrubber(secret_values())
            register_fitness_checks(checks, close=stack.close, scrub=scrub)

        async def stop_jobs() -> None:
            await endpoint.finish(settings.worker_shutdown_grace_s)
            shutdown.leave()
            await endpoint.interrupt()

        serve(
            endpoint, concurrency=settings.worker_concurrency, shutdown=shutdown,
            stop_jobs=stop_jobs, leave_at_once=supervisor.leave_at_once,
        )  # fmt: skip


@contextlib.contextmanager
def _supervised(
    settings: Settings,
    paths: ComfyPaths,
    models: tuple[FoundModel, ...],
    shutdown: Shutdown,
) -> Iterator[Supervisor]:
    argv = comfy_argv(
        settings.comfy_python, settings.comfy_dir, settings.comfy_port, paths,
        cpu=not has_gpu(),
        memory_flags=comfy_memory_flags(models, settings.comfy_argv_tail, **cuda_selection()),
        extra=settings.comfy_argv_tail,
        bootstrap=None if settings.comfy_stock else _COMFY / "bootstrap.py",
    )  # fmt: skip
    process = ComfyProcess(
        argv,
        launcher=_COMFY / "launch.py",
        port=settings.comfy_port,
        env=child_environment(),
        on_line=lambda line: log.debug("comfyui", line=line),
        memory_limit_bytes=_memory_limit(settings.comfy_memory_share),
    )

    async def is_answering() -> bool:
        from handler.comfy_api import ComfyClient

        async with ComfyClient(settings.comfy_port) as comfy:
            return await comfy.is_answering()

    supervisor = Supervisor(
        process, is_answering, shutdown,
        boot_timeout_s=settings.comfy_boot_timeout_s, restarts=settings.comfy_restarts,
    )  # fmt: skip
    try:
        supervisor.start()
        yield supervisor
    finally:
        supervisor.stop()


def _memory_limit(share: float) -> int | None:
    memory_bytes = host_memory_bytes()
    return None if memory_bytes is None else int(memory_bytes * share)


def _find_models(settings: Settings, places: tuple[Place, ...]) -> tuple[FoundModel, ...]:
    """Before ComfyUI starts: it is told where they are, and must not list what is being fetched."""
    lock = read_models_lock(settings.worker_models_lock, settings.worker_models_profile)
    if not settings.worker_fetch_models:
        return find_models(lock, places)
    # huggingface_hub takes a while to import.
    from handler.hub import Hub, fetch_target, find_or_fetch

    token = settings.hf_token.get_secret_value() if settings.hf_token else None
    return find_or_fetch(
        lock,
        places,
        fetch_target(settings.worker_models_dir),
        Hub(settings.hf_endpoint, token),
        lambda line: log.info("fetch", line=line),
    )


def _files_ahead(models: Iterable[FoundModel]) -> list[AheadFile]:
    """In the order in which an edit loads them."""
    order = {"clip": 0, "text_encoders": 0, "vae": 1, "unet": 2, "diffusion_models": 2, "loras": 3}
    return [
        AheadFile(found.path, readers=4 if found.path.is_relative_to(VOLUME) else 1)
        for found in sorted(models, key=lambda found: order.get(found.model.folder, len(order)))
    ]


def _leave_on_sigterm(shutdown: Shutdown) -> None:
    """Until the SDK's loop runs, SIGTERM unwinds the stack, so that the child ends with us."""

    def leave(number: int, _frame: Any) -> None:
        shutdown.leave()
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)


if __name__ == "__main__":
    sys.exit(main())
