"""What the worker changes in the loop of RunPod's SDK: when it asks for jobs, how it ends, and how
often it sends a result.

What is known here of its inside is of runpod 1.12.0 and is held by tests/contract/.
"""

import asyncio
import contextlib
import math
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from aiohttp import ClientConnectionError, ClientError, ClientTimeout
from aiohttp_retry import FibonacciRetry, RetryClient
from runpod.serverless.modules import rp_http, rp_scale
from runpod.serverless.modules.rp_job import get_job, get_stop_signals, handle_job

from handler.logs import get_logger
from handler.machine import Shutdown

# Time for the SDK to post the last results after the handler has returned them.
_RESULTS_GRACE_S = 5.0
# Each but the first after 1 to 3 seconds: 20 s in which RunPod's API may be away.
_RESULT_ATTEMPTS = 8
_RESULT_TIMEOUT = ClientTimeout(total=120, sock_connect=10)
# Request timeout, too early, too many requests; 5xx are tried again anyway.
_TRY_AGAIN = {408, 425, 429}
_TAKE_AGAIN_S = 1.0
# RunPod stops a worker that has asked to be replaced well before.
_REPLACED_WITHIN_S = 10.0
# A job that RunPod has sent when the worker stops asking has arrived by then.
_ON_ITS_WAY_S = 0.2
# The SDK begins a job within 0.1 s of taking it, or when a job before it ends.
_EARLY_STOP_S = 3.0

log = get_logger()


def send_results_again() -> None:
    """Have results, which nobody can make again for free, sent more than once.

    The SDK itself repeats what the API has answered with 5xx, gives up when the connection breaks
    or the API has no time, and waits ten minutes for an answer (runpod 1.12.0, rp_http.py).
    """
    rp_http._transmit = _transmit


async def _transmit(session: Any, url: str, body: str) -> None:
    """As the SDK's. Raises ClientError, which it logs."""
    retry = FibonacciRetry(
        attempts=_RESULT_ATTEMPTS,
        statuses=_TRY_AGAIN,
        exceptions=[ClientConnectionError, TimeoutError],
    )
    client = RetryClient(client_session=session, retry_options=retry)
    headers = {"charset": "utf-8", "Content-Type": "application/x-www-form-urlencoded"}
    try:
        async with client.post(
            url, data=body, headers=headers, raise_for_status=True, timeout=_RESULT_TIMEOUT
        ) as response:
            await response.text()
    except TimeoutError as exc:
        raise ClientError("RunPod's API did not answer in time") from exc


class JobSlots:
    """Fetches the next job as soon as there is a slot for it.

    By itself the SDK looks once a second whether there is, and counts a job that it has just taken
    twice. So it is told a number that it never reaches, and waits in `get_job` instead.
    """

    def __init__(self, concurrency: int) -> None:
        self._free = concurrency
        self._running = 0
        self._is_to_be_replaced = False
        self._takes_again_at_s = 0.0
        self._changed = asyncio.Event()
        # Each job in hand counts at most twice, and one place must be left.
        self.sdk_concurrency = 2 * concurrency + 1

    def wrap_jobs(self) -> None:
        """The SDK looks up both functions in rp_scale when its loop is made."""
        rp_scale.get_job = self._take
        rp_scale.handle_job = self._handle

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """While the handler has a job."""
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            self._changed.set()

    def with_refresh(self, answer: dict[str, Any]) -> dict[str, Any]:
        """The answer of a job that runs no more. RunPod stops a worker at once that asks to be
        replaced, and with it the job beside: so that wish goes out with the last of them."""
        self._is_to_be_replaced |= bool(answer.pop("refresh_worker", False))
        if self._is_to_be_replaced and self._running == 0:
            self._is_to_be_replaced = False
            self._takes_again_at_s = time.monotonic() + _REPLACED_WITHIN_S
            answer["refresh_worker"] = True
        return answer

    async def _take(self, session: Any, _places: int) -> list[dict[str, Any]] | None:
        await asyncio.sleep(self._takes_again_at_s - time.monotonic())
        if self._free == 0 or (self._is_to_be_replaced and self._running):
            self._changed.clear()
            await self._changed.wait()
            # The SDK's time limit for this call has begun to run out: a job that comes at its end
            # would be taken and never run. It asks again at once.
            return None
        try:
            jobs: list[dict[str, Any]] | None = await get_job(session, self._free)
        except Exception:
            # The SDK asks again at once, hundreds of times a second while the API is away.
            await asyncio.sleep(_TAKE_AGAIN_S)
            raise
        self._free -= len(jobs or ())
        return jobs

    async def _handle(self, session: Any, config: dict[str, Any], job: dict[str, Any]) -> Any:
        try:
            return await handle_job(session, config, job)
        finally:
            self._free += 1
            self._changed.set()


class LoopControl:
    """What the SDK's loop lacks: an end within seconds of SIGTERM, with every result sent, and an
    ear for early stop signals.

    By itself it ends only when its open long-polls do, up to 90 s later, and a job that comes by
    one of them meanwhile is taken and never run.
    """

    def __init__(
        self,
        shutdown: Shutdown,
        stop_jobs: Callable[[], Awaitable[None]],
        leave_at_once: Callable[[], None],
    ) -> None:
        self._shutdown = shutdown
        self._stop_jobs = stop_jobs
        self._leave_at_once = leave_at_once
        self._begun: set[str] = set()
        self._early_stops: dict[str, float] = {}
        self._is_installed = False
        self._task: asyncio.Task[None] | None = None

    def wrap_long_polls(self, handle: Callable[[Mapping[str, Any]], Awaitable[Any]]) -> None:
        """The SDK looks up both functions in rp_scale when its loop is made."""
        take = self._until_the_end(rp_scale.get_job, None, _ON_ITS_WAY_S)

        async def take_until_the_end(session: Any, places: int) -> Any:
            jobs = await take(session, places)
            if not self._shutdown.is_ending:
                return jobs
            # The SDK begins no more jobs. This one is answered as those in hand are.
            for job in jobs or ():
                await handle_job(session, {"handler": handle}, job)
            return None

        rp_scale.get_job = take_until_the_end
        rp_scale.get_stop_signals = self._until_the_end(self._stop_signals, [])

    def take_over_signals(self) -> None:
        if self._is_installed:
            return
        self._is_installed = True
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._begin, number, signal.getsignal(number))

    async def _stop_signals(self, *arguments: Any) -> list[str]:
        """Only those that the SDK handles well: a task that it cancels before its first step would
        stay in its books for good."""
        job_ids: list[str] = await get_stop_signals(*arguments)
        self._early_stops = dict.fromkeys(set(job_ids) - self._begun, time.monotonic())
        return [job_id for job_id in job_ids if job_id in self._begun]

    @contextlib.contextmanager
    def begun(self, job_id: str) -> Iterator[None]:
        """While the handler has the job. Raises CancelledError for one that was stopped after the
        SDK took it and before it began it: the SDK drops such a signal. An older signal was for
        an earlier try, since RunPod gives a retried job its old id."""
        if time.monotonic() - self._early_stops.pop(job_id, -math.inf) < _EARLY_STOP_S:
            log.info("job cancelled before its start", job_id=job_id)
            raise asyncio.CancelledError
        self._begun.add(job_id)
        try:
            yield
        finally:
            self._begun.discard(job_id)

    def _until_the_end(
        self, poll: Callable[..., Awaitable[Any]], nothing: Any, patience_s: float = 0
    ) -> Any:
        async def poll_until_the_end(*arguments: Any) -> Any:
            request = asyncio.ensure_future(poll(*arguments))
            ends = asyncio.ensure_future(self._shutdown.wait())
            try:
                await asyncio.wait({request, ends}, return_when=asyncio.FIRST_COMPLETED)
                if not request.done():
                    await asyncio.wait({request}, timeout=patience_s)
                return request.result() if request.done() else nothing
            finally:
                request.cancel()
                ends.cancel()

        return poll_until_the_end

    def _begin(self, number: int, sdk_handler: Any) -> None:
        if self._task is not None:
            log.warning("second signal: leaving at once")
            self._leave_at_once()
            raise SystemExit(128 + number)
        log.info("shutting down", signal=signal.Signals(number).name)
        sdk_handler(number, None)
        self._shutdown.begin()
        self._task = asyncio.get_running_loop().create_task(self._end())

    async def _end(self) -> None:
        """The loop ends by itself once the jobs have; the rest is for a result that hangs."""
        await self._stop_jobs()
        await asyncio.sleep(_RESULTS_GRACE_S)
        log.error("leaving with results unsent")
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
