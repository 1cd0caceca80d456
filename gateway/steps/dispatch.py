"""Jobs to RunPod. SENDING is written before the POST: who finds it later knows that there may have
been one.

RunPod's /run knows no idempotency key. So a job is sent again only where its first request surely
did not count, or where nobody can tell and neither a hook nor the store knows of a run.
"""

import asyncio

from gateway.errors import BackendRejected, InputGone, InputTooLarge, Unavailable
from gateway.job import (
    OWN,
    Claimed,
    Fault,
    Job,
    JobState,
    NotTaken,
    Rerouted,
    Sent,
    Stopped,
    TryFailed,
)
from gateway.objects import ObjectMissing
from gateway.runpod.errors import Rejected, RunPodError, TooBig
from gateway.runpod.tokens import hash_token
from gateway.steps.arrive import Arrivals
from gateway.steps.cloud import Cloud, each
from handler.logs import get_logger

_TOGETHER = 4
_FIRST_LOOK_MS = 500
# Time for a hook to tell the id that a lost answer did not.
_RESCUE_MS = 3_000
_STORE_AGAIN_MS = 5_000
_DAY_AGAIN_MS = 60_000
DAY_LIMIT = "day_limit"
_LARGE_AT_ONCE = 3
_LARGE_BYTES = 1_000_000

log = get_logger()


class Dispatcher:
    def __init__(self, cloud: Cloud, arrivals: Arrivals) -> None:
        self._cloud = cloud
        self._arrivals = arrivals
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)

    async def send(self) -> int:
        """A step: jobs that wait."""
        cloud = self._cloud
        if cloud.sending.is_on():
            return 0
        jobs = await cloud.claim([JobState.QUEUED], _TOGETHER)
        if jobs:
            async with cloud.holding(jobs):
                await each([self._send_first(job) for job in jobs])
        return len(jobs)

    async def rescue(self) -> int:
        """A step: jobs of which nobody knows whether RunPod has them."""
        cloud = self._cloud
        jobs = await cloud.claim([JobState.SENDING], _TOGETHER)
        if jobs:
            async with cloud.holding(jobs):
                await each([self._rescue(job) for job in jobs])
        return len(jobs)

    async def _send_first(self, job: Job) -> None:
        cloud = self._cloud
        now = cloud.clock.now()
        if not await asyncio.to_thread(cloud.rows.count_send, now, cloud.policy.per_day):
            await self._wait_for_tomorrow(job, now)
            return
        sending = await self._claim(job)
        if sending is not None:
            await self._send(sending)

    async def _wait_for_tomorrow(self, job: Job, now: int) -> None:
        cloud = self._cloud
        if cloud.policy.burst_ms is not None:
            await cloud.apply(job, Rerouted(OWN))
            return
        await asyncio.to_thread(
            cloud.store.release, job, now + _DAY_AGAIN_MS, now, waiting_for=DAY_LIMIT
        )

    async def _rescue(self, job: Job) -> None:
        cloud = self._cloud
        if job.remote_id is not None:
            log.info("adopted by its hook", job_id=job.id, remote_id=job.remote_id)
            await cloud.apply(job, Sent(job.remote_id, cloud.clock.now()))
        elif job.cancel_asked_at is not None:
            await cloud.apply(job, Stopped())
        elif await self._arrivals.arrive_from_bucket(job):
            pass
        elif cloud.sending.is_on():
            await cloud.release([(job, cloud.clock.now() + _RESCUE_MS)])
        elif (again := await self._claim(job)) is not None:
            log.warning("sent again, its answer was lost", job_id=job.id)
            await asyncio.to_thread(cloud.rows.count_send, cloud.clock.now(), None)
            await self._send(again)

    async def _claim(self, job: Job) -> Job | None:
        digest = hash_token(self._cloud.tokens.hook(job.id))
        return await self._cloud.apply(job, Claimed(self._cloud.policy.endpoint_id, digest))

    async def _send(self, job: Job) -> None:
        cloud = self._cloud
        try:
            body = await asyncio.to_thread(cloud.submission.body, job, cloud.clock.now())
        except InputTooLarge as exc:
            await self._fail(job, Fault(exc.code, exc.message, False))
        except ObjectMissing:
            message = "a picture of the job is no longer there"
            await self._fail(job, Fault(InputGone.code, message, False))
        except Unavailable as exc:
            log.warning("job not sent", job_id=job.id, code=exc.code, message=exc.message)
            await self._give_back(job, _STORE_AGAIN_MS, exc.code)
        else:
            await self._post(job, body)

    async def _post(self, job: Job, body: bytes) -> None:
        cloud = self._cloud
        assert job.endpoint_id is not None
        try:
            if len(body) > _LARGE_BYTES:
                async with self._large:
                    remote_id = await cloud.client.run(job.endpoint_id, body)
            else:
                remote_id = await cloud.client.run(job.endpoint_id, body)
        except (Rejected, TooBig) as exc:
            cloud.sending.clear()
            await self._fail(job, Fault(BackendRejected.code, exc.message, False))
        except RunPodError as exc:
            wait_ms = cloud.sending.note(exc)
            if exc.not_taken:
                await self._give_back(job, wait_ms, cloud.sending.reason)
            else:
                log.warning("answer lost", job_id=job.id, message=exc.message)
                await cloud.release([(job, cloud.clock.now() + _RESCUE_MS)])
        else:
            cloud.sending.clear()
            await self._sent(job, remote_id)

    async def _sent(self, job: Job, remote_id: str) -> None:
        cloud = self._cloud
        sent = Sent(remote_id, cloud.clock.now() + _FIRST_LOOK_MS)
        if await cloud.apply(job, sent) is not None:
            return
        # Somebody took this process for dead. If they know no better id, this one is the job's.
        if await cloud.record(job.id, sent, lambda found: found.remote_id in {None, remote_id}):
            return
        found = await asyncio.to_thread(cloud.store.get, job.id)
        if found is None or found.remote_id != remote_id:
            await cloud.stop_double(job, remote_id)

    async def _give_back(self, job: Job, wait_ms: int, reason: str | None) -> None:
        cloud = self._cloud
        now = cloud.clock.now()
        waits = await cloud.apply(job, NotTaken(now + wait_ms, reason))
        if waits is not None and cloud.policy.burst_ms is not None:
            # RunPod was to help out, and does not.
            await cloud.apply(waits, Rerouted(OWN))
        await asyncio.to_thread(cloud.rows.take_back_send, now)

    async def _fail(self, job: Job, fault: Fault) -> None:
        log.warning("job not sent", job_id=job.id, code=fault.code, message=fault.message)
        await self._cloud.apply(job, TryFailed(fault))
        await asyncio.to_thread(self._cloud.rows.take_back_send, self._cloud.clock.now())
