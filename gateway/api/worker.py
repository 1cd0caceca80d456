"""RunPod's worker protocol for own GPUs (as runpod 1.12.0 speaks it): job-take, job-done, job-stop,
ping. Polls are held for at most `HELD_S`, since a worker ends only once its polls do."""

import hmac
from collections.abc import AsyncIterator, Iterator
from itertools import chain
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from gateway.api.bell import QUEUE, stop_topic
from gateway.api.bodies import spooled
from gateway.api.context import Context, Ctx, get_context, offload
from gateway.api.guard import bearer
from gateway.edit.worker_input import worker_job
from gateway.errors import InputGone, Unauthorized, Unavailable
from gateway.job import Fault, Job, TryFailed
from gateway.objects import ObjectMissing
from gateway.own import Arrived
from handler.logs import get_logger

HELD_S = 8.0
_MOST_BATCH = 16

_Given = list[tuple[Job, Iterator[bytes]]]
_LONGEST_ID = 200

log = get_logger()


def check_worker_key(request: Request) -> None:
    """The SDK sends the bare key. Raises Unauthorized."""
    key = bearer(request.headers.get("authorization"))
    wanted = get_context(request).worker_key
    if key is None or not hmac.compare_digest(key.encode(), wanted.encode()):
        raise Unauthorized("this is for workers that know GATEWAY_WORKER_KEY")


def worker_of(worker: str) -> str:
    return worker[:_LONGEST_ID]


router = APIRouter(
    prefix="/v2/own", dependencies=[Depends(check_worker_key)], include_in_schema=False
)
Worker = Annotated[str, Depends(worker_of)]


@router.get("/job-take/{worker}")
async def take(
    request: Request, ctx: Ctx, worker: Worker, gpu: str | None = None, job_in_progress: str = "0"
) -> Response:
    jobs = await _take(request, ctx, worker, 1, gpu, job_in_progress)
    return _given(ctx, jobs, jobs[0][1]) if jobs else Response(status_code=204)


@router.get("/job-take-batch/{worker}")
async def take_batch(
    request: Request,
    ctx: Ctx,
    worker: Worker,
    gpu: str | None = None,
    job_in_progress: str = "0",
    batch_size: int = 1,
) -> Response:
    most = max(1, min(batch_size, _MOST_BATCH))
    jobs = await _take(request, ctx, worker, most, gpu, job_in_progress)
    if not jobs:
        return Response(status_code=204)
    parts: list[Iterator[bytes]] = [iter([b"["])]
    for index, (_, pieces) in enumerate(jobs):
        parts += [iter([b", "])] * bool(index) + [pieces]
    return _given(ctx, jobs, chain(*parts, [b"]"]))


@router.post("/job-done/{worker}/{job_id}")
async def done(request: Request, ctx: Ctx, worker: Worker, job_id: str) -> Response:
    await offload(ctx.own.seen, worker)
    await offload(ctx.own.touch, worker, job_id)
    async with spooled(request, ctx) as body:
        arrived = await offload(ctx.own.done, worker, job_id, body)
    if arrived is not None:
        ctx.background.add(_finish(ctx, arrived))
    return JSONResponse({})


@router.get("/job-stop/{worker}")
async def stop(request: Request, ctx: Ctx, worker: Worker) -> Response:
    deadline = ctx.clock.monotonic() + HELD_S
    with ctx.bell.listen(stop_topic(worker)) as rung:
        while True:
            if await request.is_disconnected():
                return Response(status_code=204)
            if jobs := await offload(ctx.own.stops, worker):
                return JSONResponse({"jobsToStop": jobs})
            left = deadline - ctx.clock.monotonic()
            if left <= 0 or ctx.bell.is_closed:
                return Response(status_code=204)
            await ctx.bell.wait(rung, min(left, 0.5))


@router.get("/ping/{worker}")
def ping(ctx: Ctx, worker: Worker, job_id: str = "", gpu: str | None = None) -> dict[str, Any]:
    ctx.own.seen(worker, gpu)
    ctx.own.ping(worker, [one for one in job_id.split(",") if one][:_MOST_BATCH])
    return {}


async def _take(
    request: Request, ctx: Context, worker: str, most: int, gpu: str | None, job_in_progress: str
) -> _Given:
    """A worker that has a job in hand waits behind those that have none."""
    await offload(ctx.own.seen, worker, gpu)
    deadline = ctx.clock.monotonic() + HELD_S
    is_idle = job_in_progress != "1"
    with ctx.bell.listen(QUEUE) as rung, ctx.pollers.waiting(worker, is_idle):
        while True:
            # A job that is given to a closed connection is lost for as long as a lease.
            if await request.is_disconnected():
                return []
            others = ctx.pollers.idle_others(worker)
            if is_idle or not others:
                jobs = await offload(ctx.own.take, worker, 1 if others else most)
                if given := await offload(_readable, ctx, jobs):
                    return given
            left = deadline - ctx.clock.monotonic()
            if left <= 0 or ctx.bell.is_closed:
                return []
            await ctx.bell.wait(rung, min(left, 0.5))


def _readable(ctx: Context, jobs: list[Job]) -> _Given:
    """Each with its pieces; one whose pictures are gone fails instead, one whose pictures can't be
    read now goes back into the queue."""
    found = []
    for job in jobs:
        try:
            found.append((job, worker_job(job, ctx.objects, delivery="base64")))
        except Unavailable as exc:
            log.warning("job not given", job_id=job.id, code=exc.code, message=exc.message)
            ctx.own.take_back(job)
        except ObjectMissing:
            log.error("a picture of the job is gone", job_id=job.id)
            fault = Fault(InputGone.code, "a picture of the job is no longer there", False)
            ctx.store.record(job.id, TryFailed(fault), ctx.clock.now())
    return found


def _given(ctx: Context, jobs: _Given, pieces: Iterator[bytes]) -> Response:
    return StreamingResponse(_in_threads(ctx, jobs, pieces), media_type="application/json")


async def _in_threads(ctx: Context, jobs: _Given, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Small pieces together: one write for a job whose pictures are small. A worker that does not
    get all of them has got no job."""
    try:
        while piece := await offload(_next_piece, pieces):
            yield piece
    except BaseException:
        for job, _ in jobs:
            ctx.background.add(offload(ctx.own.take_back, job))
        raise


def _next_piece(pieces: Iterator[bytes], most: int = 512 * 1024) -> bytes:
    found = bytearray()
    for piece in pieces:
        found += piece
        if len(found) >= most:
            break
    return bytes(found)


async def _finish(ctx: Context, arrived: Arrived) -> None:
    await offload(ctx.finisher.finish, arrived.job, arrived.answer)
