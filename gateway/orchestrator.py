"""When each background step is done; the steps themselves decide nothing about that.

Nothing elects anybody: any number of processes may run the same steps, since rows are claimed.
"""

import asyncio
import contextlib
import inspect
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import anyio.to_thread

from gateway.errors import Unavailable
from gateway.job import Job
from handler.logs import get_logger

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 60.0
_MOST_DOUBLINGS = 10

log = get_logger()


@dataclass(frozen=True, slots=True)
class Step:
    """`run` does one short thing and says how many rows it has moved; one that blocks is a plain
    function and gets a thread. It is done again at once while there is work, else after `every_s`,
    or when a job changes in this process that the step `cares` for; by up to `at_once` runners."""

    name: str
    every_s: float
    run: Callable[[], int | Awaitable[int]]
    at_once: int = 1
    cares: Callable[[Job], bool] = lambda _job: False


class Orchestrator:
    def __init__(self, steps: Sequence[Step], jitter: Callable[[], float] = random.random) -> None:
        self._steps = steps
        self._jitter = jitter
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle: defaultdict[str, list[asyncio.Event]] = defaultdict(list)
        self._is_woken: dict[str, bool] = {}

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped.clear()
        self._tasks = [
            asyncio.create_task(self._repeat(step), name=step.name)
            for step in self._steps
            for _ in range(step.at_once)
        ]

    async def stop(self, seconds: float) -> None:
        """Begin nothing more, and give the steps that run so long to end. What is cut off then is
        what a crash would leave, and the next process goes on with it."""
        self._stopped.set()
        self._loop = None
        for waiting in self._idle.values():
            for event in waiting:
                event.set()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=seconds)
            for task in late:
                log.warning("a step did not end in time", step=task.get_name())
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def hear(self, job: Job) -> None:
        """A job has changed. From any thread, also while nothing runs."""
        if (loop := self._loop) is None:
            return
        for step in self._steps:
            if step.cares(job):
                # It may end in this very moment.
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(self._wake, step)

    async def _repeat(self, step: Step) -> None:
        failures = 0
        while not self._stopped.is_set():
            self._is_woken[step.name] = False
            try:
                moved = await _once(step)
            except Exception as exc:
                # One step's fault must not end the others.
                failures += 1
                wait_s = self._wait_s(failures)
                self._log(step, exc, failures, wait_s)
                await self._pause(wait_s)
                continue
            failures = 0
            if moved:
                # There may be more than one runner's share.
                self._wake(step)
            elif not self._is_woken[step.name]:
                await self._be_idle(step)

    async def _be_idle(self, step: Step) -> None:
        event, waiting = asyncio.Event(), self._idle[step.name]
        if self._stopped.is_set():
            return
        waiting.append(event)
        try:
            async with asyncio.timeout(step.every_s):
                await event.wait()
        except TimeoutError:
            pass
        finally:
            if event in waiting:
                waiting.remove(event)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        except TimeoutError:
            pass

    def _wake(self, step: Step) -> None:
        self._is_woken[step.name] = True
        if waiting := self._idle[step.name]:
            waiting.pop().set()

    def _wait_s(self, failures: int) -> float:
        longest = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * (1 << min(failures - 1, _MOST_DOUBLINGS)))
        return longest * (0.5 + self._jitter() / 2)

    def _log(self, step: Step, error: Exception, failures: int, wait_s: float) -> None:
        about = {"step": step.name, "failures": failures, "wait_s": round(wait_s, 2)}
        if isinstance(error, Unavailable):
            log.warning("step put off", code=error.code, message=error.message, **about)
        else:
            # The first tells where, the others only that it goes on.
            log.error(
                "step failed", error=type(error).__name__, message=str(error),
                exc_info=error if failures == 1 else None, **about,
            )  # fmt: skip


async def _once(step: Step) -> int:
    if inspect.iscoroutinefunction(step.run):
        moved: int = await step.run()
        return moved
    run: Callable[[], int] = step.run  # type: ignore[assignment]
    return await anyio.to_thread.run_sync(run)
