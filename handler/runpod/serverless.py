"""RunPod's SDK: its start, its checks, its log. With sdk_loop.py the only module that imports it.

What is known here of its inside is of runpod 1.12.0 and is held by tests/contract/.
"""

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any

with contextlib.suppress(ImportError):
    # The SDK asks at its import for the processor's name, which only its debugger shows; to tell
    # it, this package measures the clock rate for a second.
    import cpuinfo

    cpuinfo.get_cpu_info = dict
import runpod.serverless
from runpod.http_client import AsyncClientSession
from runpod.serverless.modules.rp_http import send_result
from runpod.serverless.modules.rp_logger import RunPodLogger
from runpod.serverless.modules.worker_state import IS_LOCAL_TEST

from handler.errors import InternalError, WorkerError
from handler.logs import get_logger
from handler.machine import Shutdown
from handler.runpod.fitness import Check
from handler.runpod.sdk_loop import JobSlots, LoopControl, send_results_again

Send = Callable[[dict[str, Any]], Awaitable[None]]
Handler = Callable[[Mapping[str, Any], Send | None], Awaitable[dict[str, Any]]]

_LEVELS = {"TRACE": "debug", "DEBUG": "debug", "INFO": "info", "TIP": "info",
           "WARN": "warning", "ERROR": "error"}  # fmt: skip
_LONGEST_LINE = 300

log = get_logger()


def serve(
    handler: Handler, *, concurrency: int, shutdown: Shutdown,
    stop_jobs: Callable[[], Awaitable[None]], leave_at_once: Callable[[], None] = lambda: None,
) -> None:  # fmt: skip
    """Run the SDK's loop until the worker is told to end, by which `shutdown` begins; returns then.

    At most `concurrency` jobs are in hand, from their take to their result's arrival. `stop_jobs`
    is awaited on SIGTERM and SIGINT, and ends the jobs in the handler's hands; `leave_at_once` is
    called on a second signal, before these are cancelled.
    In a local run the SDK itself leaves with SystemExit, 0 or 1.
    """
    _log_through_ours()
    send_results_again()
    slots = JobSlots(concurrency)
    slots.wrap_jobs()
    control = LoopControl(shutdown, stop_jobs, leave_at_once)

    def modify_concurrency(_current: int) -> int:
        # The first moment in the loop: the SDK has set its signal handlers just before.
        control.take_over_signals()
        return slots.sdk_concurrency

    async def handle(job: Mapping[str, Any]) -> dict[str, Any]:
        if IS_LOCAL_TEST:
            return await handler(job, None)
        with control.begun(job["id"]), slots.running():
            async with AsyncClientSession() as session:
                answer = await handler(job, partial(_send_update, session, job))
        return _Unprinted(slots.with_refresh(answer))

    control.wrap_long_polls(handle)
    with contextlib.suppress(asyncio.CancelledError):
        runpod.serverless.start({"handler": handle, "concurrency_modifier": modify_concurrency})


class Unfit(Exception):
    """What RunPod is told of a check that failed: the error's code and message."""


def register_fitness_checks(
    checks: Iterable[Check], *, close: Callable[[], None], scrub: Callable[[str], str]
) -> None:
    """Have the SDK run `checks` before its loop, in production only.

    At the first that fails it reports the worker as unhealthy and leaves with os._exit, which
    unwinds nothing: so `close` is called before. `scrub` takes secrets out of what is reported.
    """
    _log_through_ours()
    for check in checks:
        runpod.serverless.register_fitness_check(_ending(check, close, scrub))


def _ending(check: Check, close: Callable[[], None], scrub: Callable[[str], str]) -> Check:
    @functools.wraps(check)
    async def run() -> None:
        try:
            await check()
        except WorkerError as error:
            log.error("worker ends", code=error.code, message=error.message, details=error.details)
            reason = f"{error.code}: {error.message}"
        except Exception as exc:
            log.exception("worker ends", code=InternalError.code)
            reason = f"{InternalError.code}: {type(exc).__name__}; the log has the traceback"
        else:
            return
        close()
        raise Unfit(scrub(reason))

    return run


class _Unprinted(dict[str, Any]):
    """An answer. The SDK formats each one whole into two log lines (rp_job.py, run_job), whether
    they are written or not: for a picture that is several times its size in memory."""

    def __repr__(self) -> str:
        return f"<{', '.join(self)}>"


async def _send_update(session: Any, job: Mapping[str, Any], update: dict[str, Any]) -> None:
    """What the SDK's progress_update sends, but awaited: that one leaves it to a thread, which
    may be overtaken by the result. A failure is logged by the SDK and no matter."""
    await send_result(session, {"status": "IN_PROGRESS", "output": update}, job)


def _log_through_ours() -> None:
    """The SDK prints its lines; as ours they have context, one form, and no secrets."""

    def write(_self: Any, message: Any, message_level: str = "INFO", job_id: Any = None) -> None:
        text = str(message)
        if len(text) > _LONGEST_LINE:
            # It prints whole inputs and results, which no log is the place for.
            text = text[:_LONGEST_LINE].partition("{")[0] + f"[{len(text)} characters]"
        context = {"job_id": job_id} if job_id else {}
        getattr(log, _LEVELS.get(message_level, "info"))("runpod", text=text.strip(), **context)

    RunPodLogger.log = write
    # Its greeting is a bare print, the one line that would be no JSON.
    vars(runpod.serverless)["print"] = lambda text: log.info("runpod", text=text.strip("- "))
