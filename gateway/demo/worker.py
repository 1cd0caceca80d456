"""Takes a job, says how far it is, and answers: as an own worker, without being another process.

A job is held by a lease, which every word about it renews. So one whose process dies goes to the
next, and one that is cancelled stops at the next word.
"""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from gateway.clock import Clock
from gateway.demo.picture import Drawn, draw
from gateway.errors import InputGone, Unavailable
from gateway.job import (
    DEMO,
    Fault,
    Job,
    JobState,
    Progressed,
    ResultArrived,
    Stopped,
    TryFailed,
)
from gateway.objects import ObjectMissing, ObjectStore
from gateway.store.jobs import JobStore
from handler.errors import WorkerError
from handler.logs import get_logger

LEASE_MS = 10_000
_FINISH_LEASE_MS = 60_000
_PACE_S = 0.25
_STEPS = {"fast": 4, "fine": 20}
# How many steps of a fine edit are passed over between two words, so that it takes no longer.
_WORDS = 4

log = get_logger()

Pause = Callable[[float], Awaitable[None]]
Finish = Callable[[Job, Any], Any]


class _Refused(Exception):
    """What a worker would do and the demo does not."""


class DemoWorker:
    """`process` names this one as a holder; `finish` makes the stored picture of an answer."""

    def __init__(
        self,
        store: JobStore,
        objects: ObjectStore,
        clock: Clock,
        finish: Finish,
        process: str,
        pause: Pause = asyncio.sleep,
    ) -> None:
        self._store = store
        self._objects = objects
        self._clock = clock
        self._finish = finish
        self._process = process
        self._pause = pause

    async def step(self) -> int:
        """A step: one job from its beginning to its end, in about two seconds."""
        now = self._clock.now()
        jobs = await asyncio.to_thread(
            self._store.take, self._process, 1, now, now + LEASE_MS, DEMO
        )
        for job in jobs:
            await self._run(job)
        return len(jobs)

    async def _run(self, job: Job) -> None:
        drawing = asyncio.create_task(asyncio.to_thread(self._draw, job))
        try:
            is_mine = True
            for phase, percent in _words(job):
                is_mine = is_mine and await self._say(job, phase, percent)
            while is_mine and not drawing.done():
                is_mine = await self._say(job, "deliver", 99)
        finally:
            # A thread can't be stopped; a runner has one at a time.
            outcome = (await asyncio.gather(drawing, return_exceptions=True))[0]
        if is_mine:
            await asyncio.to_thread(self._end, job, outcome)

    async def _say(self, job: Job, phase: str, percent: int | None) -> bool:
        """Whether to go on."""
        is_mine = await asyncio.to_thread(self._report, job, phase, percent)
        if is_mine:
            await self._pause(_PACE_S)
        return is_mine

    def _report(self, job: Job, phase: str, percent: int | None) -> bool:
        now = self._clock.now()
        event = Progressed(phase, percent, lease_until=now + LEASE_MS)
        found = self._store.record(job.id, event, now, self._is_mine(job))
        if found is not None and found.cancel_asked_at is not None:
            self._store.settle(found, Stopped(), now)
            return False
        return found is not None

    def _end(self, job: Job, outcome: Drawn | BaseException) -> None:
        now = self._clock.now()
        if isinstance(outcome, BaseException):
            event = TryFailed(_fault_of(job, outcome))
            self._store.record(job.id, event, now, self._is_mine(job))
            return
        answer = _answer(job, outcome)
        key = job.output_key_for()
        self._objects.put(key, json.dumps(answer).encode())
        arrived = ResultArrived(key, self._process, now + _FINISH_LEASE_MS)
        found = self._store.record(job.id, arrived, now, self._is_mine(job))
        if found is None:
            self._objects.delete(key)
        else:
            self._finish(found, answer)

    def _is_mine(self, job: Job) -> Callable[[Job], bool]:
        return lambda found: found.state is JobState.RUNNING and found.fence == job.fence

    def _draw(self, job: Job) -> Drawn:
        fields = job.input or {}
        if "workflow" in fields or fields.get("fit") == "extend":
            raise _Refused(
                "the demo edits a picture by a prompt; it runs no workflow and extends no picture"
            )
        pictures = job.pictures.get("sent") or job.pictures
        output, mask = fields.get("output", {}), pictures.get("mask")
        return draw(
            self._read(pictures["images"][0]),
            self._read(mask) if mask else None,
            seed=job.seed or 0,
            ratio=job.ratio,
            encoding=output.get("format", "png"),
            quality=output.get("quality", 90),
        )

    def _read(self, entry: dict[str, Any]) -> bytes:
        if "address" in entry:
            raise _Refused("the demo fetches no picture; upload it")
        with self._objects.open(entry["key"]) as file:
            return file.read()


def _words(job: Job) -> Iterator[tuple[str, int | None]]:
    """Phases and percents as a worker has them, which counts nodes and their steps."""
    yield "wait", None
    yield "execute", 10
    steps = _STEPS[(job.input or {}).get("speed") or "fast"]
    for step in range(steps // _WORDS, steps + 1, steps // _WORDS):
        yield "execute", 10 + 80 * step // steps
    yield "deliver", 99


def _fault_of(job: Job, error: BaseException) -> Fault:
    match error:
        case _Refused():
            return Fault("invalid_input", str(error), False)
        case WorkerError():
            return Fault(error.code, error.message, error.retryable)
        case ObjectMissing():
            return Fault(InputGone.code, "a picture of the job is no longer there", False)
        case Unavailable():
            return Fault(error.code, error.message, True)
        case _:
            log.error("the demo failed", job_id=job.id, exc_info=error)
            return Fault("worker_error", f"the demo failed with {type(error).__name__}", True)


def _answer(job: Job, drawn: Drawn) -> dict[str, Any]:
    """As a worker's, so that everything behind it is as with one."""
    encoding = (job.input.get("output") or {}).get("format", "png")
    picture: dict[str, Any] = {
        "filename": f"demo_00001_.{encoding}", "type": "base64",
        "data": base64.b64encode(drawn.data).decode(), "width": drawn.width,
        "height": drawn.height, "bytes": len(drawn.data), "content_type": f"image/{encoding}",
    }  # fmt: skip
    output: dict[str, Any] = {"ok": True, "images": [picture], "seed": job.seed}
    if drawn.changed_outside is not None:
        output["pixels_changed_outside"] = drawn.changed_outside
    return {"output": output}
