"""RunPod's client API, for jobs that go to own GPUs (`/v2/own`) and to RunPod (`/v2/runpod`): code
written for RunPod runs here unchanged, and what it sends there is lost no more."""

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request

from gateway.api.bodies import json_body
from gateway.api.context import Context, Ctx, Owner, check_rate, offload
from gateway.api.queue import owned_job
from gateway.api.status import result_url
from gateway.edit.request import check_hook_address
from gateway.errors import BackendKeyRefused, BackendUnavailable, InvalidRequest, NotFound
from gateway.job import RAW, RUNPOD, Job, JobState
from gateway.objects import ObjectMissing
from gateway.runpod.errors import KeyRefused, RunPodError


def backend_of(ctx: Ctx, backend: Literal["own", "runpod"]) -> str:
    """Raises NotFound where RunPod is not set."""
    if backend == RUNPOD and ctx.cloud is None:
        raise NotFound("RUNPOD_API_KEY and RUNPOD_ENDPOINT_ID are not set")
    return backend


router = APIRouter(prefix="/v2/{backend}", tags=["as RunPod"])
Backend = Annotated[str, Depends(backend_of)]

_SYNC_S = 90.0
_STATES = {
    JobState.QUEUED: "IN_QUEUE",
    JobState.SENDING: "IN_QUEUE",
    JobState.SENT: "IN_QUEUE",
    JobState.RUNNING: "IN_PROGRESS",
    JobState.FINISHING: "IN_PROGRESS",
    JobState.SUCCEEDED: "COMPLETED",
    JobState.FAILED: "FAILED",
    JobState.CANCELLED: "CANCELLED",
}


@router.post("/run", dependencies=[Depends(check_rate)])
async def run(request: Request, ctx: Ctx, owner: Owner, backend: Backend) -> dict[str, Any]:
    """Queue `{"input": {...}}`, which the worker gets as it is."""
    job = await _submit(request, ctx, owner, backend)
    return {"id": job.id, "status": _STATES[job.state]}


@router.post("/runsync", dependencies=[Depends(check_rate)])
async def runsync(
    request: Request, ctx: Ctx, owner: Owner, backend: Backend, wait: int | None = None
) -> Any:
    """As /run, and wait up to `wait` ms for the end."""
    job = await _submit(request, ctx, owner, backend)
    left_s = min(max((wait or 0) / 1000, 1.0), 300.0) if wait else _SYNC_S
    deadline = ctx.clock.monotonic() + left_s
    with ctx.bell.listen(job.id) as rung:
        while not job.state.is_final and not ctx.bell.is_closed:
            left = deadline - ctx.clock.monotonic()
            if left <= 0:
                break
            await ctx.bell.wait(rung, min(left, 0.5))
            job = await offload(owned_job, ctx, owner, job.id)
    return await offload(_status, ctx, job)


@router.get("/status/{job_id}")
def status(ctx: Ctx, owner: Owner, backend: Backend, job_id: str) -> dict[str, Any]:
    """As long as results are kept, which is longer than at RunPod."""
    return _status(ctx, owned_job(ctx, owner, job_id))


@router.post("/cancel/{job_id}")
def cancel(ctx: Ctx, owner: Owner, backend: Backend, job_id: str) -> dict[str, Any]:
    """One that runs is stopped soon; one that has ended stays as it is."""
    job = owned_job(ctx, owner, job_id)
    ctx.store.cancel(job.id, ctx.clock.now())
    return {"id": job.id, "status": _STATES[job.state] if job.state.is_final else "CANCELLED"}


@router.get("/stream/{job_id}")
def stream(ctx: Ctx, owner: Owner, backend: Backend, job_id: str) -> dict[str, Any]:
    """Its state; the worker sends no parts of a picture."""
    job = owned_job(ctx, owner, job_id)
    return {"id": job.id, "status": _STATES[job.state], "stream": []}


@router.post("/retry/{job_id}")
def retry(ctx: Ctx, owner: Owner, backend: Backend, job_id: str) -> dict[str, Any]:
    """A failed job once more. RunPod keeps its id; here the first end stays, so it is a new job."""
    job = owned_job(ctx, owner, job_id)
    if job.state is not JobState.FAILED or job.kind != RAW or job.input_key is None:
        raise InvalidRequest("only a failed job of /run can be tried again")
    with ctx.objects.open(job.input_key) as file:
        again = ctx.creator.create_raw(owner, json.load(file), backend, job.webhook_url)
    return {"id": again.id, "status": "IN_QUEUE"}


@router.get("/health")
async def health(ctx: Ctx, _owner: Owner, backend: Backend) -> dict[str, Any]:
    """Jobs as the gateway counts them; workers as they ask it, or as RunPod says."""
    counts, ended = await offload(ctx.reads.counts), await offload(ctx.reads.ended, backend)

    def open_in(*states: JobState) -> int:
        return sum(counts.get((state, backend), 0) for state in states)

    running = open_in(JobState.RUNNING, JobState.FINISHING)
    jobs = {
        "completed": ended.get(JobState.SUCCEEDED, 0),
        "failed": ended.get(JobState.FAILED, 0),
        "inProgress": running,
        "inQueue": open_in(JobState.QUEUED, JobState.SENDING, JobState.SENT),
        "retried": 0,
    }
    if backend == RUNPOD:
        return {"jobs": jobs, "workers": await _workers_at_runpod(ctx)}
    workers = len(await offload(ctx.workers_in_touch))
    return {
        "jobs": jobs,
        "workers": {
            "idle": max(0, workers - running), "running": min(workers, running),
            "initializing": 0, "ready": workers, "throttled": 0, "unhealthy": 0,
        },
    }  # fmt: skip


async def _workers_at_runpod(ctx: Context) -> Any:
    """Raises BackendKeyRefused and BackendUnavailable."""
    assert ctx.cloud is not None
    try:
        told = await ctx.cloud.client.health(ctx.cloud.policy.endpoint_id)
    except KeyRefused as exc:
        raise BackendKeyRefused("RunPod refuses the gateway's key") from exc
    except RunPodError as exc:
        raise BackendUnavailable(exc.message) from exc
    return told.get("workers", {})


@router.post("/purge-queue")
def purge(ctx: Ctx, owner: Owner, backend: Backend) -> dict[str, Any]:
    """Cancels the owner's jobs that wait."""
    waiting = ctx.reads.waiting_of(owner, backend)
    now = ctx.clock.now()
    removed = [job_id for job_id in waiting if ctx.store.cancel_waiting(job_id, now) is not None]
    return {"removed": len(removed), "status": "completed"}


async def _submit(request: Request, ctx: Context, owner: str, backend: str) -> Job:
    async with json_body(request, ctx) as body:
        if not isinstance(body, dict) or not isinstance(body.get("input"), dict):
            raise InvalidRequest('the body must be {"input": {...}}')
        webhook = body.get("webhook")
        if webhook is not None:
            webhook = check_hook_address(webhook, ctx.settings.hook_hosts)
        return await offload(ctx.creator.create_raw, owner, body["input"], backend, webhook)


def _status(ctx: Context, job: Job) -> dict[str, Any]:
    if job.deleted_at is not None:
        raise NotFound("the job was deleted, or has expired")
    found: dict[str, Any] = {"id": job.id, "status": _STATES[job.state]}
    if job.started_at is not None:
        found["delayTime"] = job.started_at - job.created_at
        if job.finished_at is not None:
            found["executionTime"] = job.finished_at - job.started_at
    if job.state is JobState.FAILED:
        found["error"] = f"{job.error_code}: {job.error_message}"
    if job.state is JobState.RUNNING and job.phase is not None:
        found["output"] = {"phase": job.phase, "percent": job.percent}
    if job.state is JobState.SUCCEEDED:
        found |= _output(ctx, job)
    return found


def _output(ctx: Context, job: Job) -> dict[str, Any]:
    if job.kind == RAW and job.output_key is not None:
        try:
            with ctx.objects.open(job.output_key) as file:
                answer = json.load(file)
        except ObjectMissing as exc:
            raise NotFound("the job's answer is no longer there") from exc
        return {"output": answer["output"]} if "output" in answer else {}
    return {"output": {"image_url": result_url(ctx, job.result_key), "seed": job.seed}}
