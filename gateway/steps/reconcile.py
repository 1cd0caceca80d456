"""What RunPod says of the jobs that it has: asked by polling, sooner after a hook.

Its states may go backwards, its results are gone half an hour after the end, and for seconds after
a submit it does not know the job. So nothing here undoes what was learnt before, and a result is
in the store before the job is called finished.
"""

from collections.abc import Mapping
from typing import Any

from gateway.job import (
    RAW,
    DeadlinePassed,
    Event,
    HolderLost,
    Job,
    JobState,
    Progressed,
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
    Working,
    report_of,
)
from gateway.steps.arrive import Arrivals
from gateway.steps.cloud import Cloud, each

_TOGETHER = 25
# RunPod allows 200 looks a second, and the client keeps under that; the rest is for hints.
_LOOKS_PER_S = 170
_LEAST_MS, _MOST_MS = 500, 5_000
# Fifty looks a second cost little; more are for when there is no other way to be in time.
_CHEAP_LOOKS_PER_S = 50
_INVISIBLE_MS = 60_000
_INVISIBLE_TO_CANCEL_MS = 10_000


class Reconciler:
    def __init__(self, cloud: Cloud, arrivals: Arrivals) -> None:
        self._cloud = cloud
        self._arrivals = arrivals

    async def look(self) -> int:
        """A step: jobs whose status is due."""
        return await self._look_at(hinted=False)

    async def look_at_hinted(self) -> int:
        """A step: those of which a hook has told, past the others, who may be thousands."""
        return await self._look_at(hinted=True)

    async def _look_at(self, hinted: bool) -> int:
        cloud = self._cloud
        if cloud.looking.is_on():
            return 0
        jobs = await cloud.claim([JobState.SENT, JobState.RUNNING], _TOGETHER, hinted)
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
        if (ending := _ending(job, report)) is not None:
            await self._cloud.apply(job, ending)
            return None
        match report:
            case Done(output):
                return await self._arrivals.arrive(job, output)
            case Working(phase, percent):
                return await self._progress(job, phase, percent)
            case _:
                return await self._next_look(job)

    async def _progress(self, job: Job, phase: str | None, percent: int | None) -> int | None:
        look_at = await self._next_look(job)
        if job.state is JobState.RUNNING and (phase, percent) in {
            (None, None), (job.phase, job.percent),
        }:  # fmt: skip
            return look_at
        await self._cloud.apply(job, Progressed(phase, percent, look_at=look_at))
        return None

    async def _take_double(self, job: Job, remote_id: str) -> bool:
        """Another run of the job, which RunPod has because the answer to a submit was lost: the
        first result counts."""
        report = await self._ask(job, remote_id)
        if not isinstance(report, Done) or not _is_of(job, report.output, is_sure=False):
            return False
        await self._arrivals.arrive(job, report.output)
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
        if not await self._arrivals.arrive_from_bucket(job):
            await self._cloud.apply(job, HolderLost("RunPod no longer knows the job"))
        return None

    async def _next_look(self, job: Job) -> int:
        """Sooner where something has just happened, and never more looks than RunPod allows."""
        now, jobs = self._cloud.clock.now(), await self._cloud.open_count()
        since_ms = max(now - job.updated_at, 0)
        wanted_ms = max(_LEAST_MS, since_ms // 5, jobs * 1000 // _CHEAP_LOOKS_PER_S)
        return now + max(min(wanted_ms, _MOST_MS), jobs * 1000 // _LOOKS_PER_S)


def _ending(job: Job, report: Report) -> Event | None:
    """What ends the try without a result."""
    match report:
        case Done(None) if job.kind != RAW:
            return TryFailed(NO_OUTPUT)
        case Done(output) if not _is_of(job, output):
            return HolderLost("RunPod has the answer to another job")
        case Failed(fault):
            return TryFailed(fault)
        case Lost(message):
            return HolderLost(message)
        case Cancelled():
            return Stopped()
        case _:
            return None


def _is_of(job: Job, output: Any, is_sure: bool = True) -> bool:
    """Our worker repeats the job's id; where it does not, as another worker would, it is the job's
    if RunPod's id of it is sure."""
    told = output.get("request_id") if isinstance(output, Mapping) else None
    return is_sure if job.kind == RAW or told is None else told == job.id
