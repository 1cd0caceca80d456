"""Bodies of requests: on the disk while they arrive, and few at a time in memory."""

import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import Request

from gateway.api.context import Context, offload
from gateway.api.slots import SMALL_BYTES
from gateway.errors import InvalidRequest, StoreUnavailable


@asynccontextmanager
async def json_body(request: Request, ctx: Context) -> AsyncIterator[Any]:
    """To be left once nothing of a body is in memory any more. Raises InvalidRequest."""
    # A file once it is large: a slow sender holds no memory.
    with tempfile.SpooledTemporaryFile(SMALL_BYTES, dir=str(ctx.objects.temp_dir)) as spool:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > SMALL_BYTES:
                await offload(spool.write, chunk)
            else:
                spool.write(chunk)
        spool.seek(0)
        async with ctx.slots.of(size):
            yield await offload(_parse, spool)


async def read_json(request: Request, ctx: Context) -> Any:
    """Of a body that is small as a rule. Raises InvalidRequest."""
    async with json_body(request, ctx) as body:
        return body


@asynccontextmanager
async def spooled(request: Request, ctx: Context) -> AsyncIterator[Path]:
    """The body as a file among those that become objects; gone afterwards unless it did."""
    try:
        descriptor, name = tempfile.mkstemp(dir=ctx.objects.temp_dir)
    except OSError as exc:
        raise StoreUnavailable(f"the disk fails: {exc.strerror}") from exc
    path = Path(name)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
            pending = bytearray()
            async for chunk in request.stream():
                pending += chunk
                if len(pending) >= SMALL_BYTES:
                    await offload(file.write, bytes(pending))
                    pending.clear()
            file.write(pending)
        async with ctx.slots.of(path.stat().st_size):
            yield path
    finally:
        path.unlink(missing_ok=True)


def _parse(file: Any) -> Any:
    try:
        return json.loads(file.read())
    except RecursionError as exc:
        raise InvalidRequest("the body is nested too deep") from exc
    except ValueError as exc:
        raise InvalidRequest(f"the body is no JSON: {exc}"[:300]) from exc
