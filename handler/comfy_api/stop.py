"""Gives up a prompt so that nothing of it stays on the GPU; if need be, at the child's cost."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from handler.comfy import Supervisor
from handler.comfy_api.client import ComfyClient
from handler.errors import BackendError

_STOP_POLL_S = 0.1


async def stop_prompt(
    comfy: ComfyClient, supervisor: Supervisor, prompt_id: str, generation: int, grace_s: float,
    *, helper_id: str,
) -> dict[str, Any] | None:  # fmt: skip
    """Stop the prompt and wait until it is gone; its history entry, if it has left one. The prompt
    `helper_id`, if there is one, goes with it.

    A child that does not let go of it within `grace_s` seconds is restarted. One that is busy with
    another's prompt is waited for: that one has a deadline too.
    """
    while not supervisor.is_leaving:
        # Asked before the try: a child that is just free again gets the whole time once more.
        is_busy = bool(supervisor.running - {prompt_id})
        try:
            async with asyncio.timeout(grace_s):
                return await _stop(comfy, prompt_id, helper_id)
        except (TimeoutError, BackendError):
            if generation != supervisor.generation:
                return None
            if not is_busy:
                supervisor.restart("a prompt does not stop")
                return None
        await asyncio.sleep(_STOP_POLL_S)
    return None


async def _stop(comfy: ComfyClient, prompt_id: str, helper_id: str) -> dict[str, Any] | None:
    await drop(comfy, helper_id)
    await drop(comfy, prompt_id)
    entry = await comfy.history(prompt_id)
    await comfy.forget(prompt_id, helper_id)
    return entry


async def drop(comfy: ComfyClient, prompt_id: str) -> None:
    """Out of the queue, however often it is in it; interrupted where it runs. Its history entry
    stays."""
    await comfy.stop_prompt(prompt_id)
    while prompt_id in set().union(*await comfy.queue()):
        await asyncio.sleep(_STOP_POLL_S)
        # Again: ComfyUI forgets an interruption that comes just before it begins
        # (execution.py, execute_async), and takes one of several out at a time.
        await comfy.stop_prompt(prompt_id)


async def to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Await `work` to its end. A cancellation meanwhile is raised after it: a job cancelled twice
    must not leave its prompt behind."""
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is None:
        task.result()
    else:
        await asyncio.gather(task, return_exceptions=True)
        raise cancelled
