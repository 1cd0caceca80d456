"""A real RunPod worker without ComfyUI; what the handler does is chosen by the job's input.

ECHO_MODE makes it another kind of worker: `stream`, `aggregate` (generator handlers), `refresh`
(ends after one job) or `unhealthy` (a fitness check fails).
"""

import asyncio
import os
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import runpod

gates: dict[str, asyncio.Event] = defaultdict(asyncio.Event)


async def misbehave(job: dict[str, Any]) -> Any:
    """Raises the input's message, or without one returns what is no JSON."""
    if message := job["input"].get("message"):
        raise ValueError(message)
    return object()


async def sleep(job: dict[str, Any]) -> str:
    """Sleeps; the update tells the test that the handler runs, which job-take does not."""
    runpod.serverless.progress_update(job, "sleeping")
    await asyncio.sleep(job["input"]["seconds"])
    return "slept"


async def wait(job: dict[str, Any]) -> str:
    """Waits for a gate; when cancelled, opens a gate that says so to another job."""
    runpod.serverless.progress_update(job, "waiting")
    try:
        await gates[job["input"]["gate"]].wait()
    except asyncio.CancelledError:
        gates[f"cancelled {job['id']}"].set()
        raise
    return "waited"


async def handler(job: dict[str, Any]) -> Any:
    """Does what `job["input"]["do"]` names."""
    match job["input"]["do"]:
        case "return":
            return job["input"]["value"]
        case "open":
            return gates[job["input"]["gate"]].set()
        case "sleep":
            return await sleep(job)
        case "wait":
            return await wait(job)
        case "misbehave":
            return await misbehave(job)
    return job


async def stream(job: dict[str, Any]) -> AsyncIterator[Any]:
    """Yields the input's items."""
    for item in job["input"]:
        yield item


def unhealthy() -> None:
    """Fails, as a fitness check."""
    raise RuntimeError("no such device")


mode = os.environ.get("ECHO_MODE", "")
if mode == "unhealthy":
    runpod.serverless.register_fitness_check(unhealthy)
runpod.serverless.start(
    {
        "handler": stream if mode in ("stream", "aggregate") else handler,
        "return_aggregate_stream": mode == "aggregate",
        "refresh_worker": mode == "refresh",
        "concurrency_modifier": lambda _current: 2,
    }
)
