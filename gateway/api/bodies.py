"""Bodies of requests: on the disk while they arrive, and few at a time in memory."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect

from gateway.api.context import Context, offload
from gateway.errors import InvalidRequest, StoreUnavailable

_MEMORY_BYTES = 1_000_000
# JSON is whole in memory while it is read, several times over.
_small_slots = asyncio.Semaphore(8)
_large_slots = asyncio.Semaphore(1)


async def read_json(request: Request, ctx: Context) -> Any:
    """Raises InvalidRequest."""
    # A file once it is large: a slow sender holds no memory.
    with tempfile.SpooledTemporaryFile(_MEMORY_BYTES, dir=str(ctx.objects.temp_dir)) as spool:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > _MEMORY_BYTES:
                await offload(spool.write, chunk)
            else:
                spool.write(chunk)
        spool.seek(0)
        async with _large_slots if size > _MEMORY_BYTES else _small_slots:
            return await offload(_parse, spool)


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
                if len(pending) >= _MEMORY_BYTES:
                    await offload(file.write, bytes(pending))
                    pending.clear()
            file.write(pending)
        yield path
    except ClientDisconnect as exc:
        raise InvalidRequest("the body broke off") from exc
    finally:
        path.unlink(missing_ok=True)


def _parse(file: Any) -> Any:
    try:
        return json.loads(file.read())
    except RecursionError as exc:
        raise InvalidRequest("the body is nested too deep") from exc
    except ValueError as exc:
        raise InvalidRequest(f"the body is no JSON: {exc}"[:300]) from exc
