"""POST /api/queue/create, and the older callers' addresses that end in it."""

import json
from collections.abc import Collection, Mapping
from typing import Any, BinaryIO

from fastapi import APIRouter, Depends, Header, Request
from pydantic import TypeAdapter
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException

from gateway.api.bodies import json_body, read_json
from gateway.api.context import Context, Ctx, Owner, answer, check_rate, offload
from gateway.edit.request import CreateRequest, parse_form, parse_request
from gateway.errors import BodyTooLarge, InvalidRequest, UnsupportedMediaType
from gateway.job import Job

router = APIRouter(tags=["queue"])

_FILES = ("image", "images", "mask")
_MOST_FILES = 20
_MOST_FIELDS = 64
_MOST_FIELD_BYTES = 4_000_000
_SUBMIT_KEYS = ("prompt", "r2_key", "ratio", "service", "request_id")

_SCHEMA = TypeAdapter(CreateRequest).json_schema(ref_template="#/components/schemas/{model}")
_PARTS = _SCHEMA.pop("$defs", {})


def _inlined(schema: Any) -> Any:
    """With the models of its parts in place of references to them."""
    if isinstance(schema, dict):
        name = str(schema.get("$ref", "")).rpartition("/")[2]
        if name in _PARTS:
            return _inlined(_PARTS[name])
        return {key: _inlined(value) for key, value in schema.items()}
    return [_inlined(value) for value in schema] if isinstance(schema, list) else schema


_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _inlined(_SCHEMA)},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "description": "The same keys as texts; `image` (up to 3) and `mask` as files.",
                    "properties": {
                        "image": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "mask": {"type": "string", "format": "binary"},
                        "prompt": {"type": "string"},
                    },
                }
            },
        },
    }
}
IdempotencyKey = Header(
    None, alias="Idempotency-Key", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
)


@router.post("/api/queue/create", dependencies=[Depends(check_rate)], openapi_extra=_BODY)
async def create(
    request: Request, ctx: Ctx, owner: Owner, idempotency_key: str | None = IdempotencyKey
) -> dict[str, Any]:
    """Accept an edit. It is never lost after the answer; ask `status_url` how far it is."""
    return await _create(request, ctx, owner, idempotency_key)


@router.post("/qwen/image-edit", dependencies=[Depends(check_rate)], openapi_extra=_BODY)
async def image_edit(
    request: Request, ctx: Ctx, owner: Owner, idempotency_key: str | None = IdempotencyKey
) -> dict[str, Any]:
    """For older callers: as /api/queue/create."""
    return await _create(request, ctx, owner, idempotency_key)


@router.post("/submit", dependencies=[Depends(check_rate)])
async def submit(
    request: Request, ctx: Ctx, owner: Owner, idempotency_key: str | None = IdempotencyKey
) -> dict[str, Any]:
    """For older callers: `{prompt, r2_key, ratio, service}`, where `r2_key` is a key of the
    gateway's bucket under `inputs/` or `results/`."""
    body = await read_json(request, ctx)
    if not isinstance(body, Mapping):
        raise InvalidRequest("the body must be a JSON object")
    unknown = [key for key in body if key not in _SUBMIT_KEYS]
    if unknown:
        raise InvalidRequest(
            f"{str(unknown[0])[:100]} is not known; known keys: {', '.join(_SUBMIT_KEYS)}"
        )
    if not isinstance(body.get("r2_key"), str) or not body["r2_key"]:
        raise InvalidRequest("r2_key must be the key of a picture")
    fields = {key: value for key, value in body.items() if key != "r2_key" and value is not None}
    parsed = parse_request({**fields, "images": [{"image": f"bucket:{body['r2_key']}"}]})
    job, is_new = await offload(ctx.creator.create, owner, parsed, request_id=idempotency_key)
    return _accepted(request, ctx, job, is_new)


async def _create(
    request: Request, ctx: Context, owner: str, idempotency_key: str | None
) -> dict[str, Any]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        async with json_body(request, ctx) as body:
            parsed = parse_request(body, ctx.settings.hook_hosts)
            job, is_new = await offload(
                ctx.creator.create, owner, parsed, request_id=idempotency_key
            )
        return _accepted(request, ctx, job, is_new)
    if kind != "multipart/form-data":
        raise UnsupportedMediaType("send application/json or multipart/form-data")
    try:
        async with request.form(
            max_files=_MOST_FILES, max_fields=_MOST_FIELDS, max_part_size=_MOST_FIELD_BYTES
        ) as form:
            parsed, images, mask = _of_form(form, ctx.settings.hook_hosts)
            sizes = [part.size or 0 for part in form.values() if isinstance(part, UploadFile)]
            async with ctx.slots.of(sum(sizes)):
                job, is_new = await offload(
                    ctx.creator.create, owner, parsed, images, mask, idempotency_key
                )
    except MultiPartException as exc:
        if "maximum size" in exc.message:
            raise BodyTooLarge(f"a text field is over {_MOST_FIELD_BYTES} bytes") from exc
        raise InvalidRequest(f"the multipart body is broken: {exc.message}") from exc
    return _accepted(request, ctx, job, is_new)


def _of_form(
    form: FormData, hook_hosts: Collection[str]
) -> tuple[CreateRequest, list[tuple[str, BinaryIO]], BinaryIO | None]:
    """Files and texts may carry pictures; the files come first."""
    fields: dict[str, str] = {}
    files: list[tuple[str, UploadFile]] = []
    named: list[Any] = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            files.append((name, value))
        elif name in {"image", "images"}:
            named += _listed(value)
        elif name in fields:
            raise InvalidRequest(f"{name[:100]} is there twice")
        else:
            fields[name] = value
    images, mask = _sorted_files(files)
    if images or named:
        placed = [{"name": name, "image": "(a file)"} for name, _ in images]
        fields["images"] = json.dumps([*placed, *named])
    if mask is not None:
        if fields.get("mask"):
            raise InvalidRequest("mask is there twice")
        fields["mask"] = "(a file)"
    return parse_form(fields, hook_hosts), images, mask


def _sorted_files(
    files: list[tuple[str, UploadFile]],
) -> tuple[list[tuple[str, BinaryIO]], BinaryIO | None]:
    """A file field that was left empty comes without a name and without a byte."""
    images: list[tuple[str, BinaryIO]] = []
    mask: BinaryIO | None = None
    for name, file in files:
        if name not in _FILES:
            raise InvalidRequest(f"{name[:100]} is no file here; files: image, mask")
        if not file.filename and not file.size:
            continue
        if name != "mask":
            images.append((_name_of(file, len(images)), file.file))
        elif mask is None:
            mask = file.file
        else:
            raise InvalidRequest("mask is there twice")
    return images, mask


def _name_of(file: UploadFile, index: int) -> str:
    """What the browser calls it may be a path, or nothing."""
    name = (file.filename or "").replace("\\", "/").rpartition("/")[2].strip()
    is_plain = name and name not in {".", ".."} and name.isprintable() and len(name) < 200
    return name if is_plain else f"image{index + 1}.png"


def _listed(text: str) -> list[Any]:
    """Of a text field: a picture in any form, or JSON of one or several entries."""
    text = text.strip()
    if text[:1] not in {"[", "{"}:
        return [{"image": text}] if text else []
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise InvalidRequest("images is no JSON") from exc
    return found if isinstance(found, list) else [found]


def _accepted(request: Request, ctx: Context, job: Job, is_new: bool) -> dict[str, Any]:
    if is_new:
        ctx.metrics.created.inc()
    return answer(
        request, job_id=job.id, status=job.state.public, deduplicated=not is_new,
        status_url=ctx.url(f"/api/queue/status/{job.id}"),
        events_url=ctx.url(f"/api/queue/events/{job.id}"),
    )  # fmt: skip
