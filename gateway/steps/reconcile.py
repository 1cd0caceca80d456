"""What RunPod says of the jobs that it has: asked by polling, sooner after a hook.

Its states may go backwards, its results are gone half an hour after the end, and for seconds after
a submit it does not know the job. So nothing here undoes what was learnt before, and a result is
in the store before the job is called finished.
"""

import asyncio
import json
import uuid
from typing import Any

from gateway.errors import Unavailable
from gateway.job import (
    RAW,
    DeadlinePassed,
    HolderLost,
    Job,
    JobState,
    Progressed,
    ResultArrived,
    Stopped,
    TryFailed,
)
from gateway.runpod.errors import NotFound, RunPodError
from gateway.runpod.report import (
    NO_OUTPUT,
    Cancelled,
    Done,
    Failed,
    Lost,
    Report,
    Waiting,
    Working,
    report_of,
)
from gateway.steps.cloud import Cloud, each
from handler.logs import get_logger

_TOGETHER = 50
_FINISH_LEASE_MS = 60_000
_FINISHED_AT_ONCE = 3
_STORE_AGAIN_MS = 5_000
# RunPod allows 200 looks a second; some are for jobs that hooks have told of.
_LOOKS_PER_S = 180
_LEAST_MS, _MOST_MS = 1_000, 5_000
_INVISIBLE_MS = 60_000
_INVISIBLE_TO_CANCEL_MS = 10_000

log = get_logger()


class Reconciler:
    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._finishing = asyncio.Semaphore(_FINISHED_AT_ONCE)

    async def look(self) -> int:
        """A step: jobs whose status is due."""
        cloud = self._cloud
        if cloud.looking.is_on():
            return 0
        jobs = await cloud.claim([JobState.SENT, JobState.RUNNING], _TOGETHER)
        if jobs:
            async with cloud.holding(jobs):
                again = await each([self._look(job) for job in jobs])
                await cloud.release(
                    [(job, at) for job, at in zip(jobs, again, strict=True) if at is not None]
                )
        return len(jobs)

    async def _look(self, job: Job) -> int | None:
        """When to look again at a job that has not changed; None for one that has."""
        cloud, now = self._cloud, self._cloud.clock.now()
        is_late = (
            job.state is JobState.SENT and job.deadline_at is not None and job.deadline_at <= now
        )
        try:
            if job.cancel_asked_at is not None or is_late:
                return await self._stop(job, now)
            for remote_id in cloud.inbox.take_doubles(job.id):
                if await self._take_double(job, remote_id):
                    return None
            report = await self._ask(job)
        except NotFound:
            return await self._unknown(job, now)
        except RunPodError as exc:
            return now + cloud.looking.note(exc)
        cloud.looking.clear()
        return await self._follow(job, report)

    async def _ask(self, job: Job, remote_id: str | None = None) -> Report:
        remote_id = remote_id or job.remote_id
        assert job.endpoint_id is not None
        assert remote_id is not None
        return report_of(await self._cloud.client.status(job.endpoint_id, remote_id))

    async def _follow(self, job: Job, report: Report) -> int | None:
        cloud = self._cloud
        match report:
            case Waiting():
                return await self._next_look(job)
            case Working(phase, percent):
                return await self._progress(job, phase, percent)
            case Done(None) if job.kind != RAW:
                await cloud.apply(job, TryFailed(NO_OUTPUT))
            case Done(output):
                return await self._arrive(job, output)
            case Failed(fault):
                await cloud.apply(job, TryFailed(fault))
            case Lost(message):
                await cloud.apply(job, HolderLost(message))
            case Cancelled():
                await cloud.apply(job, Stopped())
        return None

    async def _progress(self, job: Job, phase: str | None, percent: int | None) -> int | None:
        look_at = await self._next_look(job)
        if job.state is JobState.RUNNING and (phase, percent) in {
            (None, None), (job.phase, job.percent),
        }:  # fmt: skip
            return look_at
        await self._cloud.apply(job, Progressed(phase, percent, look_at=look_at))
        return None

    async def _arrive(self, job: Job, output: Any) -> int | None:
        cloud = self._cloud
        key, answer = f"outputs/{job.id}/{uuid.uuid4().hex}.json", {"output": output}
        async with self._finishing:
            try:
                await asyncio.to_thread(self._put, key, answer)
            except Unavailable as exc:
                log.warning("result not stored", job_id=job.id, code=exc.code, message=exc.message)
                return cloud.clock.now() + _STORE_AGAIN_MS
            until = cloud.clock.now() + _FINISH_LEASE_MS
            arrived = await cloud.apply(job, ResultArrived(key, cloud.policy.process, until))
            if arrived is None:
                await asyncio.to_thread(cloud.objects.delete, key)
                return None
            await asyncio.to_thread(cloud.finisher.finish, arrived, answer)
        return None

    def _put(self, key: str, answer: Any) -> None:
        data = json.dumps(answer, ensure_ascii=False).encode("utf-8", "surrogatepass")
        self._cloud.objects.put(key, data)

    async def _take_double(self, job: Job, remote_id: str) -> bool:
        """Another run of the job, which RunPod has because the answer to a submit was lost: the
        first result counts."""
        report = await self._ask(job, remote_id)
        if not isinstance(report, Done) or report.output is None:
            return False
        await self._arrive(job, report.output)
        assert job.remote_id is not None
        await self._cloud.stop_double(job, job.remote_id)
        return True

    async def _stop(self, job: Job, now: int) -> int | None:
        cloud = self._cloud
        assert job.endpoint_id is not None
        assert job.remote_id is not None
        try:
            answer = await cloud.client.cancel(job.endpoint_id, job.remote_id)
        except NotFound:
            # It may be too young to be seen, and run nevertheless.
            if now - job.updated_at < _INVISIBLE_TO_CANCEL_MS:
                return now + _LEAST_MS
            answer = {}
        if job.cancel_asked_at is not None:
            await cloud.apply(job, Stopped())
        elif answer.get("status") == "COMPLETED":
            return await self._follow(job, await self._ask(job))
        else:
            await cloud.apply(job, DeadlinePassed())
        return None

    async def _unknown(self, job: Job, now: int) -> int | None:
        """RunPod does not know the job: not yet, or no more."""
        assert job.remote_id is not None
        if (body := self._cloud.inbox.take(job.remote_id)) is not None:
            return await self._follow(job, report_of(body))
        if now - job.updated_at < _INVISIBLE_MS:
            return await self._next_look(job)
        await self._cloud.apply(job, HolderLost("RunPod no longer knows the job"))
        return None

    async def _next_look(self, job: Job) -> int:
        now = self._cloud.clock.now()
        share_ms = await self._cloud.open_count() * 1000 // _LOOKS_PER_S
        since_ms = now - job.updated_at
        return now + max(share_ms, min(max(since_ms // 5, _LEAST_MS), _MOST_MS))
