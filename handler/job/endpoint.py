"""RunPod's side of a job: dict in, dict out. The only place that catches everything."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import structlog

from handler.comfy_api import Reporter, Send
from handler.errors import InternalError, Interrupted, WorkerError
from handler.job.answer import error_answer
from handler.job.parse import JobRules, parse_job, request_id_of
from handler.job.runner import Runner
from handler.job.save_dir import save_answer
from handler.job.timings import Timings
from handler.logs import get_logger
from handler.machine import Shutdown
from handler.pictures import ImageLimits
from handler.workflow import ModelNames

# For what a cancelled job cleans up and the SDK then sends.
_INTERRUPT_S = 5.0

log = get_logger()


class Endpoint:
    """The handler that RunPod's SDK calls. It never raises anything but CancelledError."""

    def __init__(
        self,
        runner: Runner,
        limits: ImageLimits,
        models: ModelNames,
        rules: JobRules,
        save_dir: Path | None,
        shutdown: Shutdown,
    ) -> None:
        self._runner = runner
        self._limits = limits
        self._models = models
        self._rules = rules
        self._save_dir = save_dir
        self._tasks: set[asyncio.Task[Any]] = set()
        self._shutdown = shutdown

    async def __call__(self, raw: Mapping[str, Any], send: Send | None = None) -> dict[str, Any]:
        """The job's answer. `send` takes an update of its progress to RunPod."""
        request_id = request_id_of(raw) or raw.get("id")
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(job_id=raw.get("id"), request_id=request_id)
        with self._registered() as task:
            try:
                return await self._answer(raw, Reporter(send))
            except WorkerError as error:
                return self._failed(error, request_id)
            except asyncio.CancelledError:
                if not self._shutdown.is_ending:
                    log.info("job cancelled")
                    raise
                # The SDK can still send what is returned, and nothing of what is raised.
                task.uncancel()
                return self._failed(
                    Interrupted("the worker is shutting down; send the job again"), request_id
                )
            except Exception as exc:
                log.exception("unforeseen fault")
                fault = InternalError(f"the worker failed with {type(exc).__name__}; see its log")
                return self._failed(fault, request_id)

    async def finish(self, grace_s: float) -> None:
        """Give the jobs in hand `grace_s` seconds to end well."""
        if self._tasks:
            log.info("jobs in hand", jobs=len(self._tasks), grace_s=grace_s)
            await asyncio.wait(self._tasks, timeout=grace_s)

    async def interrupt(self) -> None:
        """End the jobs that are left as `interrupted`."""
        late = set(self._tasks)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=_INTERRUPT_S)

    async def _answer(self, raw: Mapping[str, Any], reporter: Reporter) -> dict[str, Any]:
        if self._shutdown.is_ending:
            raise Interrupted("the worker is shutting down; send the job again")
        timings = Timings()
        log.info("job started")
        with timings.phase("check"):
            job = await asyncio.to_thread(parse_job, raw, self._limits, self._models, self._rules)
        async with reporter.running():
            answer = await self._runner.run(job, timings, reporter)
        if self._save_dir is not None:
            await asyncio.to_thread(save_answer, self._save_dir, job.job_id, answer)
        counts = {key: len(answer.get(key, ())) for key in ("images", "files", "texts")}
        log.info("job done", **counts, timings=answer["timings"])
        return answer

    def _failed(self, error: WorkerError, request_id: str | None) -> dict[str, Any]:
        answer = error_answer(error, request_id)
        log.error(
            "job failed", code=error.code, message=answer["message"], details=answer["details"]
        )
        return answer

    @contextlib.contextmanager
    def _registered(self) -> Iterator[asyncio.Task[Any]]:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            yield task
        finally:
            self._tasks.discard(task)
