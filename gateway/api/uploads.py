"""POST /api/uploads: a picture ahead of its job."""

from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import FileResponse, RedirectResponse
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException

from gateway.api.context import Context, Ctx, Owner, answer, check_rate, offload
from gateway.edit.pictures import CONTENT_TYPES, check_file, turned_upright
from gateway.errors import InvalidRequest, NotFound, UnsupportedMediaType
from gateway.job import new_job_id
from gateway.objects import ObjectMissing

router = APIRouter(tags=["queue"])

KEPT_MS = 3_600_000
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"image": {"type": "string", "format": "binary"}},
                    "required": ["image"],
                }
            }
        },
    }
}


@router.post("/api/uploads", dependencies=[Depends(check_rate)], openapi_extra=_BODY)
async def upload(request: Request, ctx: Ctx, owner: Owner) -> dict[str, Any]:
    """Check a picture, turn it upright, and keep it for an hour as `upload:ID`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise UnsupportedMediaType("send multipart/form-data with one picture")
    try:
        async with request.form(max_files=1, max_fields=4) as form:
            files = [value for value in form.values() if isinstance(value, UploadFile)]
            if len(files) != 1:
                raise InvalidRequest("send exactly one picture, as a file")
            async with ctx.slots.of(files[0].size or 0):
                row = await offload(_keep, ctx, owner, files[0])
    except MultiPartException as exc:
        raise InvalidRequest(f"the multipart body is broken: {exc.message}") from exc
    return answer(
        request, upload_id=row["id"], width=row["width"], height=row["height"],
        preview_url=ctx.url(f"/api/uploads/{row['id']}"), expires_at=row["expires_at"],
    )  # fmt: skip


@router.get("/api/uploads/{upload_id}", response_class=Response)
def preview(ctx: Ctx, owner: Owner, upload_id: str) -> Response:
    """The uploaded picture, upright."""
    key = ctx.uploads.key_of(owner, upload_id, ctx.clock.now())
    kind = CONTENT_TYPES[key.rpartition(".")[2]]
    headers = {"Cache-Control": "private, max-age=3600", "X-Content-Type-Options": "nosniff"}
    try:
        if link := ctx.objects.link(key, None):
            return RedirectResponse(link, 307)
        if path := ctx.objects.path(key):
            return FileResponse(path, media_type=kind, headers=headers)
    except ObjectMissing as exc:
        raise NotFound("there is no such upload") from exc
    raise NotFound("there is no such upload")


def _keep(ctx: Context, owner: str, file: UploadFile) -> dict[str, Any]:
    picture = turned_upright(check_file("photo", file.file, "image"))
    now = ctx.clock.now()
    upload_id = new_job_id(now)
    key = f"uploads/{upload_id}/picture.{picture.extension}"
    row = {
        "id": upload_id, "owner": owner, "key": key, "filename": (file.filename or "")[:255],
        "width": picture.width, "height": picture.height, "bytes": len(picture.data),
        "sha256": picture.identity, "created_at": now, "expires_at": now + KEPT_MS,
    }  # fmt: skip
    ctx.objects.put(key, picture.data)
    try:
        ctx.uploads.add(row)
    except BaseException:
        ctx.objects.delete(key)
        raise
    return row
