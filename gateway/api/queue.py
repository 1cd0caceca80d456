"""What becomes of a job: status, events, cancel, result, deletion."""

import json
import re
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.responses import FileResponse, RedirectResponse, StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from gateway.api.context import Context, Ctx, Owner, answer, offload
from gateway.api.status import status_of
from gateway.edit.as_jpeg import as_jpeg
from gateway.errors import JobIsOpen, NotFound, ResultGone
from gateway.job import Job
from gateway.objects import ObjectMissing
from gateway.objects.attachment import attachment
from gateway.steps.sweep import delete_job

router = APIRouter(tags=["queue"])

_CHUNK_BYTES = 256 * 1024
_CACHE = "private, max-age=31536000, immutable"
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def owned_job(ctx: Context, owner: str, job_id: str) -> Job:
    """Another's job is as good as none. Raises NotFound."""
    job = ctx.store.get(job_id) if _ID.fullmatch(job_id) else None
    if job is None or job.owner != owner:
        raise NotFound(f"there is no job {job_id[:100]!r}")
    return job


def _found(ctx: Ctx, owner: Owner, job_id: str) -> Job:
    """Before the stream begins: afterwards it is too late for an error."""
    return owned_job(ctx, owner, job_id)


@router.get("/api/queue/status/{job_id}")
def status(request: Request, ctx: Ctx, owner: Owner, job_id: str) -> dict[str, Any]:
    """How far the job is; `ok` also for one that failed."""
    return answer(request, **status_of(ctx, owned_job(ctx, owner, job_id)))


@router.post("/api/queue/cancel/{job_id}")
def cancel(request: Request, ctx: Ctx, owner: Owner, job_id: str) -> dict[str, Any]:
    """Stop the job wherever it is. One that has ended stays as it is."""
    job = owned_job(ctx, owner, job_id)
    job = ctx.store.cancel(job_id, ctx.clock.now()) or ctx.store.get(job_id) or job
    return answer(request, **status_of(ctx, job))


@router.delete("/api/queue/{job_id}")
def delete(request: Request, ctx: Ctx, owner: Owner, job_id: str) -> dict[str, Any]:
    """Remove the job's pictures and texts for good."""
    job = owned_job(ctx, owner, job_id)
    if not job.state.is_final:
        job = ctx.store.cancel(job_id, ctx.clock.now()) or ctx.store.get(job_id) or job
    if not job.state.is_final:
        raise JobIsOpen("the job is being stopped; delete it once it has ended")
    delete_job(ctx.store, ctx.objects, job, ctx.settings.gateway_result_prefix, ctx.clock.now())
    return answer(request, job_id=job.id, status=job.state.public, deleted=True)


@router.get("/api/queue/events/{job_id}", response_class=EventSourceResponse)
async def events(
    request: Request,
    ctx: Ctx,
    job: Annotated[Job, Depends(_found)],
    last_event_id: Annotated[str | None, Header()] = None,
) -> AsyncIterator[ServerSentEvent]:
    """The job's changes as server-sent events, each with the whole status; ends with the last."""
    seq = int(last_event_id) if last_event_id and last_event_id.isdecimal() else 0
    with ctx.bell.listen(job.id) as rung:
        while True:
            for event in await offload(_news, ctx, request, job, seq):
                yield event
            seq = max(seq, job.seq)
            if job.state.is_final or ctx.bell.is_closed:
                return
            job = await _changed(ctx, rung, job)


async def _changed(ctx: Context, rung: Any, job: Job) -> Job:
    """The job, once it has changed; as it was when the process is to end."""
    while not ctx.bell.is_closed:
        rang = await ctx.bell.wait(rung)
        latest = await offload(ctx.store.get, job.id) if rang else await _poll(ctx, job)
        if latest is not None and latest.seq != job.seq:
            return latest
    return job


async def _poll(ctx: Context, job: Job) -> Job | None:
    """Another process may have changed it."""
    found = await offload(ctx.reads.sequence_numbers, [job.id])
    return await offload(ctx.store.get, job.id) if found.get(job.id) != job.seq else None


def _news(ctx: Context, request: Request, job: Job, seq: int) -> list[ServerSentEvent]:
    """The states that were passed since, and how it stands."""
    if job.seq <= seq:
        # A number of the future is no number of ours.
        if job.seq == seq:
            return []
        seq = 0
    current = answer(request, **status_of(ctx, job))
    passed = [event for event in ctx.reads.events_after(job.id, seq) if event[0] < job.seq]
    before = [
        _event(number, {**_while_open(current), "status": state.public, "updated_at": at})
        for number, at, state in passed
        if not state.is_final
    ]
    return [*before, _event(job.seq, current)]


def _while_open(current: dict[str, Any]) -> dict[str, Any]:
    """Without what was not known before the end."""
    unknown = dict.fromkeys(
        ("finished_at", "result_key", "result_url", "imageUrl", "width", "height", "sha256",
         "pixels_changed_outside", "error", "timings", "percent", "phase")
    )  # fmt: skip
    return current | unknown | {"results": []}


def _event(seq: int, status: dict[str, Any]) -> ServerSentEvent:
    return ServerSentEvent(id=str(seq), raw_data=json.dumps(status, ensure_ascii=False))


@router.head("/api/result/{key:path}", response_class=Response, include_in_schema=False)
@router.get("/api/result/{key:path}", response_class=Response)
def result(
    request: Request,
    ctx: Ctx,
    owner: Owner,
    key: str,
    download: str | None = None,
    format: Literal["jpeg"] | None = None,
) -> Response:
    """The picture itself, or a redirect to it where the bucket serves it. `download` names the
    file; with `format` jpeg it is encoded anew, with its colour profile, and no longer exact."""
    entry = _result_entry(ctx, owner, key)
    etag = f'"{entry["sha256"]}{format or ""}"'
    headers = {"ETag": etag, "Cache-Control": _CACHE, "X-Content-Type-Options": "nosniff"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if download:
        headers["Content-Disposition"] = attachment(download)
    try:
        if format:
            with ctx.objects.open(key) as stored:
                return Response(as_jpeg(stored), headers=headers, media_type="image/jpeg")
        if link := ctx.objects.link(key, download):
            return RedirectResponse(link, 307, {"Cache-Control": "private, max-age=600"})
        kind = entry["content_type"]
        if path := ctx.objects.path(key):
            return FileResponse(path, headers=headers, media_type=kind)
        file = ctx.objects.open(key)
    except ObjectMissing as exc:
        raise ResultGone("the picture is no longer there") from exc
    pieces = iter(lambda: file.read(_CHUNK_BYTES), b"")
    return StreamingResponse(pieces, headers=headers, media_type=kind)


def _result_entry(ctx: Context, owner: str, key: str) -> dict[str, Any]:
    """What the job says of the picture. Raises NotFound and ResultGone."""
    prefix = ctx.settings.gateway_result_prefix
    job = owned_job(ctx, owner, key.removeprefix(prefix).partition("/")[0])
    entry = next((one for one in job.results or () if one["key"] == key), None)
    if entry is None:
        if job.deleted_at is not None:
            raise ResultGone("the picture was deleted")
        raise NotFound("there is no such picture")
    return dict(entry)
