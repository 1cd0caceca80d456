"""Why jobs wait that are RunPod's, and which of those for own GPUs become so."""

import asyncio
from collections.abc import Mapping
from typing import Any

from gateway.job import JobState
from gateway.runpod.errors import RateLimited, RunPodError
from gateway.steps.cloud import Cloud, reason_of

COLD_START, NO_WORKERS, NO_CAPACITY, UNHEALTHY = (
    "cold_start", "no_workers", "no_capacity", "unhealthy_workers",
)  # fmt: skip
# A job that is taken at once is not worth a word.
_PATIENCE_MS = 3_000
# A worker that RunPod means to start shows up sooner.
_NOBODY_MS = 20_000
_MOST = 100


class Watcher:
    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    async def explain(self) -> int:
        """A step: gives jobs that wait their reason."""
        cloud, now = self._cloud, self._cloud.clock.now()
        noted = 0
        if cloud.sending.is_on():
            noted = await self._note(JobState.QUEUED, cloud.sending.reason, now)
        oldest = await asyncio.to_thread(cloud.rows.waits_since, [JobState.SENT])
        if oldest is None or now - oldest < _PATIENCE_MS:
            return noted
        return noted + await self._note(JobState.SENT, await self._reason(now - oldest), now)

    def overflow(self) -> int:
        """A step: what has waited too long for an own GPU goes to RunPod, while that takes jobs."""
        cloud, now = self._cloud, self._cloud.clock.now()
        if cloud.policy.burst_ms is None or cloud.sending.is_on():
            return 0
        return len(cloud.store.overflow(now, now - cloud.policy.burst_ms, _MOST))

    async def _note(self, state: JobState, reason: str | None, now: int) -> int:
        before = now - _PATIENCE_MS
        return await asyncio.to_thread(self._cloud.rows.note_waiting, [state], reason, before, now)

    async def _reason(self, waited_ms: int) -> str | None:
        try:
            health = await self._cloud.client.health(self._cloud.policy.endpoint_id)
        except RateLimited:
            return None
        except RunPodError as exc:
            return reason_of(exc)
        return reason_of_health(health, waited_ms)


def reason_of_health(health: Mapping[str, Any], waited_ms: int) -> str | None:
    """None where workers run: then it is the others in the queue. Any count may be missing."""
    told = health.get("workers")
    workers = {
        name: count
        for name, count in (told.items() if isinstance(told, Mapping) else ())
        if isinstance(count, int) and count > 0
    }
    if workers.keys() & {"running", "idle", "ready"}:
        return None
    if "initializing" in workers:
        return COLD_START
    if "throttled" in workers:
        return NO_CAPACITY
    if "unhealthy" in workers:
        return UNHEALTHY
    # RunPod sets the most workers to 0 after a week without requests, and its health says no more.
    return NO_WORKERS if waited_ms >= _NOBODY_MS else COLD_START
