"""What the steps of jobs at RunPod share: their parts, claims that are kept alive, trouble."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.clock import Clock
from gateway.job import RUNPOD, Event, Job, JobState
from gateway.objects import ObjectStore
from gateway.runpod.client import RunPodClient
from gateway.runpod.errors import (
    Forbidden,
    KeyRefused,
    NotFound,
    RateLimited,
    RunPodError,
)
from gateway.runpod.inbox import Inbox
from gateway.runpod.tokens import Tokens
from gateway.steps.finish import Finisher
from gateway.steps.submission import Submission
from gateway.store.cloud import CloudRows
from gateway.store.jobs import JobStore
from handler.logs import get_logger

_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0
_MOST_DOUBLINGS = 8
_COUNT_AGAIN_S = 2.0

KEY_REFUSED, NO_ENDPOINT, THROTTLED, UNREACHABLE = (
    "key_refused", "no_endpoint", "throttled", "unreachable",
)  # fmt: skip

log = get_logger()


@dataclass(frozen=True, slots=True)
class CloudPolicy:
    """`process` names this one as a holder; times in milliseconds. `per_day` bounds the jobs sent
    in a day; `burst_ms` is None where jobs for own GPUs never go to RunPod."""

    endpoint_id: str
    process: str
    lease_ms: int
    per_day: int | None = None
    burst_ms: int | None = None


@dataclass(slots=True)
class Trouble:
    """Why RunPod takes nothing, and until when it is left alone; one call tries again then."""

    clock: Clock
    jitter: Callable[[], float] = random.random
    reason: str | None = None
    _failures: int = 0
    _until: float = 0.0

    def is_on(self) -> bool:
        return self.clock.monotonic() < self._until

    def note(self, error: RunPodError) -> int:
        """For how many milliseconds to leave RunPod alone."""
        wait_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * (1 << min(self._failures, _MOST_DOUBLINGS)))
        if not self.is_on():
            self._failures += 1
        wait_s *= 0.5 + self.jitter() / 2
        if isinstance(error, RateLimited) and error.retry_after_s is not None:
            wait_s = max(error.retry_after_s, 0.1)
        self.reason = reason_of(error)
        self._until = max(self._until, self.clock.monotonic() + wait_s)
        return int(wait_s * 1000)

    def clear(self) -> None:
        self.reason, self._failures, self._until = None, 0, 0.0


def reason_of(error: RunPodError) -> str:
    match error:
        case KeyRefused() | Forbidden():
            return KEY_REFUSED
        case NotFound():
            return NO_ENDPOINT
        case RateLimited():
            return THROTTLED
        case _:
            return UNREACHABLE


@dataclass(kw_only=True)
class Cloud:
    client: RunPodClient
    store: JobStore
    rows: CloudRows
    objects: ObjectStore
    clock: Clock
    finisher: Finisher
    submission: Submission
    tokens: Tokens
    inbox: Inbox
    policy: CloudPolicy
    sending: Trouble
    looking: Trouble
    on_double: Callable[[], None] = lambda: None
    _counted: tuple[float, int] = field(default=(-1e9, 0), repr=False)

    async def claim(
        self, states: Collection[JobState], most: int, hinted: bool = False
    ) -> list[Job]:
        """`hinted`: only those of which a hook, or a cancel, has told."""
        return await asyncio.to_thread(self._claim, states, most, hinted)

    def _claim(self, states: Collection[JobState], most: int, hinted: bool) -> list[Job]:
        now = self.clock.now()
        if not self.rows.is_due(states, now, hinted):
            return []
        return self.store.claim(
            states, now=now, by=self.policy.process, lease_until=now + self.policy.lease_ms,
            most=most, backend=RUNPOD, hinted=hinted,
        )  # fmt: skip

    async def apply(self, job: Job, event: Event) -> Job | None:
        """None when the claim is no longer held, or the event means nothing for the job."""
        return await asyncio.to_thread(self.store.settle, job, event, self.clock.now())

    async def record(self, job_id: str, event: Event, if_: Callable[[Job], bool]) -> Job | None:
        return await asyncio.to_thread(self.store.record, job_id, event, self.clock.now(), if_)

    async def release(self, items: Sequence[tuple[Job, int]]) -> None:
        """Gives claims back, each looked at again at its time."""
        await asyncio.to_thread(self.rows.release_all, items, self.clock.now())

    @contextlib.asynccontextmanager
    async def holding(self, jobs: Sequence[Job]) -> AsyncIterator[None]:
        """Their claims are renewed, so that a slow answer of RunPod's does not look like the death
        of who waits for it."""
        keeper = asyncio.create_task(self._keep(jobs))
        try:
            yield
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)

    async def _keep(self, jobs: Sequence[Job]) -> None:
        while True:
            await asyncio.sleep(self.policy.lease_ms / 3000)
            until = self.clock.now() + self.policy.lease_ms
            await asyncio.to_thread(self.rows.renew, jobs, until)

    async def stop_double(self, job: Job, remote_id: str) -> None:
        """A run of the job that does not count."""
        self.on_double()
        log.warning("double stopped", job_id=job.id, remote_id=remote_id)
        try:
            assert job.endpoint_id is not None
            await self.client.cancel(job.endpoint_id, remote_id)
        except RunPodError as exc:
            log.warning("double not stopped", remote_id=remote_id, message=exc.message)

    async def open_count(self) -> int:
        """Jobs whose status is asked for; up to two seconds old."""
        at, count = self._counted
        if self.clock.monotonic() - at > _COUNT_AGAIN_S:
            count = await asyncio.to_thread(self.rows.open_count)
            self._counted = (self.clock.monotonic(), count)
        return count


async def each(work: Sequence[Any]) -> list[Any]:
    """All results; a fault of one lets the others end before it is raised."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results
