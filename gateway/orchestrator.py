"""Which background step runs when. A step does one short thing and says for how many rows.

Nothing elects anybody: any number of processes may run the same steps, since rows are claimed.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from gateway.job import Job

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 60.0
_MOST_DOUBLINGS = 10

_log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Step:
    """`run` is called until it says 0, then every `idle_s` seconds, and at once when a job changes
    in this process that it `cares` for; by up to `at_once` runners."""

    name: str
    run: Callable[[], Awaitable[int]]
    idle_s: float = 0.5
    at_once: int = 1
    cares: Callable[[Job], bool] = lambda _job: False


class Orchestrator:
    """`drain_s` is how long steps that run may go on after the stop; what is cut off then is what a
    crash would leave, and the next process goes on with it."""

    def __init__(
        self,
        steps: Sequence[Step],
        *,
        drain_s: float = 20.0,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._steps = steps
        self._drain_s = drain_s
        self._jitter = jitter
        self._idle: dict[str, list[asyncio.Event]] = defaultdict(list)
        self._is_woken: dict[str, bool] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def hear(self, job: Job) -> None:
        """May be called from any thread, also while nothing runs."""
        loop = self._loop
        for step in self._steps if loop is not None else ():
            if step.cares(job):
                self._from_thread(loop, step)

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set and the steps that ran have ended, or have been cut off."""
        self._loop = asyncio.get_running_loop()
        runners = [
            asyncio.create_task(self._run_step(step, stop), name=step.name)
            for step in self._steps
            for _ in range(step.at_once)
        ]
        try:
            await stop.wait()
        finally:
            self._loop = None
            for waiting in self._idle.values():
                for event in waiting:
                    event.set()
            _, late = await asyncio.wait(runners, timeout=self._drain_s) if runners else ((), ())
            for runner in late:
                _log.warning("step cut off", step=runner.get_name())
                runner.cancel()
            await asyncio.gather(*runners, return_exceptions=True)

    async def _run_step(self, step: Step, stop: asyncio.Event) -> None:
        failures = 0
        while not stop.is_set():
            self._is_woken[step.name] = False
            try:
                rows = await step.run()
            except Exception as exc:
                failures += 1
                wait_s = self._wait_s(failures)
                # The first tells where, the others only that it goes on.
                _log.error(
                    "step failed", step=step.name, error=type(exc).__name__, message=str(exc),
                    failures=failures, wait_s=round(wait_s, 2), exc_info=failures == 1,
                )  # fmt: skip
                await self._pause(stop, wait_s)
                continue
            failures = 0
            if rows:
                # There may be more than one runner's share.
                self._wake(step)
            elif not self._is_woken[step.name] and not stop.is_set():
                await self._be_idle(step)

    async def _be_idle(self, step: Step) -> None:
        event = asyncio.Event()
        waiting = self._idle[step.name]
        waiting.append(event)
        try:
            async with asyncio.timeout(step.idle_s):
                await event.wait()
        except TimeoutError:
            pass
        finally:
            if event in waiting:
                waiting.remove(event)

    async def _pause(self, stop: asyncio.Event, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await stop.wait()
        except TimeoutError:
            pass

    def _from_thread(self, loop: asyncio.AbstractEventLoop | None, step: Step) -> None:
        try:
            if loop is not None:
                loop.call_soon_threadsafe(self._wake, step)
        except RuntimeError:
            # The loop has ended since.
            self._loop = None

    def _wake(self, step: Step) -> None:
        self._is_woken[step.name] = True
        if waiting := self._idle[step.name]:
            waiting.pop().set()

    def _wait_s(self, failures: int) -> float:
        longest = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * (1 << min(failures - 1, _MOST_DOUBLINGS)))
        return longest * (0.5 + self._jitter() / 2)
