"""The worker's own use of the SDK's loop, with a handler that waits for gates; CONCURRENCY jobs."""

import asyncio
import os
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from handler.machine.shutdown import Shutdown
from handler.runpod.serverless import Send, serve

gates: dict[str, asyncio.Event] = defaultdict(asyncio.Event)


async def handler(job: Mapping[str, Any], send: Send | None) -> dict[str, Any]:
    """Opens the gate of its input, or waits for it; may ask for another worker."""
    job_input = job["input"]
    if opens := job_input.get("opens"):
        gates[opens].set()
    if waits := job_input.get("waits"):
        assert send is not None
        await send({"waits": waits})
        await gates[waits].wait()
    return {"ok": True, "refresh_worker": True} if job_input.get("refresh") else {"ok": True}


async def stop_jobs() -> None:
    """Nothing is left to wait for: the tests end the worker when it is idle."""


serve(handler, concurrency=int(os.environ["CONCURRENCY"]), shutdown=Shutdown(), stop_jobs=stop_jobs)
