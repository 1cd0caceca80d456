"""When each background step is done; the steps themselves decide nothing about that."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import anyio.to_thread

from gateway.errors import Unavailable
from handler.logs import get_logger

_AFTER_FAULT_S = 5.0

log = get_logger()


@dataclass(frozen=True, slots=True)
class Step:
    """`run` does one short thing and says how many rows it has moved; one that blocks is a plain
    function and gets a thread. It is done again at once while there is work, else after
    `every_s`."""

    name: str
    every_s: float
    run: Callable[[], int | Awaitable[int]]


class Orchestrator:
    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped = asyncio.Event()

    def start(self) -> None:
        self._stopped.clear()
        self._tasks = [asyncio.create_task(self._repeat(step)) for step in self._steps]

    async def stop(self, seconds: float) -> None:
        """Begin nothing more, and give the steps that run so long to end."""
        self._stopped.set()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=seconds)
            for task in late:
                log.warning("a step did not end in time", step=task.get_name())
                task.cancel()

    async def _repeat(self, step: Step) -> None:
        while not self._stopped.is_set():
            wait_s = step.every_s
            try:
                if await self._once(step):
                    wait_s = 0
            except Unavailable as exc:
                log.warning("step put off", step=step.name, code=exc.code, message=exc.message)
                wait_s = _AFTER_FAULT_S
            except Exception:
                # One step's fault must not end the others.
                log.exception("step failed", step=step.name)
                wait_s = _AFTER_FAULT_S
            await self._wait(wait_s)

    async def _once(self, step: Step) -> int:
        if inspect.iscoroutinefunction(step.run):
            moved: int = await step.run()
            return moved
        run: Callable[[], int] = step.run  # type: ignore[assignment]
        return await anyio.to_thread.run_sync(run)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        except TimeoutError:
            pass
