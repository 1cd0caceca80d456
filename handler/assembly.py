"""Puts together what runs jobs, and what must hold before it does."""

import contextlib
from collections.abc import Sequence
from functools import partial

from handler.bucket import Bucket
from handler.comfy import ComfyPaths, Supervisor, torch_cuda
from handler.comfy_api import ComfyClient
from handler.job import AnswerLimits, Deliverer, Endpoint, JobRules, Pruner, Runner, warm_up
from handler.machine import Shutdown, gpu_fault
from handler.models import FoundModel
from handler.runpod import Check, fitness_checks
from handler.settings import Settings, child_environment, cuda_selection
from handler.sources import HttpsSource, ImageFetcher, PictureChecker
from handler.workflow import ModelNames


def assemble(
    settings: Settings,
    paths: ComfyPaths,
    supervisor: Supervisor,
    models: Sequence[FoundModel],
    shutdown: Shutdown,
    stack: contextlib.ExitStack,
) -> tuple[Endpoint, tuple[Check, ...]]:
    """The endpoint can take jobs once the checks have passed, of which the last is the warm-up,
    where that is wanted. What is begun here ends with `stack`."""
    bucket = Bucket(settings.bucket) if settings.bucket else None
    checker = PictureChecker(
        settings.image_limits, child_environment(), settings.worker_concurrency
    )
    stack.callback(checker.close)
    names = ModelNames.of(at.model for at in models)
    runner = _make_runner(settings, paths, supervisor, bucket, checker, names)
    checks = fitness_checks(models, bucket, supervisor, partial(_gpu_fault, settings))
    checks = (*checks, _can_check_pictures(checker))
    if settings.worker_warmup and not names.missing:
        checks = (*checks, _warmed_up(runner, names, supervisor))
    endpoint = Endpoint(
        runner,
        settings.image_limits,
        names,
        JobRules(settings.job_modes, settings.worker_max_nodes),
        settings.worker_save_dir,
        shutdown,
    )
    return endpoint, checks


def _gpu_fault(settings: Settings) -> str | None:
    """For jobs of callers, who would wait an hour for what a GPU does in seconds."""
    if settings.is_local or "--cpu" in settings.comfy_argv_tail:
        return None
    visible = cuda_selection()["visible_devices"]
    return gpu_fault(torch_cuda(settings.comfy_python), visible)


def _can_check_pictures(checker: PictureChecker) -> Check:
    """Last, when ComfyUI's boot no longer needs the processor."""

    async def can_check_pictures() -> None:
        checker.warm_up()

    return can_check_pictures


def _warmed_up(runner: Runner, names: ModelNames, supervisor: Supervisor) -> Check:
    async def warmed_up() -> None:
        await warm_up(runner, names)
        # It may have cost ComfyUI its life.
        await supervisor.ensure_ready()

    return warmed_up


def _make_runner(
    settings: Settings,
    paths: ComfyPaths,
    supervisor: Supervisor,
    bucket: Bucket | None,
    checker: PictureChecker,
    names: ModelNames,
) -> Runner:
    limits = AnswerLimits(settings.worker_run_limit_bytes, settings.worker_runsync_limit_bytes)
    return Runner(
        supervisor,
        partial(ComfyClient, settings.comfy_port),
        paths,
        ImageFetcher(
            bucket,
            HttpsSource(),
            checker,
            settings.image_limits,
            timeout_s=settings.worker_fetch_timeout_s,
            total_bytes=settings.worker_max_fetched_bytes,
        ),
        Deliverer(bucket, limits),
        Pruner(settings.comfy_dir, names) if settings.worker_prune else None,
        job_timeout_s=settings.worker_job_timeout_s,
        interrupt_grace_s=settings.comfy_interrupt_grace_s,
        most_nodes=settings.worker_max_nodes,
    )
