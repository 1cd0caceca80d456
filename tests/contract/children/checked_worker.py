"""handler.serverless in RunPod's real SDK, with checks and a handler of its own, without ComfyUI.

FAILING_CHECK is the error that the second of three checks raises; empty, all of them pass. A file
`closed` tells that the worker has cleaned up, `third` that the check after it was run.
"""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from handler.errors import UploadFailed
from handler.logs import configure, make_scrubber
from handler.machine.shutdown import Shutdown
from handler.runpod.fitness import Check
from handler.runpod.serverless import Send, register_fitness_checks, serve

SECRET = "secret-that-must-not-show"
ERRORS: dict[str, Exception] = {
    "foreseen": UploadFailed(f"could not reach bucket 'b' with {SECRET}", key=SECRET),
    "unforeseen": ValueError(SECRET),
}


async def first() -> None:
    await asyncio.sleep(0)


async def second() -> None:
    if error := ERRORS.get(os.environ["FAILING_CHECK"]):
        raise error


async def third() -> None:
    Path("third").touch()


async def handler(_job: Mapping[str, Any], _send: Send | None = None) -> dict[str, Any]:
    return {"done": True}


async def stop_jobs() -> None:
    pass


configure("INFO", [SECRET])
checks: tuple[Check, ...] = (first, second, third)
register_fitness_checks(checks, close=lambda: Path("closed").touch(), scrub=make_scrubber([SECRET]))
serve(handler, concurrency=2, shutdown=Shutdown(), stop_jobs=stop_jobs)
