"""What RunPod asks of the gateway: hooks, and pictures too large for its requests."""

import json
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, StreamingResponse

from gateway.api.context import Context, Ctx, answer, offload
from gateway.errors import NotFound
from gateway.objects import ObjectMissing
from gateway.runpod.answers import JOB_ID
from gateway.runpod.tokens import hash_token

router = APIRouter(prefix="/api/runpod", tags=["RunPod"], include_in_schema=False)

_FINAL = frozenset({"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"})
_MOST_BODY_BYTES = 48_000_000
_LONGEST_TOKEN = 4_000
_CHUNK_BYTES = 256 * 1024


@router.post("/webhook/{token}")
async def webhook(request: Request, ctx: Ctx, token: str) -> dict[str, Any]:
    """Look now. The same answer to everybody: a stranger learns nothing."""
    digest = hash_token(token)
    if ctx.cloud is not None and await offload(ctx.store.get_of_hook, digest) is not None:
        await offload(_note, ctx, digest, await _read(request))
    return answer(request)


@router.get("/input/{token}")
def picture(ctx: Ctx, token: str) -> Response:
    """A picture of a job, for who has its signed address."""
    tokens = ctx.cloud.tokens if ctx.cloud is not None else None
    key = tokens.opened(token, ctx.clock.now()) if tokens and len(token) < _LONGEST_TOKEN else None
    if key is None:
        raise NotFound("there is no such picture, or its address is out of date")
    kind = "application/octet-stream"
    try:
        if path := ctx.objects.path(key):
            return FileResponse(path, media_type=kind)
        file = ctx.objects.open(key)
    except ObjectMissing as exc:
        raise NotFound("there is no such picture any more") from exc
    pieces: Iterator[bytes] = iter(lambda: file.read(_CHUNK_BYTES), b"")
    return StreamingResponse(pieces, media_type=kind)


async def _read(request: Request) -> bytes:
    """Nothing of a body that is larger than RunPod's can be."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BODY_BYTES:
            return b""
    return bytes(body)


def _note(ctx: Context, digest: str, body: bytes) -> None:
    """Its id counts where nobody knows the job's, its output where RunPod has forgotten it."""
    assert ctx.cloud is not None
    remote_id, status = _id_and_status(body)
    job_id = ctx.cloud.rows.hear_hook(digest, remote_id, ctx.clock.now())
    job = ctx.store.get(job_id) if job_id is not None else None
    if job is None:
        return
    if remote_id is not None and status in _FINAL:
        if job.remote_id in {None, remote_id}:
            ctx.cloud.inbox.put(remote_id, body)
        elif status == "COMPLETED":
            ctx.cloud.inbox.note_double(job.id, remote_id)
    ctx.wake_steps(job)


def _id_and_status(body: bytes) -> tuple[str | None, Any]:
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(told, dict):
        return None, None
    remote_id = told.get("id")
    is_id = isinstance(remote_id, str) and JOB_ID.fullmatch(remote_id)
    return (remote_id if is_id else None), told.get("status")
